"""Reaches node agents: one TLS connection a request, whether it ends in an answer, a stream or a tunnel.

The server shows its own client certificate and trusts the cluster's authority. An agent is known by its address, which
its certificate carries. Requests are few and long (logs, exec, images), so connections are not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator

from componentbase.http import Headers, Request, Response

from .handlers.streams import OwningStream

CONNECT_SECONDS = 10.0
HEAD_LIMIT_BYTES = 1 << 16
READ_BYTES = 1 << 16


class TlsNodeConnector:
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    async def forward(self, host: str, port: int, request: Request) -> Response:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=self._context, limit=HEAD_LIMIT_BYTES)
        connection = _Connection(reader, writer)
        try:
            await _send(connection, f"{host}:{port}", request)
            status, headers = _parse_head(await reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            connection.close()
            raise ConnectionError(f"no HTTP answer from {host}:{port}: {error}") from error
        except BaseException:
            connection.close()
            raise
        if status == 101:
            return Response(status, headers, connection=connection)
        return Response(status, headers, OwningStream(_body(reader, connection, headers), connection.close))

    async def close(self) -> None:
        """Nothing is kept between requests."""


class NoNodes:
    """For a server without certificates for its nodes (in one process, or alone)."""

    async def forward(self, host: str, port: int, request: Request) -> Response:
        raise ConnectionError("this API server was not given a certificate for node agents")

    async def close(self) -> None:
        """Nothing to close."""


class _Connection:
    """The stream pair as a Duplex."""

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
            raise ConnectionResetError("the agent's connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def write_eof(self) -> None:
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


async def _send(connection: _Connection, host: str, request: Request) -> None:
    headers = {"host": host, **request.headers}
    if not request.wants_upgrade:
        headers["connection"] = "close"
    if isinstance(request.body, bytes):
        if request.body or request.method not in ("GET", "HEAD"):
            headers["content-length"] = str(len(request.body))
    else:
        headers["transfer-encoding"] = "chunked"
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    await connection.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    if isinstance(request.body, bytes):
        if request.body:
            await connection.write(request.body)
        return
    async for chunk in request.body:
        if chunk:
            await connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    await connection.write(b"0\r\n\r\n")


def _parse_head(head: bytes) -> tuple[int, Headers]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError(f"not an HTTP/1 answer: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    return int(rest[:3]), Headers((name.strip(), value.strip()) for name, _, value in pairs)


async def _body(reader: asyncio.StreamReader, connection: _Connection, headers: Headers) -> AsyncGenerator[bytes, None]:
    """The answer's body as it comes: by its length, by chunks, or to the end of the stream."""
    try:
        if "chunked" in headers.tokens("transfer-encoding"):
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
        elif "content-length" in headers:
            remaining = int(headers["content-length"])
            while remaining and (data := await reader.read(min(READ_BYTES, remaining))):
                remaining -= len(data)
                yield data
        else:
            while data := await connection.read():
                yield data
    except asyncio.IncompleteReadError:
        return
    finally:
        connection.close()
