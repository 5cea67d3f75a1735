"""The store in one SQLite file: durable on every acknowledgement, fast by group commit.

The event loop decides (compare-and-swap against an index of the newest revision of every key) and numbers the writes;
one writer thread commits whatever has queued up in one transaction, and only then are callers answered and watches
told. So an acknowledged write survives kill -9 and power loss (WAL, synchronous=FULL). Values stay on disk, but for
recent events. When the disk fails, every waiting write fails and the store closes: what is true stands in the file.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from . import sqlite_file as sql
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

T = TypeVar("T")

# Events kept in memory for watches; older ones are read from the file.
RECENT_EVENTS = 1024
WATCH_BATCH = 256
# Rows of one INSERT: each size is a prepared statement of its own, kept by the connection.
ROWS_PER_STATEMENT = 128
# Revisions that one compaction transaction walks, so that writes waiting behind it wait briefly.
COMPACTION_STEP = 2000


class _Write(NamedTuple):
    event: StoreEvent
    create_revision: int
    done: asyncio.Future[int]

    def row(self) -> tuple[int, str, int, int, bytes | None]:
        event = self.event
        value = None if event.type is EventType.DELETE else event.value
        return event.revision, event.key, self.create_revision, event.previous, value


class _Job(NamedTuple):
    """Work on the writer's connection between two commits (a step of compaction)."""

    run: Callable[[sqlite3.Connection], None]
    done: asyncio.Future[None]


