"""Requests without an event loop, for one-shot commands: http.client, kept connection, streams as plain iterators.

Importing this module loads neither asyncio nor http.client; the latter comes with the first request. One thread uses
one instance. Requests that may be repeated safely are sent again once when a kept connection turns out to be dead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from componentbase.http import Headers, Request
from kubeclient.config import ClusterAccess
from kubeclient.transport import TransportError

if TYPE_CHECKING:
    import http.client

READ_BYTES = 1 << 16
REPEATABLE = ("GET", "HEAD")


@dataclass(slots=True)
class BlockingResponse:
    """An answer. `body` is an iterator of chunks, as they come, if the request asked for a stream."""

    status: int
    headers: Headers
    body: bytes | Iterator[bytes]

    def read(self) -> bytes:
        """The whole body."""
        if not isinstance(self.body, bytes):
            self.body = b"".join(self.body)
        return self.body


class BlockingTransport:
    """One API server over HTTP/1.1, one request at a time."""

    def __init__(self, access: ClusterAccess, *, user_agent: str = "pyctl", timeout_seconds: float = 60.0) -> None:
        self._access = access
        self._user_agent = user_agent
        self._timeout_seconds = timeout_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._prefix = ""

    def request(self, request: Request) -> BlockingResponse:
        """Send and wait for the answer, whatever its status. Raises TransportError.

        The body must be bytes; upgrades are not for this transport (ValueError).
        """
        if request.wants_upgrade or not isinstance(request.body, bytes):
            raise ValueError(f"{request.method} {request.path}: only whole bodies and no upgrades here")
        kept = self._connection is not None
        try:
            try:
                answer = self._send(request)
            except (ConnectionError, _http_client().RemoteDisconnected, _http_client().CannotSendRequest):
                if not kept or request.method not in REPEATABLE:
                    raise
                self.close()
                answer = self._send(request)
            headers = Headers(answer.getheaders())
            if request.stream:
                return BlockingResponse(answer.status, headers, self._chunks(request, answer))
            return BlockingResponse(answer.status, headers, answer.read())
        except (OSError, _http_client().HTTPException) as error:
            self.close()
            raise self._broken(request, error) from error

    def close(self) -> None:
        """Drop the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> BlockingTransport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: Request) -> http.client.HTTPResponse:
        headers = {"user-agent": self._user_agent, "accept": "application/json", **request.headers}
        if self._access.token:
            headers["authorization"] = f"Bearer {self._access.token}"
        if self._connection is None:
            self._connection = self._open()
        # A stream may be silent for as long as it likes; connecting and single answers may not.
        if self._connection.sock is None:
            self._connection.connect()
        self._connection.sock.settimeout(None if request.stream else self._timeout_seconds)
        body = request.body if isinstance(request.body, bytes) and request.body else None
        self._connection.request(request.method, self._prefix + request.target, body=body, headers=headers)
        return self._connection.getresponse()

    def _open(self) -> http.client.HTTPConnection:
        from urllib.parse import urlsplit

        address = urlsplit(self._access.server)
        host = address.hostname or ""
        self._prefix = address.path
        context = self._access.ssl_context()
        connection: http.client.HTTPConnection
        if context is None:
            connection = _http_client().HTTPConnection(host, address.port or 80, timeout=self._timeout_seconds)
            return connection
        if self._access.server_name:
            raise TransportError(f"tls-server-name {self._access.server_name!r} is not supported here")
        port = address.port or 443
        connection = _http_client().HTTPSConnection(host, port, timeout=self._timeout_seconds, context=context)
        return connection

    def _chunks(self, request: Request, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while chunk := answer.read1(READ_BYTES):
                yield chunk
        except (OSError, _http_client().HTTPException) as error:
            raise self._broken(request, error) from error
        finally:
            if not answer.isclosed():
                self.close()  # a stream left in the middle spoils its connection

    def _broken(self, request: Request, error: BaseException) -> TransportError:
        reason = str(error) or type(error).__name__
        return TransportError(f"{request.method} {self._access.server}{request.path}: {reason}")


def _http_client() -> Any:
    import http.client

    return http.client
