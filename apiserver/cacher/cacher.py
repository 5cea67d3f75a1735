"""The watch cache: one watch of the whole store, told apart by kind.

Since every revision of the store is an event here, the cache knows how far it has come, and a read is linearizable once
the cache has reached the revision that the store had when the read began. `run` must be running for that; it ends only
with an error, since without it the server is blind.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable

from apimachinery.kind import Kind
from apiserver.storage.interface import FutureRevision, Store, StoreClosed, StoreError
from componentbase.clock import Clock

from .objects import CachedObject
from .resource import Page, ResourceCache
from .watcher import Selection

ROOT = "/registry/"
# How long a read waits for a revision that the client has heard of and we have not.
FUTURE_SECONDS = 3.0


class CacheBehind(StoreError):
    """The cache did not get to the store's revision in time: too much load, or a defect. Try again."""


class Cacher:
    """Owns the caches of all kinds. `revision` is the newest that has been taken in."""

    def __init__(self, store: Store, clock: Clock, kinds: Iterable[Kind]) -> None:
        self.store = store
        self.revision = 0
        self.started = False
        self._clock = clock
        self._caches = {kind.resource: ResourceCache(kind) for kind in kinds if not kind.virtual}
        self._by_folder = {cache.layout.prefix: cache for cache in self._caches.values()}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._tickets = 0
        self._stopping = False

    def of(self, kind: Kind) -> ResourceCache:
        return self._caches[kind.resource]

    async def start(self) -> None:
        """Load everything; afterwards `run` keeps up."""
        revision = await self.store.current_revision()
        for cache in self._caches.values():
            listing = await self.store.list(cache.layout.prefix, revision=revision)
            cache.load(list(listing.items), revision)
        self.revision = revision
        self.started = True

    async def run(self) -> None:
        """Follow the store until `stop`. Raises StoreClosed when the store ends by itself."""
        events = self.store.watch(ROOT, from_revision=self.revision)
        try:
            async for event in events:
                cache = self._by_folder.get(_folder(event.key))
                if cache is not None:
                    cache.apply(event, self._clock.monotonic())
                self.revision = event.revision
                while self._waiting and self._waiting[0][0] <= self.revision:
                    future = heapq.heappop(self._waiting)[2]
                    if not future.done():
                        future.set_result(None)
        finally:
            await events.aclose()
            self.stop()
        raise StoreClosed("the store has ended its watch")

    def stop(self) -> None:
        """Close every watch, and let nobody wait any longer."""
        self._stopping = True
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(StoreClosed("the server is stopping"))
        self._waiting.clear()
        for cache in self._caches.values():
            cache.close_watches()

    @property
    def stopping(self) -> bool:
        return self._stopping

    async def fresh(self) -> None:
        """Wait until everything that was acknowledged before this call is in the cache. CacheBehind, StoreClosed."""
        revision = await self.store.current_revision()
        if revision > self.revision:
            try:
                await self.reach(revision)
            except FutureRevision:
                raise CacheBehind(f"the watch cache is at revision {self.revision}, the store at {revision}") from None

    async def reach(self, revision: int) -> None:
        """Wait for a revision. FutureRevision when it does not come for `FUTURE_SECONDS`, StoreClosed at the end."""
        if revision <= self.revision:
            return
        if self._stopping:
            raise StoreClosed("the server is stopping")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._tickets += 1
        entry = (revision, self._tickets, future)
        heapq.heappush(self._waiting, entry)
        timer = loop.call_later(FUTURE_SECONDS, _give_up, future, FutureRevision(revision, self.revision))
        try:
            await future
        except BaseException:
            # For a revision that never comes the entry would stay for ever.
            if entry in self._waiting:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            raise
        finally:
            timer.cancel()

    async def page_at(self, kind: Kind, selection: Selection, revision: int, *, start: str, limit: int) -> Page:
        """A page as of an exact revision: from the cache when nothing of the kind has changed since, or from the store.

        Compacted and FutureRevision as the store says.
        """
        cache = self.of(kind)
        if cache.last_change <= revision <= self.revision:
            return cache.page(selection, start=start, limit=limit)
        items: list[CachedObject] = []
        while True:
            listing = await self.store.list(selection.prefix, start=start, limit=limit, revision=revision)
            for index, item in enumerate(listing.items):
                obj = cache.layout.cached(item.key, item.value, item.mod_revision)
                if selection.matches(obj):
                    items.append(obj)
                if limit and len(items) == limit:
                    after = len(listing.items) - index - 1 + listing.remaining
                    return Page(items, item.key + "\0" if after else "", after)
            if not listing.next_key:
                return Page(items, "", 0)
            start = listing.next_key


def _give_up(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _folder(key: str) -> str:
    """`/registry/pods/default/x` -> `/registry/pods/`; custom kinds lie one deeper, below their group."""
    end = key.index("/", len(ROOT)) + 1
    if "." in key[len(ROOT) : end]:
        end = key.index("/", end) + 1
    return key[:end]
