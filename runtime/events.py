"""Container events, at once to everyone who listens.

Each listener has a bounded queue. One that does not keep up is cut off and told so; it lists again and resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from enum import Enum
from typing import NamedTuple

BOUND = 1024


class EventKind(Enum):
    """Values are the CRI's."""

    CREATED = 0
    STARTED = 1
    STOPPED = 2
    DELETED = 3


class Event(NamedTuple):
    """Something happened to a container, or to a sandbox: then `container` is its id too. `at` in ns since 1970."""

    kind: EventKind
    container: str
    sandbox: str
    at: int


class ListenerTooSlow(Exception):
    """More events waited than a listener may leave unread."""


class _End(Enum):
    """Why a listener gets no more."""

    TOO_SLOW = 0
    CLOSED = 1


class Events:
    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event | _End]] = set()

    def publish(self, event: Event) -> None:
        for queue in list(self._queues):
            if queue.qsize() >= BOUND:
                self._queues.discard(queue)
                queue.put_nowait(_End.TOO_SLOW)
            else:
                queue.put_nowait(event)

    def close(self) -> None:
        """End every listener's iteration."""
        for queue in self._queues:
            queue.put_nowait(_End.CLOSED)

    async def listen(self) -> AsyncIterator[Event]:
        """Every event from now on. Raises ListenerTooSlow after the last one that still fitted."""
        queue: asyncio.Queue[Event | _End] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                event = await queue.get()
                if event is _End.CLOSED:
                    return
                if event is _End.TOO_SLOW:
                    raise ListenerTooSlow(f"more than {BOUND} events unread: list again and resume")
                yield event
        finally:
            self._queues.discard(queue)
