"""The seam below the API server: a revisioned key-value store, in the manner of etcd.

It owns the order of all writes: one global revision counter, every write takes exactly one revision and is exactly one
event. It promises compare-and-swap by the revision of the last write to a key, reads at any revision that is not
compacted, and watches that never skip an event. What keys and values mean is left to the layers above.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

# The revision of an empty store, as in etcd: 0 stays free to mean "none".
FIRST_REVISION = 1


class Stored(NamedTuple):
    """One version of one key: `create_revision` is the write that made the key, `mod_revision` this version's."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


class Listing(NamedTuple):
    """A page of keys in byte order, all as they were at `revision`.

    `next_key` is the `start` of the next page, "" when this was the last; `remaining` counts the keys after this page.
    """

    items: Sequence[Stored]
    revision: int
    next_key: str
    remaining: int


class EventType(Enum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class StoreEvent(NamedTuple):
    """One write. `value` is b"" for a deletion; `previous` is the revision of the version it replaced, 0 for none.

    The replaced value can be had by `get(key, revision=previous)` until compaction; the watch cache holds it anyway.
    """

    type: EventType
    key: str
    value: bytes
    previous: int
    revision: int


class StoreError(Exception):
    """Base of everything that a store raises on purpose."""


class KeyExists(StoreError):
    def __init__(self, key: str) -> None:
        super().__init__(f"key {key} already exists")
        self.key = key


class RevisionMismatch(StoreError):
    """The key is not at the expected revision. `current` is its revision now, 0 when it does not exist."""

    def __init__(self, key: str, expected: int, current: int) -> None:
        super().__init__(f"key {key} is at revision {current}, not {expected}")
        self.key, self.expected, self.current = key, expected, current


class Compacted(StoreError):
    def __init__(self, revision: int, compacted: int) -> None:
        super().__init__(f"revision {revision} has been compacted: the oldest is {compacted}")
        self.revision, self.compacted = revision, compacted


class FutureRevision(StoreError):
    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} lies in the future: the newest is {current}")
        self.revision, self.current = revision, current


class StoreClosed(StoreError):
    """The store was closed, or its disk failed; nothing more will be written."""


class StoreUnusable(StoreError):
    """The store cannot be opened; the message names the file and what to do."""


class Store(Protocol):
    """Life cycle: an engine is opened by its constructor, used from one event loop, and ended by `close`.

    After a crash, opening it again shows every write that was acknowledged. Values and keys are immutable, so what a
    verb returns may be kept. A write is visible to reads and watches only after it is durable.
    """

    async def get(self, key: str, *, revision: int | None = None) -> Stored | None:
        """The key's version at `revision` (newest when None); None when it did not exist. Compacted, FutureRevision."""

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int | None = None) -> Listing:
        """The keys that begin with `prefix`, from `start` on, at most `limit` (0: all). Compacted, FutureRevision."""

    async def create(self, key: str, value: bytes) -> int:
        """Write a key that must not exist; its revision. KeyExists."""

    async def update(self, key: str, value: bytes, *, expected: int) -> int:
        """Replace the version `expected` of a key; the new revision. RevisionMismatch."""

    async def delete(self, key: str, *, expected: int) -> int:
        """Remove a key that is at revision `expected`; the revision of the deletion. RevisionMismatch."""

    def watch(self, prefix: str, *, from_revision: int) -> AsyncGenerator[StoreEvent, None]:
        """Every event after `from_revision` below `prefix`, in order, without end; Compacted when history is missing.

        Ends when the store is closed. The caller closes the generator (`aclose`) when it stops early.
        """

    async def compact(self, revision: int) -> None:
        """Forget versions that were replaced or deleted at or before `revision`. FutureRevision."""

    async def current_revision(self) -> int:
        """The revision of the newest durable write."""

    async def close(self) -> None:
        """End all watches, finish pending writes. Idempotent."""


def prefix_end(prefix: str) -> str:
    """The smallest key that is greater than every key below `prefix`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
