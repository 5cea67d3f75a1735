"""Upgrades (exec, attach): one connection for each, its head written by hand, and the raw stream handed over after a
101.

aiohttp's client cannot hand over a connection, and is not needed here: a command that only upgrades starts without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

from componentbase.http import Headers, Request, Response
from kubeclient.config import ClusterAccess
from kubeclient.transport import TransportError

ANSWER_SECONDS = 60.0
HEAD_LIMIT_BYTES = 1 << 16
READ_BYTES = 1 << 16


class UpgradeTransport:
    """A transport for requests that ask for an upgrade, and for no others (ValueError)."""

    def __init__(
        self,
        access: ClusterAccess,
        *,
        user_agent: str = "pyctl",
        answer_seconds: float = ANSWER_SECONDS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._access = access
        self._user_agent = user_agent
        self._answer_seconds = answer_seconds
        self._ssl = context or access.ssl_context()

    async def request(self, request: Request) -> Response:
        """The answer; with status 101 the caller owns its connection. Raises TransportError."""
        if not request.wants_upgrade:
            raise ValueError(f"{request.method} {request.path}: asks for no upgrade")
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._upgrade(request, request_headers(self._access, self._user_agent, request))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise broken(f"{request.method} {self._access.server}{request.path}", error) from error

    async def close(self) -> None:
        """Nothing is kept: the connections belong to who asked for them."""

    async def _upgrade(self, request: Request, headers: dict[str, str]) -> Response:
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


def request_headers(access: ClusterAccess, user_agent: str, request: Request) -> dict[str, str]:
    """What goes over the wire: the request's own fields, and ours where it says nothing."""
    # Most servers are on this machine or the next: packing and unpacking would cost more than it saves.
    own = {"user-agent": user_agent, "accept": "application/json", "accept-encoding": "identity"}
    headers = own | request.headers
    if access.token:
        headers["authorization"] = f"Bearer {access.token}"
    return headers


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


def broken(what: str, error: BaseException) -> TransportError:
    """The same trouble in the words of a transport."""
    reason = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return TransportError(f"{what}: {reason}")
