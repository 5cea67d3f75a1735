"""One watch: a selector and a bounded queue of events.

The cache pushes, the handler takes. A watch that falls further behind than the bound is closed: its client resumes from
the last revision that it saw, and nobody else waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from apimachinery import fields, labels

from .objects import ADDED, DELETED, CachedObject, CacheEvent

QUEUE_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects a list or watch wants: a range of keys, labels, fields."""

    prefix: str
    labels: labels.Selector = labels.EVERYTHING
    fields: fields.FieldSelector = fields.EVERYTHING

    @property
    def whole(self) -> bool:
        """No selector: every object of the range."""
        return self.labels.empty and self.fields.empty

    def matches(self, obj: CachedObject) -> bool:
        """Whether the selectors hold (the range is the caller's business)."""
        if self.labels.empty and self.fields.empty:
            return True
        held, values = obj.facts
        return (self.labels.empty or self.labels.matches(held)) and (self.fields.empty or self.fields.matches(values))


class Watcher:
    """`initial` is the state to begin with, for the handler to send first; then come the events after a revision."""

    def __init__(
        self, selection: Selection, initial: list[CachedObject], after: int, leave: Callable[[Watcher], None]
    ) -> None:
        self.selection = selection
        self.initial = initial
        # A client may have read its own write and ask for what follows before the cache has taken that write in.
        self._after = after
        self.closed = False
        self._whole = selection.whole
        self._queue: deque[tuple[str, CacheEvent]] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._leave = leave

    def offer(self, event: CacheEvent) -> None:
        """Called by the cache for every event that may concern the selection."""
        obj = event.object
        if self.closed or event.revision <= self._after or not obj.key.startswith(self.selection.prefix):
            return
        if self._whole:
            shown_as = event.type
        else:
            now = event.type != DELETED and self.selection.matches(obj)
            before = event.previous is not None and self.selection.matches(event.previous)
            if now:
                shown_as = event.type if before else ADDED
            elif before:
                shown_as = DELETED
            else:
                return
        if len(self._queue) >= QUEUE_LIMIT:
            self.close()
            return
        self._queue.append((shown_as, event))
        self._wake()

    def take(self) -> list[tuple[str, CacheEvent]]:
        """All events that are there."""
        taken = list(self._queue)
        self._queue.clear()
        return taken

    async def wait(self, seconds: float) -> bool:
        """Wait for events or the end, at most so long; whether there is anything to take."""
        if not self._queue and not self.closed:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(max(0.0, seconds), self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        return bool(self._queue)

    def close(self) -> None:
        """End the watch; what is queued can still be taken."""
        if not self.closed:
            self.closed = True
            self._leave(self)
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