class SqliteStore:
    def __init__(self, path: str | Path) -> None:
        self._file = sql.StoreFile(Path(path))
        self._heads = self._file.heads()
        self._compacted = self._file.compacted
        self._assigned = self._file.newest
        self._log = EventLog(self._file.newest)
        self._queue: list[_Write | _Job] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._newest_write: asyncio.Future[int] | None = None
        self._writer = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._writer.start()

    async def get(self, key: str, *, revision: int | None = None) -> Stored | None:
        at = self._readable(revision)
        row = await self._read(lambda db: db.execute(sql.GET, (key, at)).fetchone())
        self._still_there(at)
        return Stored(*row) if row and row[1] is not None else None

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int | None = None) -> Listing:
        at = self._readable(revision)
        low, high = max(prefix, start), prefix_end(prefix)

        def read(db: sqlite3.Connection) -> Listing:
            rows = db.execute(sql.LIST, (low, high, at, limit + 1 if limit else -1)).fetchall()
            items = [Stored(*row) for row in rows]
            if not limit or len(items) <= limit:
                return Listing(items, at, "", 0)
            items.pop()
            next_key = items[-1].key + "\0"
            remaining = db.execute(sql.COUNT, (next_key, high, at)).fetchone()[0]
            return Listing(items, at, next_key, remaining)

        listing = await self._read(read)
        self._still_there(at)
        return listing

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
            events: Sequence[StoreEvent]
            if position >= self._log.floor:
                events = self._log.after(position, WATCH_BATCH)
            else:
                events = await self._history(position)
            for event in events:
                position = event.revision
                if event.key.startswith(prefix):
                    yield event

    async def compact(self, revision: int) -> None:
        if revision > self._log.newest:
            raise FutureRevision(revision, self._log.newest)
        start, self._compacted = self._compacted, max(self._compacted, revision)
        self._log.forget(revision)
        for low in range(start, revision, COMPACTION_STEP):
            await self._on_writer(_compaction_step(low, min(low + COMPACTION_STEP, revision)))

    async def current_revision(self) -> int:
        return self._log.newest

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(self._writer.join)
        # What the writer has reported on its way out still lies in the loop's queue.
        await self._settled()
        self._log.close()
        self._readers.shutdown()
        self._file.close()

    # ---- deciding, on the event loop

    def _next(self) -> int:
        if self._stopping:
            raise StoreClosed(f"the store {self._file.path} is closed")
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

    async def _write(self, event: StoreEvent, create_revision: int) -> int:
        if event.type is EventType.DELETE:
            del self._heads[event.key]
        else:
            self._heads[event.key] = (create_revision, event.revision)
        loop = self._loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        self._submit(_Write(event, create_revision, done))
        self._newest_write = done
        # Shielded: a caller that goes away does not undo a write that is already numbered.
        return await asyncio.shield(done)

    async def _settled(self) -> None:
        """Wait until every write that is numbered so far is durable or has failed."""
        if self._newest_write is not None and not self._newest_write.done():
            await asyncio.wait([self._newest_write])

    def _submit(self, work: _Write | _Job) -> None:
        with self._wake:
            if self._stopping:
                raise StoreClosed(f"the store {self._file.path} is closed")
            self._queue.append(work)
            self._wake.notify()

    async def _on_writer(self, run: Callable[[sqlite3.Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = self._loop.create_future()
        self._submit(_Job(run, done))
        await done

    def _committed(self, writes: Sequence[_Write]) -> None:
        for write in writes:
            self._log.append(write.event)
            if not write.done.done():
                write.done.set_result(write.event.revision)
        if self._log.newest - self._log.floor > 2 * RECENT_EVENTS:
            self._log.forget(self._log.newest - RECENT_EVENTS)

    def _failed(self, work: Sequence[_Write | _Job], error: sqlite3.Error) -> None:
        log.critical("writing %s failed: %s", self._file.path, error)
        self._log.close()
        for item in work:
            if not item.done.done():
                item.done.set_exception(StoreClosed(f"writing {self._file.path} failed: {error}"))
                item.done.exception()  # whoever waited for it may be gone already

    # ---- reading

    def _readable(self, revision: int | None) -> int:
        if self._stopping:
            raise StoreClosed(f"the store {self._file.path} is closed")
        newest = self._log.newest
        if revision is None:
            return newest
        if revision > newest:
            raise FutureRevision(revision, newest)
        self._still_there(revision)
        return revision

    def _still_there(self, revision: int) -> None:
        if revision < self._compacted:
            raise Compacted(revision, self._compacted)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, query, self._file.reader)

    async def _history(self, position: int) -> Sequence[StoreEvent]:
        end = min(position + WATCH_BATCH, self._log.newest)
        rows = await self._read(lambda db: db.execute(sql.EVENTS, (position, end)).fetchall())
        if position < self._compacted:
            raise Compacted(position, self._compacted)
        return [_event(row) for row in rows]

    # ---- the writer thread

    def _write_loop(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._stopping:
                    self._wake.wait()
                work, self._queue = self._queue, []
            if not work:
                return
            assert self._loop is not None
            try:
                self._commit(work)
            except sqlite3.Error as error:
                with self._wake:
                    self._stopping = True
                    work += self._queue
                    self._queue = []
                self._loop.call_soon_threadsafe(self._failed, work, error)
                return

    def _commit(self, work: Sequence[_Write | _Job]) -> None:
        assert self._loop is not None
        writes = [item for item in work if isinstance(item, _Write)]
        if writes:
            _insert(self._file.writer, [write.row() for write in writes])
            self._loop.call_soon_threadsafe(self._committed, writes)
        for item in work:
            if isinstance(item, _Job):
                item.run(self._file.writer)
                self._loop.call_soon_threadsafe(_finish, item.done)


def _insert(db: sqlite3.Connection, rows: list[tuple[int, str, int, int, bytes | None]]) -> None:
    if len(rows) <= ROWS_PER_STATEMENT:
        # A statement outside of a transaction is its own: one step for the whole group.
        db.execute(sql.insert_statement(len(rows)), [value for row in rows for value in row])
        return
    db.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), ROWS_PER_STATEMENT):
        chunk = rows[start : start + ROWS_PER_STATEMENT]
        db.execute(sql.insert_statement(len(chunk)), [value for row in chunk for value in row])
    db.execute("COMMIT")


def _compaction_step(low: int, high: int) -> Callable[[sqlite3.Connection], None]:
    def run(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute(sql.DROP_REPLACED, (low, high))
        db.execute(sql.DROP_DELETIONS, (low, high))
        db.execute("UPDATE compaction SET revision = ?", (high,))
        db.execute("COMMIT")

    return run


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _event(row: tuple[int, str, int, int, bytes | None]) -> StoreEvent:
    revision, key, _created, previous, value = row
    if value is None:
        return StoreEvent(EventType.DELETE, key, b"", previous, revision)
    return StoreEvent(EventType.UPDATE if previous else EventType.CREATE, key, value, previous, revision)
