"""The file of the SQLite engine: its schema, opening and checking it, and the SQL of every statement.

A row is one revision of one key; rows are only added, and removed by compaction. It promises that a file which is not
ours, of another schema version, damaged, or in use by another process is refused with a message that names it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .interface import FIRST_REVISION, StoreUnusable

log = logging.getLogger(__name__)

# "pctl" in ASCII; SQLite keeps it in the file's head, so that a foreign database is recognised.
APPLICATION_ID = 0x7063746C
SCHEMA_VERSION = 1

SCHEMA = f"""
BEGIN;
CREATE TABLE revisions (
  revision INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  create_revision INTEGER NOT NULL,
  previous INTEGER NOT NULL,
  value BLOB
);
CREATE INDEX revisions_by_key ON revisions (key, revision);
CREATE TABLE compaction (revision INTEGER NOT NULL);
INSERT INTO compaction VALUES (0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

# The keys of a range as of a revision; a value that is NULL is a deletion.
LIST = """
WITH latest AS (
  SELECT max(revision) AS revision FROM revisions WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key
)
SELECT r.key, r.value, r.create_revision, r.revision FROM latest JOIN revisions r USING (revision)
WHERE r.value IS NOT NULL ORDER BY r.key LIMIT ?
"""
COUNT = """
WITH latest AS (
  SELECT max(revision) AS revision FROM revisions WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key
)
SELECT count(*) FROM latest JOIN revisions r USING (revision) WHERE r.value IS NOT NULL
"""
GET = """
SELECT key, value, create_revision, revision FROM revisions
WHERE key = ? AND revision <= ? ORDER BY revision DESC LIMIT 1
"""
EVENTS = """
SELECT revision, key, previous, value FROM revisions
WHERE revision > ? AND revision <= ? ORDER BY revision
"""
HEADS = """
WITH latest AS (SELECT max(revision) AS revision FROM revisions GROUP BY key)
SELECT r.key, r.create_revision, r.revision FROM latest JOIN revisions r USING (revision) WHERE r.value IS NOT NULL
"""
# Every row names the one it replaced, so compaction walks the table by its primary key and never sorts.
DROP_REPLACED = """
DELETE FROM revisions WHERE revision IN (
  SELECT previous FROM revisions WHERE revision > ? AND revision <= ? AND previous > 0
)
"""
DROP_DELETIONS = "DELETE FROM revisions WHERE revision > ? AND revision <= ? AND value IS NULL"


# Rows of one INSERT: each size is a prepared statement of its own, kept by the connection.
ROWS_PER_STATEMENT = 128
# The log is folded into the database when it has grown by so many bytes of values (and pages around them).
CHECKPOINT_BYTES = 8 << 20

Row = tuple[int, str, int, int, bytes | None]


def insert_statement(rows: int) -> str:
    """One statement for `rows` rows."""
    columns = "INSERT INTO revisions (revision, key, create_revision, previous, value) VALUES "
    return columns + ",".join(["(?,?,?,?,?)"] * rows)


class StoreFile:
    """An open, checked and locked store file. `compacted` and `newest` are its revisions at the time of opening.

    `insert` leaves the rows in the kernel's hands: they are durable when `log_descriptor` has been synced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = _lock(path)
        try:
            self.db = self._open()
            self.compacted: int = self.db.execute("SELECT revision FROM compaction").fetchone()[0]
            last = self.db.execute("SELECT max(revision) FROM revisions").fetchone()[0]
        except sqlite3.Error as error:
            os.close(self._lock_fd)
            raise StoreUnusable(
                f"{path} is not a usable state file: {error}; restore a backup or move it away to start anew"
            ) from error
        except BaseException:
            os.close(self._lock_fd)
            raise
        self.newest: int = max(last or 0, self.compacted, FIRST_REVISION)
        self.log_descriptor = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        self._checkpointer = ThreadPoolExecutor(1, thread_name_prefix="store-checkpoint")
        self._checkpoint: asyncio.Future[None] | None = None
        self._unfolded_bytes = 0

    def heads(self) -> dict[str, tuple[int, int]]:
        """Every live key with its (create_revision, mod_revision)."""
        try:
            return {key: (created, modified) for key, created, modified in self.db.execute(HEADS)}
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self.path} is damaged: {error}; restore a backup") from error

    def insert(self, rows: Sequence[Row]) -> None:
        """Add rows in one transaction. sqlite3.Error when the disk refuses."""
        if len(rows) <= ROWS_PER_STATEMENT:
            self.db.execute(insert_statement(len(rows)), [value for row in rows for value in row])
        else:
            self.db.execute("BEGIN IMMEDIATE")
            for start in range(0, len(rows), ROWS_PER_STATEMENT):
                chunk = rows[start : start + ROWS_PER_STATEMENT]
                self.db.execute(insert_statement(len(chunk)), [value for row in chunk for value in row])
            self.db.execute("COMMIT")
        self._unfolded_bytes += sum(len(row[4] or b"") + 256 for row in rows)

    def compact(self, low: int, high: int) -> None:
        """Remove what was replaced or deleted by the revisions after `low` up to `high`."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.execute(DROP_REPLACED, (low, high))
            self.db.execute(DROP_DELETIONS, (low, high))
            self.db.execute("UPDATE compaction SET revision = ?", (high,))
            self.db.execute("COMMIT")
        except sqlite3.Error:
            # Left open, the transaction would take in the writes that follow, and none of them would be kept.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def checkpoint_when_due(self) -> None:
        """Fold the log into the database in a thread, when it has grown enough; nobody waits for it."""
        if self._unfolded_bytes < CHECKPOINT_BYTES or (self._checkpoint and not self._checkpoint.done()):
            return
        self._unfolded_bytes = 0
        self._checkpoint = asyncio.get_running_loop().run_in_executor(self._checkpointer, self._fold)
        self._checkpoint.add_done_callback(_report_checkpoint)

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        self._checkpointer.shutdown()
        os.close(self.log_descriptor)
        self.db.close()
        os.close(self._lock_fd)

    def _fold(self) -> None:
        db = sqlite3.connect(self.path, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            db.close()

    def _open(self) -> sqlite3.Connection:
        _make_private(self.path)
        db = sqlite3.connect(self.path, isolation_level=None, cached_statements=256)
        try:
            self._check(db)
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0 and application == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)
        elif application != APPLICATION_ID:
            raise StoreUnusable(f"{self.path} is a database of another program: give another --store or --data-dir")
        elif version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self.path} has schema version {version}, and this program knows {SCHEMA_VERSION}: "
                "use the version that wrote it"
            )
        db.execute("PRAGMA journal_mode = WAL")
        # With this write the log exists, and what an earlier process left in it is durable before anybody reads it.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("UPDATE compaction SET revision = revision")
        _sync_directory(self.path.parent)
        # From here on the store itself says when the log is synced and folded.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA journal_size_limit = 67108864")


def _report_checkpoint(done: asyncio.Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.error("folding the write-ahead log failed: %s", error)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_private(path: Path) -> None:
    """Secrets are in it: only its owner reads the database, and its log, which SQLite gives the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if each.exists():
                each.chmod(0o600)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be opened: {error.strerror or error}") from error


def _lock(path: Path) -> int:
    """A lock that dies with its process; on a file apart: closing a descriptor of the database drops its locks"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StoreUnusable(f"{path} is in use by another process") from error
    return descriptor
