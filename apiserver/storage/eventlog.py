"""The recent events of a store, shared by all its watches.

Since every revision is exactly one event, an event is found by arithmetic and a watch is only a position: no queue per
watch, and a write costs the same with one watch as with a thousand.
"""

from __future__ import annotations

import asyncio

from .interface import StoreEvent


class EventLog:
    """Events with consecutive revisions; `floor` is the revision before the first one held."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._events: list[StoreEvent] = []
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = False

    @property
    def floor(self) -> int:
        return self._floor

    @property
    def newest(self) -> int:
        return self._floor + len(self._events)

    def after(self, revision: int, limit: int) -> list[StoreEvent]:
        """At most `limit` events that follow `revision`, which must not be below `floor`."""
        start = revision - self._floor
        return self._events[start : start + limit]

    def append(self, event: StoreEvent) -> None:
        """Add the event of the next revision and wake the watches."""
        assert event.revision == self.newest + 1, f"revision {event.revision} does not follow {self.newest}"
        self._events.append(event)
        if self._waiting:
            self._wake()

    def forget(self, revision: int) -> None:
        """Drop the events at or before `revision`."""
        if revision > self._floor:
            del self._events[: revision - self._floor]
            self._floor = revision

    async def changed(self) -> None:
        """Wait for the next append or for the close."""
        if self.closed:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def close(self) -> None:
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
