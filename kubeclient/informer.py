"""A local copy of the objects of one kind that follows the API server: list once, then watch.

Owns `items` and calls its handlers, in the server's order, after `items` has changed. It resumes a broken watch from
the last revision that it saw (bookmarks count), lists again only when the server says that this revision is gone, and
then tells the handlers the differences: nothing is lost and nothing is repeated. It never gives up; waits are
jittered from its seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from apimachinery.errors import StatusError
from componentbase.clock import Clock
from kubeclient.backoff import Backoff
from kubeclient.rest import BadAnswer, Client, key_of
from kubeclient.transport import TransportError

T = TypeVar("T", bound=msgspec.Struct)

log = logging.getLogger(__name__)

# A watch is ended by the server after this long (and up to twice that), so that a dead peer is noticed some time.
WATCH_SECONDS = 300
WATCH_GRACE_SECONDS = 30.0
# A watch that ends sooner without a single event is a failure: asking again at once would be a busy loop.
SHORT_WATCH_SECONDS = 1.0
RETRYABLE_CODES = (429, 500, 502, 503)


@dataclass(frozen=True, slots=True)
class Handlers(Generic[T]):
    """What one listener wants to hear."""

    on_add: Callable[[T], None] | None = None
    on_update: Callable[[T, T], None] | None = None
    on_delete: Callable[[T], None] | None = None


class Informer(Generic[T]):
    """The objects of `kind_type`, by key ("namespace/name", or "name" where there is no namespace)."""

    def __init__(
        self,
        client: Client,
        kind_type: type[T],
        clock: Clock,
        *,
        namespace: str | None = None,
        fields: str = "",
        labels: str = "",
        seed: int | str = 0,
    ) -> None:
        self._client = client
        self._type = kind_type
        self._clock = clock
        self._namespace = namespace
        self._fields = fields
        self._labels = labels
        name = f"{seed}/{kind_type.__name__}/{namespace}/{fields}/{labels}"
        self._random = random.Random(name)
        self._backoff = Backoff(0.05, 1.0, seed=name)
        self._listeners: list[Handlers[T]] = []
        self._revision = ""
        self._failing = False
        self.items: dict[str, T] = {}
        self.synced = asyncio.Event()

    @property
    def revision(self) -> str:
        """The last resourceVersion seen; "" before the first list and when the server has forgotten it."""
        return self._revision

    def get(self, name: str, namespace: str = "") -> T | None:
        return self.items.get(f"{namespace}/{name}" if namespace else name)

    def add_handler(
        self,
        on_add: Callable[[T], None] | None = None,
        on_update: Callable[[T, T], None] | None = None,
        on_delete: Callable[[T], None] | None = None,
    ) -> None:
        """Call these from now on: plain functions that do not wait. Objects that are already here are added at once."""
        listener = Handlers(on_add, on_update, on_delete)
        self._listeners.append(listener)
        for obj in list(self.items.values()):
            self._tell(listener.on_add, obj)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        while True:
            try:
                if not self._revision:
                    await self._list()
                await self._watch()
            except StatusError as error:
                if error.code not in RETRYABLE_CODES:
                    # Expired, a revision from before a restored server, or a refusal: what we know may be stale.
                    self._revision = ""
                await self._failed(error)
            except BadAnswer as error:
                self._revision = ""
                await self._failed(error)
            except (TransportError, TimeoutError) as error:
                await self._failed(error)

    async def _list(self) -> None:
        listing = await self._client.list(self._type, self._namespace, labels=self._labels, fields=self._fields)
        fresh = {key_of(obj): obj for obj in listing.items}
        for key in [key for key in self.items if key not in fresh]:
            self._remove(key, self.items[key])
        for key, obj in fresh.items():
            self._put(key, obj)
        self._revision = listing.resourceVersion
        self._succeeded()
        self.synced.set()

    async def _watch(self) -> None:
        seconds = self._random.randint(WATCH_SECONDS, 2 * WATCH_SECONDS)
        began = self._clock.monotonic()
        heard = False
        events = self._client.watch(
            self._type,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._revision,
            timeout_seconds=seconds,
        )
        # The server should end the watch; if it does not, the connection is taken for dead.
        async with asyncio.timeout(seconds + WATCH_GRACE_SECONDS), contextlib.aclosing(events):
            async for event in events:
                heard = True
                self._succeeded()
                obj = event.object
                if event.type == "DELETED":
                    self._remove(key_of(obj), obj)
                elif event.type in ("ADDED", "MODIFIED"):
                    self._put(key_of(obj), obj)
                self._revision = _meta(obj).resourceVersion or self._revision
        if not heard and self._clock.monotonic() - began < SHORT_WATCH_SECONDS:
            raise TransportError("the watch ended at once")

    def _put(self, key: str, obj: T) -> None:
        old = self.items.get(key)
        if old is not None and _meta(old).resourceVersion == _meta(obj).resourceVersion:
            return
        if old is not None and _meta(old).uid != _meta(obj).uid:
            # Deleted and made anew while we were not looking: two objects, two events.
            self._remove(key, old)
            old = None
        self.items[key] = obj
        for listener in self._listeners:
            if old is None:
                self._tell(listener.on_add, obj)
            else:
                self._tell(listener.on_update, old, obj)

    def _remove(self, key: str, last: T) -> None:
        if self.items.pop(key, None) is None:
            return
        for listener in self._listeners:
            self._tell(listener.on_delete, last)

    def _tell(self, handler: Callable[..., None] | None, *objects: T) -> None:
        if handler is None:
            return
        try:
            handler(*objects)
        except Exception:
            # One listener's fault must neither silence the others nor stop the stream.
            log.exception("handler of %s failed for %s", self._type.__name__, key_of(objects[-1]))

    def _succeeded(self) -> None:
        self._backoff.reset()
        if self._failing:
            self._failing = False
            log.info("following %s again", self._type.__name__)

    async def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            log.warning("cannot follow %s, trying again: %s", self._type.__name__, error or type(error).__name__)
        await self._clock.sleep(self._backoff.next_seconds())


def _meta(obj: Any) -> Any:
    return obj.metadata
