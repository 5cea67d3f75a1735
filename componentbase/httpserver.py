"""The one place where HTTP/1.1 meets sockets: aiohttp requests in, `componentbase.http` requests to a handler.

Owns the listening socket and its connections. A GET whose client goes away is cancelled; a request that may write is
not. Streamed bodies are sent chunk by chunk with the socket's back-pressure. A `Response` with a `tunnel` gets the raw
connection after its 101 head. What a handler raises unexpectedly is logged and answered 500; handlers translate their
own errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http
import logging
import os
import socket
import ssl
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from componentbase.http import Handler, Headers, Query, Request, Response, Tunnel, User

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 3 * 1024 * 1024
READ_LIMIT_BYTES = 1 << 18


class PortTaken(OSError):
    """Somebody else listens on the address."""


class BodyTooLarge(Exception):
    """The request body is above the server's limit."""


class HttpServer:
    """Serves `handler` on `host`:`port` (0 chooses a free one, see `.port`) or on a Unix socket at `unix_path`.

    streams(method, path): True where the request body is handed to the handler as an iterator instead of whole bytes;
    others are read up to `max_body` bytes and answered 413 beyond. `on_too_large` builds that answer.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        unix_path: str = "",
        max_body: int = MAX_BODY_BYTES,
        streams: Callable[[str, str], bool] = lambda method, path: False,
        on_too_large: Callable[[int], Response] | None = None,
    ) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._ssl = ssl_context
        self._unix_path = unix_path
        self._max_body = max_body
        self._streams = streams
        self._on_too_large = on_too_large or _too_large
        self._users: weakref.WeakKeyDictionary[Any, User | None] = weakref.WeakKeyDictionary()
        # Writes whose clients have left before the answer.
        self._leaving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._web: web.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before `start` and for Unix sockets."""
        if self._server is None or self._unix_path:
            return 0
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises PortTaken naming the address when it is in use."""
        loop = asyncio.get_running_loop()
        self._web = web.Server(
            self._serve, handler_cancellation=True, access_log=None, keepalive_timeout=3600.0, lingering_time=1.0
        )
        if self._unix_path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._unix_path)
            self._server = await loop.create_unix_server(self._web, self._unix_path, backlog=1024)
            return
        try:
            self._server = await loop.create_server(
                self._web, self._host, self._port, ssl=self._ssl, backlog=1024, family=socket.AF_UNSPEC
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(error.errno, f"port {self._port} on {self._host} is already in use") from error
            raise

    async def stop(self, grace_seconds: float = 2.0) -> None:
        """Stop listening, give requests `grace_seconds` to end, then close their connections."""
        if self._server is not None:
            self._server.close()
        if self._web is not None:
            await self._web.shutdown(grace_seconds)

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        request = Request(
            method=raw.method,
            path=raw.rel_url.path,
            query=Query(raw.rel_url.query.items()),
            headers=Headers(raw.headers.items()),
            user=self._user(raw),
        )
        try:
            request.body = await self._body(raw, request)
            if request.method == "GET":
                response = await self._handler(request)
            else:
                # A write that has begun is finished, whether its client waits for the answer or not.
                response = await self._finished(asyncio.create_task(self._answer(request)))
        except BodyTooLarge:
            response = self._on_too_large(self._max_body)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = Response(500, Headers({"content-type": "text/plain"}), b"internal error\n")
        if response.tunnel is not None:
            return await _hand_over(raw, response, response.tunnel)
        if isinstance(response.body, bytes):
            answer = web.Response(status=response.status, headers=response.headers, body=response.body)
            answer.headers.setdefault("Content-Type", "text/plain")
            return answer
        return await _stream(raw, response, response.body)

    async def _answer(self, request: Request) -> Response:
        return await self._handler(request)

    async def _finished(self, writing: asyncio.Task[Response]) -> Response:
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            leaving = asyncio.create_task(_let_go(writing), name="answer without a client")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            raise

    async def _body(self, raw: web.BaseRequest, request: Request) -> bytes | AsyncIterator[bytes]:
        if not raw.body_exists:
            return b""
        if self._streams(request.method, request.path):
            return raw.content.iter_any()
        if raw.content_length is not None and raw.content_length > self._max_body:
            raise BodyTooLarge
        parts, size = [], 0
        async for chunk in raw.content.iter_any():
            size += len(chunk)
            if size > self._max_body:
                raise BodyTooLarge
            parts.append(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _user(self, raw: web.BaseRequest) -> User | None:
        """The client certificate's subject, looked up once a connection."""
        ssl_object = raw.transport.get_extra_info("ssl_object") if raw.transport is not None else None
        if ssl_object is None:
            return None
        if ssl_object not in self._users:
            self._users[ssl_object] = user_of_certificate(ssl_object.getpeercert())
        return self._users[ssl_object]


