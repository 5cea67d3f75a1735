"""What grows old: objects of kinds with a time to live (events), and revisions that nobody needs any more."""

from __future__ import annotations

import logging

from apimachinery.errors import NotFound, StatusError
from apimachinery.kind import Kind
from apimachinery.meta import DeleteOptions, Preconditions
from apiserver.cacher.watcher import Selection
from apiserver.storage.interface import Store
from componentbase.clock import Clock

from .bootstrap import ITSELF
from .registry import Registry, Writer

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
# Lists that are read page by page, and watches that resume, have this long.
COMPACTION_SECONDS = 300.0


class Expiry:
    """Deletes objects of a kind so many seconds after their last write. After a restart they live that long anew."""

    def __init__(self, registry: Registry, kind: Kind) -> None:
        self._registry = registry
        self._kind = kind
        # key -> (revision, when this revision was first seen here)
        self._seen: dict[str, tuple[int, float]] = {}

    async def run(self) -> None:
        while True:
            await self._sweep()
            await self._registry.clock.sleep(SWEEP_SECONDS)

    async def _sweep(self) -> None:
        now = self._registry.clock.monotonic()
        cache = self._registry.cacher.of(self._kind)
        seen: dict[str, tuple[int, float]] = {}
        for item in cache.page(Selection(cache.layout.prefix)).items:
            known = self._seen.get(item.key)
            since = known[1] if known and known[0] == item.revision else now
            seen[item.key] = (item.revision, since)
            if now - since >= (self._kind.ttl_seconds or 0.0):
                await self._expire(item.key, item.revision)
        self._seen = seen

    async def _expire(self, key: str, revision: int) -> None:
        layout = self._registry.cacher.of(self._kind).layout
        namespace, _, name = key.removeprefix(layout.prefix).rpartition("/")
        options = DeleteOptions(preconditions=Preconditions(resourceVersion=str(revision)))
        try:
            await self._registry.delete(self._kind, namespace, name, options, Writer(ITSELF))
        except NotFound:
            return
        except StatusError as error:
            log.debug("%s %s/%s did not expire: %s", self._kind.plural, namespace, name, error)


class Compactor:
    """Every five minutes forgets what was replaced before the five minutes."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        before = await self._store.current_revision()
        while True:
            await self._clock.sleep(COMPACTION_SECONDS)
            now = await self._store.current_revision()
            await self._store.compact(before)
            before = now
