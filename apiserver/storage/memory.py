"""The store in plain memory: no thread, no file, no clock, so it runs in virtual time.

It owns its versions until compaction and promises the same laws as the engines on disk, except that nothing survives
the process.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import AsyncGenerator
from typing import NamedTuple

from .eventlog import EventLog
from .interface import (
    FIRST_REVISION,
    Compacted,
    EventType,
    FutureRevision,
    KeyExists,
    Listing,
    RevisionMismatch,
    StoreClosed,
    Stored,
    StoreEvent,
    prefix_end,
)

WATCH_BATCH = 256


class _Version(NamedTuple):
    """A version of a key; `value` None is its deletion."""

    revision: int
    create_revision: int
    value: bytes | None


class MemoryStore:
    def __init__(self) -> None:
        self._versions: dict[str, list[_Version]] = {}
        self._keys: list[str] = []
        self._log = EventLog(FIRST_REVISION)
        self._compacted = 0

    async def get(self, key: str, *, revision: int | None = None) -> Stored | None:
        return self._at(key, self._readable(revision))

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int | None = None) -> Listing:
        at = self._readable(revision)
        low = bisect_left(self._keys, max(prefix, start))
        high = bisect_left(self._keys, prefix_end(prefix))
        items: list[Stored] = []
        remaining = 0
        for key in self._keys[low:high]:
            item = self._at(key, at)
            if item is None:
                continue
            if limit and len(items) == limit:
                remaining += 1
            else:
                items.append(item)
        return Listing(items, at, items[-1].key + "\0" if remaining else "", remaining)

    async def create(self, key: str, value: bytes) -> int:
        if self._live(key) is not None:
            raise KeyExists(key)
        if key not in self._versions:
            self._versions[key] = []
            insort(self._keys, key)
        revision = self._next()
        self._versions[key].append(_Version(revision, revision, value))
        self._log.append(StoreEvent(EventType.CREATE, key, value, 0, revision))
        return revision

    async def update(self, key: str, value: bytes, *, expected: int) -> int:
        live = self._expect(key, expected)
        revision = self._next()
        self._versions[key].append(_Version(revision, live.create_revision, value))
        self._log.append(StoreEvent(EventType.UPDATE, key, value, live.revision, revision))
        return revision

    async def delete(self, key: str, *, expected: int) -> int:
        live = self._expect(key, expected)
        revision = self._next()
        self._versions[key].append(_Version(revision, live.create_revision, None))
        self._log.append(StoreEvent(EventType.DELETE, key, b"", live.revision, revision))
        return revision

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[StoreEvent, None]:
        position = from_revision
        while not self._log.closed:
            if position < self._log.floor:
                raise Compacted(position, self._log.floor)
            if position >= self._log.newest:
                await self._log.changed()
                continue
            for event in self._log.after(position, WATCH_BATCH):
                position = event.revision
                if event.key.startswith(prefix):
                    yield event

    async def compact(self, revision: int) -> None:
        if revision > self._log.newest:
            raise FutureRevision(revision, self._log.newest)
        for event in self._log.after(self._log.floor, max(0, revision - self._log.floor)):
            versions = self._versions.get(event.key)
            if versions is None:
                continue
            latest = _index_at(versions, revision)
            if latest < 0:
                continue
            keep = versions[latest + (versions[latest].value is None) :]
            if keep:
                self._versions[event.key] = keep
            else:
                del self._versions[event.key]
                del self._keys[bisect_left(self._keys, event.key)]
        self._log.forget(revision)
        self._compacted = max(self._compacted, revision)

    async def current_revision(self) -> int:
        return self._log.newest

    async def close(self) -> None:
        self._log.close()

    def _next(self) -> int:
        if self._log.closed:
            raise StoreClosed("the store is closed")
        return self._log.newest + 1

    def _readable(self, revision: int | None) -> int:
        newest = self._log.newest
        if revision is None:
            return newest
        if revision > newest:
            raise FutureRevision(revision, newest)
        if revision < self._compacted:
            raise Compacted(revision, self._compacted)
        return revision

    def _live(self, key: str) -> _Version | None:
        versions = self._versions.get(key)
        return versions[-1] if versions and versions[-1].value is not None else None

    def _expect(self, key: str, expected: int) -> _Version:
        live = self._live(key)
        if live is None or live.revision != expected:
            raise RevisionMismatch(key, expected, live.revision if live else 0)
        return live

    def _at(self, key: str, revision: int) -> Stored | None:
        versions = self._versions.get(key)
        if not versions:
            return None
        # The newest version is what nearly every read wants.
        index = len(versions) - 1 if versions[-1].revision <= revision else _index_at(versions, revision)
        if index < 0:
            return None
        version = versions[index]
        return None if version.value is None else Stored(key, version.value, version.create_revision, version.revision)


def _index_at(versions: list[_Version], revision: int) -> int:
    """The index of the last version at or before `revision`; -1 when there is none."""
    return bisect_left(versions, revision + 1, key=lambda version: version.revision) - 1
