"""`EventRecorder`: tells people what happened to an object, without ever holding up the one who tells.

`event` only queues; `run` sends. Repeats of the same event become a count and a last time on one Event object, as
client-go does it, and one object's events are limited to a burst and a slow refill. The queue is bounded: when it is
full the oldest goes, and the log says how many were lost. An event that the server refuses is dropped; while the
server is away they wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from apimachinery.errors import NotFound, StatusError
from apimachinery.kinds.event import Event, EventSource
from apimachinery.meta import ObjectMeta, ObjectReference
from apimachinery.times import format_time
from componentbase.clock import Clock
from kubeclient.backoff import Backoff
from kubeclient.rest import Client
from kubeclient.transport import TransportError

log = logging.getLogger(__name__)

NORMAL, WARNING = "Normal", "Warning"
QUEUE_LIMIT = 4096
# Events under way at one time: one after the other they would fall behind a burst of binds.
SENDERS = 8
REMEMBERED = 4096
# client-go's numbers: so many events of one object at once, then one more every five minutes.
BURST = 25
REFILL_SECONDS = 300.0
RETRYABLE_CODES = (429, 500, 502, 503, 504)

Key = tuple[str, ...]


@dataclass(slots=True)
class _Pending:
    """Occurrences that are not sent yet."""

    reference: ObjectReference
    type: str
    reason: str
    message: str
    count: int
    first: float
    last: float


@dataclass(slots=True)
class _Sent:
    """An Event object that exists."""

    name: str
    count: int


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """Events from `component` (on `host`). Needs its `run` as a task; `event` may be called before."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        component: str,
        host: str = "",
        *,
        seed: int | str = 0,
        limit: int = QUEUE_LIMIT,
        senders: int = SENDERS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._host = host
        self._seed = seed
        self._limit = limit
        self._made = 0
        self._queue: OrderedDict[Key, _Pending] = OrderedDict()
        self._sent: OrderedDict[Key, _Sent] = OrderedDict()
        self._buckets: OrderedDict[Key, _Bucket] = OrderedDict()
        self._senders = senders
        # Keys that a sender has in hand: the next occurrence waits for it, or there would be two Event objects.
        self._in_hand: set[Key] = set()
        # One token for each key that waits; a token without a key (dropped, or in hand) is simply used up.
        self._tokens = asyncio.Semaphore(0)
        self.dropped = 0

    def event(self, about: Any, type: str, reason: str, message: str) -> None:
        """Something happened to `about`, an object or an ObjectReference. type: Normal or Warning."""
        reference = about if isinstance(about, ObjectReference) else reference_to(about)
        owner = (reference.kind, reference.namespace, reference.name, reference.uid)
        key = (*owner, reference.fieldPath, type, reason, message)
        now = self._clock.now()
        if (pending := self._queue.get(key)) is not None:
            pending.count += 1
            pending.last = now
            return
        if not self._admit(owner):
            return
        if len(self._queue) >= self._limit:
            self._queue.popitem(last=False)
            self._drop("the queue is full")
        self._queue[key] = _Pending(reference, type, reason, message, 1, now, now)
        self._tokens.release()

    async def run(self) -> None:
        """Send what is queued until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._senders):
                tasks.create_task(self._send_queued(), name=f"events of {self._component} {number}")

    async def _send_queued(self) -> None:
        while True:
            await self._tokens.acquire()
            key = next((key for key in self._queue if key not in self._in_hand), None)
            if key is None:
                continue
            self._in_hand.add(key)
            try:
                await self._send(key, self._queue.pop(key))
            finally:
                self._in_hand.discard(key)
            if key in self._queue:
                self._tokens.release()

    async def _send(self, key: Key, pending: _Pending) -> None:
        backoff = Backoff(0.1, 5.0, seed=f"{self._seed}/{key}")
        while True:
            try:
                await self._write(key, pending)
                return
            except StatusError as error:
                if error.code not in RETRYABLE_CODES:
                    self._drop(str(error))
                    return
                log.debug("event for %s waits: %s", pending.reference.name, error)
            except TransportError as error:
                log.debug("event for %s waits: %s", pending.reference.name, error)
            await self._clock.sleep(backoff.next_seconds())

    async def _write(self, key: Key, pending: _Pending) -> None:
        sent = self._sent.get(key)
        namespace = pending.reference.namespace or "default"
        if sent is not None:
            change = {"count": sent.count + pending.count, "lastTimestamp": format_time(pending.last)}
            try:
                await self._client.patch(Event, sent.name, namespace, change)
            except NotFound:  # its hour is over
                del self._sent[key]
            else:
                sent.count += pending.count
                self._sent.move_to_end(key)
                return
        event = self._event(pending, namespace)
        await self._client.create(event)
        self._sent[key] = _Sent(event.metadata.name, pending.count)
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def _event(self, pending: _Pending, namespace: str) -> Event:
        self._made += 1
        # Names begin with the time, as client-go's do: kubectl shows events of the same second in the order of names.
        origin = f"{self._component}/{self._host}/{self._seed}/{pending.reference.uid}/{self._made}"
        mark = hashlib.blake2b(origin.encode(), digest_size=2).hexdigest()
        suffix = f"{int(pending.first * 1e9) + self._made:016x}{mark}"
        return Event(
            metadata=ObjectMeta(name=f"{pending.reference.name}.{suffix}", namespace=namespace),
            involvedObject=pending.reference,
            type=pending.type,
            reason=pending.reason,
            message=pending.message,
            source=EventSource(component=self._component, host=self._host),
            firstTimestamp=format_time(pending.first),
            lastTimestamp=format_time(pending.last),
            count=pending.count,
            reportingComponent=self._component,
            reportingInstance=self._host,
        )

    def _admit(self, owner: Key) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.pop(owner, None) or _Bucket(float(BURST), now)
        bucket.tokens = min(float(BURST), bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        self._buckets[owner] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1.0:
            self._drop(f"too many events of {owner[0]} {owner[2]}")
            return False
        bucket.tokens -= 1.0
        return True

    def _drop(self, why: str) -> None:
        self.dropped += 1
        # Powers of two: the first is seen at once, a flood does not become a flood of log lines.
        if self.dropped & (self.dropped - 1) == 0:
            log.warning("%d events dropped so far, the last because %s", self.dropped, why)


def reference_to(obj: Any) -> ObjectReference:
    """A reference that identifies this object, with its uid and revision."""
    meta = obj.metadata
    return ObjectReference(
        kind=obj.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        apiVersion=obj.apiVersion,
        resourceVersion=meta.resourceVersion,
    )
