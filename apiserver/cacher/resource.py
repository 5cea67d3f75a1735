"""The cache of one kind: all its objects, the recent events, the watches.

It is only ever changed by `apply`, in the order of revisions. It promises that a list and a watch from that list's
revision together miss nothing and repeat nothing. The ring of recent events is bounded by count and age; a watch from
further back is refused with `TooOld`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

from apimachinery.kind import Kind
from apiserver.storage.interface import EventType, Stored, StoreEvent, prefix_end

from .objects import ADDED, DELETED, MODIFIED, CachedObject, CacheEvent, Layout
from .watcher import Selection, Watcher

RING_EVENTS = 20_000
RING_KEPT_EVENTS = 128
RING_SECONDS = 300.0

# Watches that ask for one value of this field are woken only for objects that have or had it: each node agent watches
# its own pods, and a pod's event must not cost a look at every node's watch.
INDEXED_FIELD = {"pods": "spec.nodeName"}


class TooOld(Exception):
    """The events after this revision are not in the ring any more."""

    def __init__(self, revision: int, floor: int) -> None:
        super().__init__(f"too old resource version: {revision} ({floor})")


class Page(NamedTuple):
    """Objects in key order; `next_key` "" when there are no more, `remaining` keys of the range after this page."""

    items: list[CachedObject]
    next_key: str
    remaining: int


class ResourceCache:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.layout = Layout(kind)
        self._objects: dict[str, CachedObject] = {}
        self._keys: list[str] = []
        self._ring: list[CacheEvent] = []
        # Every event after `_floor` is in the ring.
        self._floor = 0
        self._indexed = INDEXED_FIELD.get(kind.resource, "")
        self._watchers: dict[Watcher, None] = {}
        self._by_value: dict[str, dict[Watcher, None]] = {}

    # ---- filling

    def load(self, items: list[Stored], revision: int) -> None:
        """Begin from a listing at `revision`."""
        self._objects = {item.key: self.layout.cached(item.key, item.value, item.mod_revision) for item in items}
        self._keys = sorted(self._objects)
        self._ring.clear()
        self._floor = revision

    def apply(self, event: StoreEvent, seconds: float) -> None:
        """Take in one write; `seconds` is the monotonic time."""
        previous = self._objects.get(event.key)
        if event.type is EventType.DELETE:
            if previous is None:
                return
            del self._objects[event.key]
            del self._keys[bisect_left(self._keys, event.key)]
            seen = CacheEvent(DELETED, self.layout.moved(previous, event.revision), previous, seconds)
        else:
            obj = self.layout.cached(event.key, event.value, event.revision)
            if previous is None:
                insort(self._keys, event.key)
            self._objects[event.key] = obj
            seen = CacheEvent(MODIFIED if previous else ADDED, obj, previous, seconds)
        self._ring.append(seen)
        self._trim(seconds)
        self._tell(seen)

    def _trim(self, seconds: float) -> None:
        ring = self._ring
        if len(ring) > RING_EVENTS:
            drop = RING_EVENTS // 4
        elif len(ring) > 2 * RING_KEPT_EVENTS and ring[RING_KEPT_EVENTS].seconds < seconds - RING_SECONDS:
            drop = RING_KEPT_EVENTS
        else:
            return
        self._floor = ring[drop - 1].revision
        del ring[:drop]

    def _tell(self, event: CacheEvent) -> None:
        # Offering may close a watch that is too slow, hence the copies.
        for watcher in list(self._watchers):
            watcher.offer(event)
        if self._by_value:
            values = {obj.facts[1].get(self._indexed, "") for obj in (event.object, event.previous) if obj is not None}
            for value in sorted(values):
                for watcher in list(self._by_value.get(value, ())):
                    watcher.offer(event)

    # ---- reading

    def get(self, namespace: str, name: str) -> CachedObject | None:
        return self._objects.get(self.layout.key(namespace, name))

    def at_key(self, key: str) -> CachedObject | None:
        return self._objects.get(key)

    def __len__(self) -> int:
        return len(self._keys)

    def page(self, selection: Selection, *, start: str = "", limit: int = 0) -> Page:
        """The selected objects from key `start` on, at most `limit` (0: all)."""
        low = bisect_left(self._keys, max(selection.prefix, start))
        high = bisect_left(self._keys, prefix_end(selection.prefix))
        if selection.whole:
            end = min(high, low + limit) if limit else high
            items = [self._objects[key] for key in self._keys[low:end]]
            return Page(items, self._keys[end - 1] + "\0" if end < high else "", high - end)
        items = []
        for index in range(low, high):
            obj = self._objects[self._keys[index]]
            if not selection.matches(obj):
                continue
            if limit and len(items) == limit:
                return Page(items, items[-1].key + "\0", high - index)
            items.append(obj)
        return Page(items, "", 0)

    @property
    def last_change(self) -> int:
        """The revision of the newest event, or of the load: nothing of this kind has changed since."""
        return self._ring[-1].revision if self._ring else self._floor

    # ---- watching

    def watch(self, selection: Selection, *, after: int | None) -> Watcher:
        """Events after a revision; None: first every object as it is now (`Watcher.initial`). Raises TooOld."""
        if after is None:
            watcher = Watcher(selection, self.page(selection).items, 0, self._leave)
        else:
            if after < self._floor:
                raise TooOld(after, self._floor)
            watcher = Watcher(selection, [], after, self._leave)
            for event in self._ring[bisect_right(self._ring, after, key=lambda event: event.revision) :]:
                watcher.offer(event)
        self._group(watcher)[watcher] = None
        return watcher

    def close_watches(self) -> None:
        for watcher in [*self._watchers, *(each for group in self._by_value.values() for each in group)]:
            watcher.close()

    def _group(self, watcher: Watcher) -> dict[Watcher, None]:
        value = watcher.selection.fields.exact(self._indexed) if self._indexed else None
        return self._watchers if value is None else self._by_value.setdefault(value, {})

    def _leave(self, watcher: Watcher) -> None:
        self._group(watcher).pop(watcher, None)
        value = watcher.selection.fields.exact(self._indexed) if self._indexed else None
        if value is not None and not self._by_value.get(value):
            self._by_value.pop(value, None)
