"""A streamed body that owns something: a watch, a connection to a node.

An async generator that was never started does not run its `finally`; a client that leaves before the first byte would
leave what it owns behind.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable


class OwningStream(AsyncIterator[bytes]):
    """The chunks of `chunks`; `release` is called when it is closed, started or not, and bears being called twice."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], release: Callable[[], None]) -> None:
        self._chunks = chunks
        self._release = release

    def __aiter__(self) -> OwningStream:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        self._release()
        await self._chunks.aclose()
