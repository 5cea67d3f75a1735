"""The store in one SQLite file: durable on every acknowledgement, fast by group commit.

Everything but the waiting for the disk happens on the event loop: compare-and-swap against an index of the newest
revision of every key, then one INSERT for all writes that have queued up, then one asynchronous `fdatasync` of the
write-ahead log; only after that are callers answered and watches told. While one is under way the next group gathers.
So an acknowledged write survives kill -9 and power loss. Values stay on disk, but for recent events. When the disk
fails, every waiting write fails and the store closes: what is true stands in the file.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import NamedTuple

from . import sqlite_file as sql
from .disksync import DiskSync, disk_sync
from .eventlog import EventLog
from .interface import (
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

log = logging.getLogger(__name__)

# Events kept in memory for watches; older ones are read from the file.
RECENT_EVENTS = 1024
WATCH_BATCH = 256
# Rows that are read, and revisions that are compacted, before the loop may do something else.
READ_STEP = 500
COMPACTION_STEP = 256


class _Write(NamedTuple):
    event: StoreEvent
    create_revision: int
    done: asyncio.Future[int]

    def row(self) -> tuple[int, str, int, int, bytes | None]:
        event = self.event
        value = None if event.type is EventType.DELETE else event.value
        return event.revision, event.key, self.create_revision, event.previous, value


class SqliteStore:
    def __init__(self, path: str | Path) -> None:
        self._file = sql.StoreFile(Path(path))
        # What is decided, though maybe not durable yet: key -> (create_revision, mod_revision), and the last revision.
        self._heads = self._file.heads()
        self._assigned = self._file.newest
        self._compacted = self._file.compacted
        # Up to here the file holds no replaced rows; behind `_compacted` while a compaction is under way or has failed.
        self._dropped = self._file.compacted
        # What is durable.
        self._log = EventLog(self._file.newest)
        self._queue: list[_Write] = []
        self._syncing: Sequence[_Write] = ()
        self._flush_is_due = False
        self._sync: DiskSync | None = None
        self._refusal = ""
        self._closed = False

    async def get(self, key: str, *, revision: int | None = None) -> Stored | None:
        row = self._file.db.execute(sql.GET, (key, self._readable(revision))).fetchone()
        return Stored(*row) if row and row[1] is not None else None

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int | None = None) -> Listing:
        at = self._readable(revision)
        low, high = max(prefix, start), prefix_end(prefix)
        items: list[Stored] = []
        while True:
            step = min(READ_STEP, limit - len(items)) if limit else READ_STEP
            rows = self._file.db.execute(sql.LIST, (low, high, at, step + 1)).fetchall()
            items += [Stored(*row) for row in rows[:step]]
            if len(rows) <= step:
                return Listing(items, at, "", 0)
            low = items[-1].key + "\0"
            if len(items) == limit:
                remaining = self._file.db.execute(sql.COUNT, (low, high, at)).fetchone()[0]
                return Listing(items, at, low, remaining)
            await asyncio.sleep(0)
            self._readable(at)

    async def create(self, key: str, value: bytes) -> int:
        if key in self._heads:
            await self._settled()
            raise KeyExists(key)
        revision = self._next()
        return await self._write(StoreEvent(EventType.CREATE, key, value, 0, revision), revision)

    async def update(self, key: str, value: bytes, *, expected: int) -> int:
        created = await self._expect(key, expected)
        return await self._write(StoreEvent(EventType.UPDATE, key, value, expected, self._next()), created)

    async def delete(self, key: str, *, expected: int) -> int:
        created = await self._expect(key, expected)
        return await self._write(StoreEvent(EventType.DELETE, key, b"", expected, self._next()), created)

    async def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[StoreEvent, None]:
        position = from_revision
        while not self._log.closed:
            if position < self._compacted:
                raise Compacted(position, self._compacted)
            if position >= self._log.newest:
                await self._log.changed()
                continue
            for event in self._after(position):
                position = event.revision
                if event.key.startswith(prefix):
                    yield event

    async def compact(self, revision: int) -> None:
        if revision > self._log.newest:
            raise FutureRevision(revision, self._log.newest)
        self._compacted = max(self._compacted, revision)
        self._log.forget(revision)
        while self._dropped < revision and not self._refusal:
            high = min(self._dropped + COMPACTION_STEP, revision)
            try:
                self._file.compact(self._dropped, high)
            except sqlite3.Error as error:
                # Space that is not given back is no reason to stop serving: the next compaction begins here.
                log.error("compacting %s failed, to be tried again: %s", self._file.path, error)
                return
            self._dropped = high
            await asyncio.sleep(0)

    async def current_revision(self) -> int:
        return self._log.newest

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._refusal = self._refusal or f"the store {self._file.path} is closed"
        await self._settled()
        self._log.close()
        if self._sync is not None:
            self._sync.close()
        await self._file.close()

    # ---- deciding

    def _next(self) -> int:
        if self._refusal:
            raise StoreClosed(self._refusal)
        self._assigned += 1
        return self._assigned

    async def _expect(self, key: str, expected: int) -> int:
        """The create revision of a key that must be at revision `expected`."""
        head = self._heads.get(key)
        if head is not None and head[1] == expected:
            return head[0]
        # The refusal may rest on a write that is still on its way to the disk: let it become true first.
        await self._settled()
        raise RevisionMismatch(key, expected, head[1] if head else 0)

    async def _settled(self) -> None:
        """Wait until every write that is numbered so far is durable or has failed."""
        newest = self._queue[-1] if self._queue else self._syncing[-1] if self._syncing else None
        if newest is not None:
            await asyncio.wait([newest.done])

    # ---- writing

    async def _write(self, event: StoreEvent, create_revision: int) -> int:
        if event.type is EventType.DELETE:
            del self._heads[event.key]
        else:
            self._heads[event.key] = (create_revision, event.revision)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        self._queue.append(_Write(event, create_revision, done))
        if not self._flush_is_due and not self._syncing:
            self._flush_is_due = True
            loop.call_soon(self._flush)
        # Shielded: a caller that goes away does not undo a write that is already numbered.
        return await asyncio.shield(done)

    def _flush(self) -> None:
        """Hand the gathered group to the kernel and ask for it to become durable."""
        self._flush_is_due = False
        self._syncing, self._queue = self._queue, []
        try:
            if self._sync is None:
                self._sync = disk_sync(asyncio.get_running_loop())
            self._file.insert([write.row() for write in self._syncing])
            self._sync.start(self._file.log_descriptor, self._synced)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _synced(self, error: OSError | None) -> None:
        if error is not None:
            return self._failed(error)
        group, self._syncing = self._syncing, ()
        for write in group:
            self._log.append(write.event)
            if not write.done.done():
                write.done.set_result(write.event.revision)
        if self._log.newest - self._log.floor > 2 * RECENT_EVENTS:
            self._log.forget(self._log.newest - RECENT_EVENTS)
        if self._queue:
            self._flush()
        self._file.checkpoint_when_due()

    def _failed(self, error: Exception) -> None:
        self._refusal = f"writing {self._file.path} failed: {error}"
        log.critical("%s", self._refusal)
        for write in (*self._syncing, *self._queue):
            if not write.done.done():
                write.done.set_exception(StoreClosed(self._refusal))
                write.done.exception()  # whoever waited for it may be gone already
        self._syncing, self._queue = (), []
        self._log.close()

    # ---- reading

    def _readable(self, revision: int | None) -> int:
        if self._refusal:
            raise StoreClosed(self._refusal)
        newest = self._log.newest
        if revision is None:
            return newest
        if revision > newest:
            raise FutureRevision(revision, newest)
        if revision < self._compacted:
            raise Compacted(revision, self._compacted)
        return revision

    def _after(self, position: int) -> Sequence[StoreEvent]:
        if position >= self._log.floor:
            return self._log.after(position, WATCH_BATCH)
        end = min(position + WATCH_BATCH, self._log.newest)
        return [_event(*row) for row in self._file.db.execute(sql.EVENTS, (position, end))]


def _event(revision: int, key: str, previous: int, value: bytes | None) -> StoreEvent:
    if value is None:
        return StoreEvent(EventType.DELETE, key, b"", previous, revision)
    return StoreEvent(EventType.UPDATE if previous else EventType.CREATE, key, value, previous, revision)
