"""A queue of keys with client-go's rules: queue keys, read state late.

A key that is added again while it waits is one entry; a key that is added while somebody works on it comes back when
that one is `done`; so no key is ever worked on twice at once and no change is lost. Delayed adds wait on the loop's
clock inside `get`: no timer task, no thread. Its size is bounded by the number of distinct keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from componentbase.clock import Clock
from kubeclient.backoff import KeyedBackoff

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue is shut down and empty."""


class WorkQueue(Generic[K]):
    """Keys in first-come order; `get` and `done` frame the work on one key."""

    def __init__(self, clock: Clock, *, backoff: KeyedBackoff | None = None) -> None:
        self._clock = clock
        self._backoff = backoff or KeyedBackoff(0.005, 1000.0)
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._sequence = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closing = False

    def __len__(self) -> int:
        """How many keys wait, without those that are delayed or worked on."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Ask for work on `key`."""
        if self._closing or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Like `add`, `seconds` from now; of several delays of one key the earliest counts."""
        if self._closing:
            return
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._delayed, (due, self._sequence, key))
        self._wake()

    def add_rate_limited(self, key: K) -> None:
        """Like `add`, after the back-off that the key's failures have earned; `forget` ends it."""
        self.add_after(key, self._backoff.next_seconds(key))

    def forget(self, key: K) -> None:
        """The work on `key` succeeded: its next failure backs off from the start."""
        self._backoff.forget(key)

    def requeues(self, key: K) -> int:
        """How often `key` was added rate-limited since it was forgotten."""
        return self._backoff.failures(key)

    async def get(self) -> K:
        """The next key, which is the caller's until `done`. Raises ShutDown when the queue is shut down and drained."""
        while True:
            self._release_due()
            if self._ready:
                key = self._ready.popleft()
                self._working.add(key)
                self._dirty.discard(key)
                return key
            if self._closing:
                raise ShutDown
            await self._wait()

    def done(self, key: K) -> None:
        """The work on `key` is over, well or not."""
        self._working.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def shut_down(self) -> None:
        """Take no more keys; those that wait are still handed out, delayed ones are dropped."""
        self._closing = True
        self._delayed.clear()
        self._due.clear()
        while self._waiters:
            self._wake()

    def _release_due(self) -> None:
        now = self._clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        delay = max(0.0, self._delayed[0][0] - self._clock.monotonic()) if self._delayed else None
        try:
            await asyncio.wait_for(waiter, delay)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the wake-up came too late for us: it belongs to the next one in line
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
