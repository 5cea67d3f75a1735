"""HTTP/1.1 from the client's side, one connection a request: what upgrades and long streams need.

A connection that becomes a tunnel cannot go back to a pool, and aiohttp's client cannot hand one over. Whoever connects
owns the connection until the body has ended or, after a 101, until the `Duplex` is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator

from componentbase.http import Headers, Request

HEAD_LIMIT_BYTES = 1 << 16
READ_BYTES = 1 << 16


class BadAnswer(ConnectionError):
    """The peer does not speak HTTP/1.1, or broke off in the middle."""


class Connection:
    """A `Duplex` over an asyncio stream pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls, host: str, port: int, context: ssl.SSLContext | None = None, *, server_name: str = ""
    ) -> Connection:
        """Connect; with a context over TLS, to a server that proves to be `server_name` (default: `host`)."""
        name = (server_name or host) if context is not None else None
        return cls(
            *await asyncio.open_connection(host, port, ssl=context, server_hostname=name, limit=HEAD_LIMIT_BYTES)
        )

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

    async def send(self, request: Request, host: str, *, prefix: str = "") -> None:
        """Write the request, its body by length or in chunks. host: the Host field; prefix: put before the target."""
        headers = {"host": host, **request.headers}
        if not request.wants_upgrade:
            headers["connection"] = "close"
        whole = isinstance(request.body, bytes)
        if not whole:
            headers["transfer-encoding"] = "chunked"
        elif request.body or request.method not in ("GET", "HEAD"):
            headers["content-length"] = str(len(request.body))  # type: ignore[arg-type]
        lines = [f"{request.method} {prefix}{request.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if isinstance(request.body, bytes):
            await self.write(head + request.body)
            return
        await self.write(head)
        async for chunk in request.body:
            if chunk:
                await self.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await self.write(b"0\r\n\r\n")

    async def head(self) -> tuple[int, Headers]:
        """Status and fields of the answer. Raises BadAnswer."""
        try:
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise BadAnswer(f"no HTTP answer: {error}") from error
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise BadAnswer(f"not an HTTP/1 answer: {first[:80]!r}")
        pairs = (line.partition(":") for line in lines)
        return int(rest[:3]), Headers((name.strip(), value.strip()) for name, _, value in pairs)

    async def body(self, headers: Headers) -> AsyncGenerator[bytes, None]:
        """The answer's body as it comes: by chunks, by its length, or to the end of the stream; closes at its end.

        Raises BadAnswer when it breaks off before what was announced, so that half an answer never looks whole.
        """
        try:
            if "chunked" in headers.tokens("transfer-encoding"):
                while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield await self._reader.readexactly(size)
                    await self._reader.readexactly(2)
            elif "content-length" in headers:
                remaining = int(headers["content-length"])
                while remaining:
                    data = await self._reader.read(min(READ_BYTES, remaining))
                    if not data:
                        raise BadAnswer(f"the answer broke off {remaining} bytes before its end")
                    remaining -= len(data)
                    yield data
            else:
                while data := await self.read():
                    yield data
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise BadAnswer(f"the answer broke off: {error}") from error
        finally:
            self.close()
