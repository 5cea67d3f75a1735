"""One `Request` in, one `Response` out: what handlers and transports share, without a socket in sight.

Handlers are plain async functions of a `Request`. The server adapter (`componentbase.httpserver`) and the transports of
`kubeclient` translate these to and from the wire, so that the same handler also runs in the same process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, quote, urlencode

if TYPE_CHECKING:
    import asyncio

Body = bytes | AsyncIterator[bytes]


class Headers(dict[str, str]):
    """Header fields by lower-case name; several fields of one name are joined by ", "."""

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        for name, value in fields.items() if isinstance(fields, Mapping) else fields:
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Append a field; an earlier one of the same name is kept in front."""
        key = name.lower()
        self[key] = f"{self[key]}, {value}" if key in self else value

    def tokens(self, name: str) -> list[str]:
        """The comma-separated, lower-case values of a field."""
        return [part.strip().lower() for part in self.get(name, "").split(",") if part.strip()]


class Query(tuple[tuple[str, str], ...]):
    """Query parameters in their order, repeated names kept."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Query:
        return cls(parse_qsl(text, keep_blank_values=True))

    @classmethod
    def of(cls, parameters: Mapping[str, str | list[str]]) -> Query:
        """From a mapping; a list stands for a repeated name."""
        pairs: list[tuple[str, str]] = []
        for name, value in parameters.items():
            pairs += [(name, value)] if isinstance(value, str) else [(name, each) for each in value]
        return cls(pairs)

    def first(self, name: str, default: str = "") -> str:
        return next((value for key, value in self if key == name), default)

    def every(self, name: str) -> list[str]:
        return [value for key, value in self if key == name]

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self)

    def encode(self) -> str:
        return urlencode(list(self))


@dataclass(frozen=True, slots=True)
class User:
    """Who asks: the common name and organizations of the client certificate."""

    name: str
    groups: tuple[str, ...] = ()


@dataclass(slots=True)
class Request:
    """One request. `path` is percent-decoded; `body` is an iterator only where the server was told to stream it;
    `stream=True` asks a client transport for the response body as an iterator."""

    method: str
    path: str
    query: Query = field(default_factory=Query)
    headers: Headers = field(default_factory=Headers)
    body: Body = b""
    user: User | None = None
    stream: bool = False

    @property
    def wants_upgrade(self) -> bool:
        return "upgrade" in self.headers.tokens("connection") and bool(self.headers.get("upgrade"))

    @property
    def target(self) -> str:
        """Path and query, percent-encoded, as they stand in a request line."""
        path = quote(self.path, safe="/:@!$&'()*+,;=~-._")
        return f"{path}?{self.query.encode()}" if self.query else path


class Duplex(Protocol):
    """A byte stream both ways. Whoever holds it closes it."""

    async def read(self) -> bytes:
        """The next bytes, b"" at the end of the stream."""
        ...

    async def write(self, data: bytes) -> None:
        """Send; waits while the peer is slow. Raises ConnectionError when the peer is gone."""
        ...

    async def write_eof(self) -> None:
        """Say that nothing more will be sent; where the carrier cannot half-close (TLS) this does nothing."""
        ...

    def close(self) -> None: ...


Tunnel = Callable[[Duplex], Awaitable[None]]


@dataclass(slots=True)
class Response:
    """One response. `tunnel` (server side, status 101) takes over the connection after the head is sent and owns the
    Duplex it gets; `connection` (client side, status 101) is the upgraded connection, owned by the caller."""

    status: int = 200
    headers: Headers = field(default_factory=Headers)
    body: Body = b""
    tunnel: Tunnel | None = None
    connection: Duplex | None = None

    async def read(self) -> bytes:
        """The whole body."""
        if isinstance(self.body, bytes):
            return self.body
        self.body = b"".join([chunk async for chunk in self.body])
        return self.body

    async def aclose(self) -> None:
        """Let go of a streamed body that will not be read to its end."""
        close = getattr(self.body, "aclose", None)
        if close is not None:
            await close()
        if self.connection is not None:
            self.connection.close()


Handler = Callable[[Request], Awaitable[Response]]


class _Half:
    """One direction of an in-process pair: a bounded queue of chunks."""

    LIMIT_BYTES = 1 << 20

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size_bytes = 0
        self.ended = False
        self.broken = False
        self.changed = _new_event()

    def wake(self) -> None:
        self.changed.set()
        self.changed = _new_event()


def _new_event() -> asyncio.Event:
    # One-shot commands use Request without an event loop: asyncio would be a third of their start.
    import asyncio

    return asyncio.Event()


class PipeDuplex:
    """One end of an in-process connection (see `duplex_pair`)."""

    def __init__(self, incoming: _Half, outgoing: _Half) -> None:
        self._in = incoming
        self._out = outgoing

    async def read(self) -> bytes:
        while not self._in.chunks:
            if self._in.ended or self._in.broken:
                return b""
            await self._in.changed.wait()
        chunk = self._in.chunks.popleft()
        self._in.size_bytes -= len(chunk)
        self._in.wake()
        return chunk

    async def write(self, data: bytes) -> None:
        while self._out.size_bytes > self._out.LIMIT_BYTES and not self._out.broken:
            await self._out.changed.wait()
        if self._out.broken or self._out.ended:
            raise ConnectionResetError("the other end is closed")
        if data:
            self._out.chunks.append(data)
            self._out.size_bytes += len(data)
            self._out.wake()

    async def write_eof(self) -> None:
        self._out.ended = True
        self._out.wake()

    def close(self) -> None:
        self._out.ended = True
        self._in.broken = True
        self._out.wake()
        self._in.wake()


def duplex_pair() -> tuple[PipeDuplex, PipeDuplex]:
    """Two ends of one in-process connection."""
    left, right = _Half(), _Half()
    return PipeDuplex(left, right), PipeDuplex(right, left)


async def pump(left: Duplex, right: Duplex) -> None:
    """Carry bytes both ways until either side has ended for good; both are closed afterwards."""
    import asyncio

    async def carry(source: Duplex, sink: Duplex) -> None:
        try:
            while data := await source.read():
                await sink.write(data)
            await sink.write_eof()
        except ConnectionError:
            source.close()
            sink.close()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(carry(left, right), name="tunnel there")
            back = tasks.create_task(carry(right, left), name="tunnel back")
            # The serving side (right) ends the conversation: what the client may still send has no reader.
            back.add_done_callback(lambda _: left.close())
    finally:
        left.close()
        right.close()
