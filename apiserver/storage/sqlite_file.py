"""The file of the SQLite engine: its schema, opening and checking it, and the SQL of every statement.

A row is one revision of one key; rows are only added, and removed by compaction. It promises that a file which is not
ours, of another schema version, damaged, or in use by another process is refused with a message that names it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from .interface import FIRST_REVISION, StoreUnusable

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
SELECT revision, key, create_revision, previous, value FROM revisions
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


def insert_statement(rows: int) -> str:
    """One statement for `rows` rows: within it no interpreter lock is held, but each statement has to get it back."""
    columns = "INSERT INTO revisions (revision, key, create_revision, previous, value) VALUES "
    return columns + ",".join(["(?,?,?,?,?)"] * rows)


class StoreFile:
    """An open, checked and locked store file. `compacted` and `newest` are its revisions at the time of opening."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = _lock(path)
        try:
            self.writer = self._open()
            self.reader = self._connect()
            self.reader.execute("PRAGMA query_only = ON")
            self.compacted: int = self.writer.execute("SELECT revision FROM compaction").fetchone()[0]
            last = self.writer.execute("SELECT max(revision) FROM revisions").fetchone()[0]
            self.newest: int = max(last or 0, self.compacted, FIRST_REVISION)
        except sqlite3.Error as error:
            os.close(self._lock_fd)
            raise StoreUnusable(
                f"{path} is not a usable state file: {error}; restore a backup or move it away to start anew"
            ) from error
        except BaseException:
            os.close(self._lock_fd)
            raise

    def heads(self) -> dict[str, tuple[int, int]]:
        """Every live key with its (create_revision, mod_revision)."""
        try:
            return {key: (created, modified) for key, created, modified in self.writer.execute(HEADS)}
        except sqlite3.Error as error:
            raise StoreUnusable(f"{self.path} is damaged: {error}; restore a backup") from error

    def close(self) -> None:
        self.reader.close()
        self.writer.close()
        os.close(self._lock_fd)

    def _connect(self) -> sqlite3.Connection:
        # Each connection belongs to one thread at a time, but not always to the one that made it.
        return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=256)

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables == 0 and application == 0:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
        elif application != APPLICATION_ID:
            raise StoreUnusable(f"{self.path} is a database of another program: give another --store or --data-dir")
        elif version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self.path} has schema version {version}, and this program knows {SCHEMA_VERSION}: "
                "use the version that wrote it"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")


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
