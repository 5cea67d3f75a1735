"""Requests over HTTP(S): aiohttp with kept connections, and our own connection for upgrades.

aiohttp's client cannot hand over the raw connection after a 101, so a request that asks for an upgrade opens one of
its own, writes the head by hand and returns the stream. Client certificates, the bearer token and the trusted
authority come from the `ClusterAccess`. Time-outs run on the loop's clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from componentbase.http import Headers, Request, Response
from kubeclient.config import ClusterAccess
from kubeclient.transport import TransportError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
HEAD_LIMIT_BYTES = 1 << 16
READ_BYTES = 1 << 16


class HttpTransport:
    """One API server over HTTP/1.1. Connections are opened on demand and kept; `close` drops them."""

    def __init__(
        self, access: ClusterAccess, *, user_agent: str = "pyctl", answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._access = access
        self._user_agent = user_agent
        self._answer_seconds = answer_seconds
        self._ssl = access.ssl_context()
        self._session: aiohttp.ClientSession | None = None

    async def request(self, request: Request) -> Response:
        headers = self._headers(request)
        if request.wants_upgrade:
            return await self._upgrade(request, headers)
        # A stream may take as long as it likes: of one that comes only the head has to be in time, and an answer to one
        # that goes (an image) cannot be expected before its end.
        uploads = not isinstance(request.body, bytes)
        limit = None if uploads else self._answer_seconds
        timeout = aiohttp.ClientTimeout(total=None if request.stream else limit, sock_connect=CONNECT_SECONDS)
        try:
            async with asyncio.timeout(limit):
                answer = await self._open().request(
                    request.method,
                    URL(self._access.server + request.target, encoded=True),
                    headers=headers,
                    data=request.body or None,
                    timeout=timeout,
                    allow_redirects=False,
                    ssl=self._ssl if self._ssl is not None else True,
                    server_hostname=self._access.server_name or None,
                )
            if request.stream:
                return Response(answer.status, Headers(answer.headers.items()), _chunks(answer))
            async with answer:
                return Response(answer.status, Headers(answer.headers.items()), await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _broken(f"{request.method} {self._access.server}{request.path}", error) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The limit is on in-flight requests to one server; watches count, and must not starve writes.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0), skip_auto_headers=("Content-Type",)
            )
        return self._session

    def _headers(self, request: Request) -> dict[str, str]:
        # Most servers are on this machine or the next: packing and unpacking would cost more than it saves.
        own = {"user-agent": self._user_agent, "accept": "application/json", "accept-encoding": "identity"}
        headers = own | request.headers
        if self._access.token:
            headers["authorization"] = f"Bearer {self._access.token}"
        return headers

    async def _upgrade(self, request: Request, headers: dict[str, str]) -> Response:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._upgrade_on_own_connection(request, headers)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise _broken(f"{request.method} {self._access.server}{request.path}", error) from error

    async def _upgrade_on_own_connection(self, request: Request, headers: dict[str, str]) -> Response:
        address = urlsplit(self._access.server)
        host = address.hostname or ""
        reader, writer = await asyncio.open_connection(
            host,
            address.port or (443 if self._ssl else 80),
            ssl=self._ssl,
            server_hostname=(self._access.server_name or host) if self._ssl else None,
            limit=HEAD_LIMIT_BYTES,
        )
        connection = StreamDuplex(reader, writer)
        handed_over = False
        try:
            body = request.body if isinstance(request.body, bytes) else b""
            fields = {"host": address.netloc, **headers}
            if body:
                fields["content-length"] = str(len(body))
            lines = [f"{request.method} {address.path}{request.target} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in fields.items()]
            await connection.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
            status, answered = _parse_head(await reader.readuntil(b"\r\n\r\n"))
            if status != 101:
                return Response(status, answered, await _refusal(reader, answered))
            handed_over = True
            return Response(status, answered, connection=connection)
        finally:
            if not handed_over:
                connection.close()


class StreamDuplex:
    """An asyncio stream pair as a Duplex."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(READ_BYTES)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _broken(f"{answer.method} {answer.url}", error) from error
    finally:
        # Not `release`: that would wait for the rest of a stream nobody wants.
        answer.close()


def _parse_head(head: bytes) -> tuple[int, Headers]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise ValueError(f"not an HTTP/1 response: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(parts[1]), Headers((name.strip(), value.strip()) for name, _, value in pairs)


async def _refusal(reader: asyncio.StreamReader, headers: Headers) -> bytes:
    """The body of an answer that was no upgrade, by its length, its chunks or to the end of the stream."""
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    if "chunked" not in headers.tokens("transfer-encoding"):
        return await reader.read()
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    return b"".join(parts)


def _broken(what: str, error: BaseException) -> TransportError:
    reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return TransportError(f"{what}: {reason}")
