"""The pods that wait for a node: ready to be tried, backing off, or parked until something changes.

Of the ready ones the highest priority goes first, then who came first. A pod that fits nowhere is parked; an event
that may help one of the plugins that refused it brings it back, through its back-off (1 s doubling to 10 s per
attempt, as in Kubernetes), and after five minutes it is tried anyway. One consumer pops; everything else is plain
calls. Owns the waiting pods: each is in exactly one of the three places.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from componentbase.clock import Clock
from scheduler.podinfo import PodInfo

INITIAL_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 10.0
PARKED_SECONDS = 300.0

ACTIVE, BACKOFF, PARKED = "active", "backoff", "parked"


@dataclass(slots=True, eq=False)
class Waiting:
    """A pod in the queue. ready_at: end of its back-off.  retry_at: when it is tried whatever happens, while parked.
    refused_by: the plugins that stand between it and a node."""

    pod: PodInfo
    attempts: int = 0
    place: str = ACTIVE
    sequence: int = 0
    ready_at: float = 0.0
    retry_at: float = 0.0
    refused_by: tuple[str, ...] = ()


class SchedulingQueue:
    """See the module's text. `events` says by plugin which events may help a pod that it refused."""

    def __init__(self, clock: Clock, events: Mapping[str, frozenset[str]]) -> None:
        self._clock = clock
        self._events = events
        self._sequence = 0
        self._pods: dict[str, Waiting] = {}
        # Heaps with lazy deletion: an entry whose pod is elsewhere by now is passed over.
        self._active: list[tuple[int, int, Waiting]] = []
        self._backoff: list[tuple[float, int, Waiting]] = []
        # In the order of parking, so that the first is the first whose time is over.
        self._parked: dict[str, Waiting] = {}
        # Of pods that were popped, until their fate is known.
        self._attempts: dict[str, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, key: str) -> bool:
        return key in self._pods

    def place(self, key: str) -> str:
        """Where a pod waits, "" if it does not."""
        waiting = self._pods.get(key)
        return waiting.place if waiting is not None else ""

    def add(self, pod: PodInfo) -> None:
        """A pod without a node. One that waits already gets its new content; if that may make it fit, because its spec
        changed or it is another pod of that name, it is tried again."""
        waiting = self._pods.get(pod.key)
        if waiting is None:
            waiting = self._pods[pod.key] = Waiting(pod)
            self._move(waiting, ACTIVE)
            return
        old, waiting.pod = waiting.pod, pod
        if old.uid != pod.uid:
            waiting.attempts, waiting.ready_at = 0, 0.0
        elif old.pod.spec == pod.pod.spec:
            return
        if waiting.place != BACKOFF:
            self._return(waiting)

    def remove(self, key: str) -> None:
        """The pod is gone, or it has a node."""
        self._pods.pop(key, None)
        self._parked.pop(key, None)
        self._attempts.pop(key, None)

    async def pop(self) -> PodInfo:
        """The next pod to try. It leaves the queue: then `park` it, `retry` it or be `done` with it."""
        while True:
            self._release()
            while self._active:
                _, sequence, waiting = heapq.heappop(self._active)
                if self._is_at(waiting, ACTIVE, sequence):
                    del self._pods[waiting.pod.key]
                    self._attempts[waiting.pod.key] = waiting.attempts + 1
                    return waiting.pod
            await self._wait()

    def park(self, pod: PodInfo, refused_by: Iterable[str]) -> None:
        """A popped pod fits nowhere: keep it until an event may help one of the plugins that refused it."""
        waiting = self._take_back(pod)
        if waiting is not None:
            waiting.refused_by = tuple(refused_by)
            self._move(waiting, PARKED)

    def retry(self, pod: PodInfo) -> None:
        """An attempt failed for a reason of its own (a conflict, an error): try again after the back-off."""
        waiting = self._take_back(pod)
        if waiting is not None:
            self._move(waiting, BACKOFF)

    def done(self, key: str) -> None:
        """A popped pod has its node: the next of its name starts without attempts."""
        self._attempts.pop(key, None)

    def wake(self, event: str) -> None:
        """Something happened in the cluster: bring back the parked pods that it may help, in the order of parking."""
        for waiting in [each for each in self._parked.values() if self._helps(event, each)]:
            self._return(waiting)

    def _helps(self, event: str, waiting: Waiting) -> bool:
        # Refused by nobody: there were no nodes, any change may help.
        return not waiting.refused_by or any(event in self._events.get(each, ()) for each in waiting.refused_by)

    def _take_back(self, pod: PodInfo) -> Waiting | None:
        if pod.key in self._pods:
            return None  # a newer one of its name came meanwhile
        attempts = self._attempts.pop(pod.key, 1)
        delay = min(MAX_BACKOFF_SECONDS, INITIAL_BACKOFF_SECONDS * 2.0 ** min(attempts - 1, 10))
        waiting = Waiting(pod, attempts, ready_at=self._clock.monotonic() + delay)
        self._pods[pod.key] = waiting
        return waiting

    def _return(self, waiting: Waiting) -> None:
        self._move(waiting, BACKOFF if waiting.ready_at > self._clock.monotonic() else ACTIVE)

    def _move(self, waiting: Waiting, place: str) -> None:
        # A new number: who comes back queues behind those who came meanwhile, and old entries are void.
        self._sequence += 1
        waiting.place, waiting.sequence = place, self._sequence
        self._parked.pop(waiting.pod.key, None)
        if place == ACTIVE:
            heapq.heappush(self._active, (-waiting.pod.priority, self._sequence, waiting))
        elif place == BACKOFF:
            heapq.heappush(self._backoff, (waiting.ready_at, self._sequence, waiting))
        else:
            waiting.retry_at = self._clock.monotonic() + PARKED_SECONDS
            self._parked[waiting.pod.key] = waiting
        self._changed.set()

    def _is_at(self, waiting: Waiting, place: str, sequence: int) -> bool:
        current = self._pods.get(waiting.pod.key)
        return current is waiting and waiting.place == place and waiting.sequence == sequence

    def _release(self) -> None:
        """Whose time has come."""
        now = self._clock.monotonic()
        while self._backoff and self._backoff[0][0] <= now:
            _, sequence, waiting = heapq.heappop(self._backoff)
            if self._is_at(waiting, BACKOFF, sequence):
                self._move(waiting, ACTIVE)
        while self._parked and (waiting := next(iter(self._parked.values()))).retry_at <= now:
            self._move(waiting, ACTIVE)

    async def _wait(self) -> None:
        times = [entry[0] for entry in self._backoff[:1]]
        times += [waiting.retry_at for waiting in itertools.islice(self._parked.values(), 1)]
        delay = max(0.0, min(times) - self._clock.monotonic()) if times else None
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), delay)
        except TimeoutError:
            pass