def user_of_certificate(certificate: dict[str, Any] | None) -> User | None:
    """Common name and organizations of a verified certificate, as `ssl.getpeercert` tells them; None without one."""
    fields = [field for relative in (certificate or {}).get("subject", ()) for field in relative]
    name = next((value for key, value in fields if key == "commonName"), "")
    return User(name, tuple(value for key, value in fields if key == "organizationName")) if name else None


def _too_large(limit: int) -> Response:
    text = f"request body is larger than {limit} bytes\n"
    return Response(413, Headers({"content-type": "text/plain"}), text.encode())


async def _let_go(writing: asyncio.Task[Response]) -> None:
    """Wait for an answer that nobody takes any more, and close what it owns."""
    try:
        response = await writing
    except Exception:
        log.exception("a request failed whose client had left")
        return
    await response.aclose()


async def _stream(raw: web.BaseRequest, response: Response, body: AsyncIterator[bytes]) -> web.StreamResponse:
    answer = web.StreamResponse(status=response.status, headers=response.headers)
    try:
        await answer.prepare(raw)
        async for chunk in body:
            await answer.write(chunk)
        await answer.write_eof()
    except ConnectionError as error:
        # Of the client or of whatever the body comes from. Ending the body properly would call half an answer whole.
        log.debug("%s %s broke off: %s", raw.method, raw.path, error)
        if raw.transport is not None:
            raw.transport.abort()
    except Exception:
        log.exception("%s %s broke off", raw.method, raw.path)
        if raw.transport is not None:
            raw.transport.abort()
    finally:
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    return answer


class _Incoming:
    """Takes the place of aiohttp's parser on an upgraded connection: a bounded buffer of raw chunks."""

    def __init__(self, protocol: RequestHandler) -> None:
        self._protocol = protocol
        self.chunks: deque[bytes] = deque()
        self.size_bytes = 0
        self.ended = False
        self.changed = asyncio.Event()
        self._paused = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.chunks.append(bytes(data))
        self.size_bytes += len(data)
        self.changed.set()
        if self.size_bytes > READ_LIMIT_BYTES and not self._paused and self._protocol.transport is not None:
            self._paused = True
            self._protocol.transport.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True
        self.changed.set()

    def set_exception(self, exception: BaseException) -> None:
        self.feed_eof()

    def take(self) -> bytes:
        data = b"".join(self.chunks)
        self.chunks.clear()
        self.size_bytes = 0
        if self._paused and self._protocol.transport is not None:
            self._paused = False
            self._protocol.transport.resume_reading()
        return data


class _ServerDuplex:
    """The raw connection of an upgraded request."""

    def __init__(self, raw: web.BaseRequest) -> None:
        assert raw.transport is not None
        self._protocol = raw.protocol
        self._transport: asyncio.Transport = raw.transport
        self._incoming = _Incoming(raw.protocol)
        self._protocol.set_parser(self._incoming)  # type: ignore[arg-type]
        self._closed = False

    async def read(self) -> bytes:
        while not self._incoming.chunks:
            if self._incoming.ended or self._closed:
                return b""
            self._incoming.changed.clear()
            await self._incoming.changed.wait()
        return self._incoming.take()

    async def write(self, data: bytes) -> None:
        if self._closed or self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        await self._protocol._drain_helper()

    async def write_eof(self) -> None:
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._incoming.feed_eof()
            self._transport.close()


async def _hand_over(raw: web.BaseRequest, response: Response, tunnel: Tunnel) -> web.StreamResponse:
    head = [f"HTTP/1.1 {response.status} {http.HTTPStatus(response.status).phrase}"]
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    duplex = _ServerDuplex(raw)
    try:
        await duplex.write(("\r\n".join(head) + "\r\n\r\n").encode())
        await tunnel(duplex)
    except ConnectionError:
        log.debug("%s %s: the client went away", raw.method, raw.path)
    except Exception:
        log.exception("%s %s: the tunnel failed", raw.method, raw.path)
    finally:
        duplex.close()
    return _Spent()


class _Spent(web.StreamResponse):
    """The answer that went out by hand: aiohttp has nothing left to send and closes the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None
