"""Encoded objects and the events about them: bytes once.

Stored bytes carry no resourceVersion, since it is only known after the write. It is spliced in once, right behind the
opening brace of `metadata`, whose place is the same for all objects of a kind. Everything that a get, a list or a watch
sends is these bytes; what selectors look at is decoded at most once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from apimachinery import codec
from apimachinery.kind import Kind

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"
ERROR: Final = "ERROR"


class Layout:
    """Where things lie in the bytes of one kind, and in the store."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.prefix = f"/registry/{_folder(kind)}/"
        self._head = f'{{"apiVersion":"{kind.api_version}","kind":"{kind.kind}","metadata":{{'.encode()

    def key(self, namespace: str, name: str) -> str:
        return f"{self.prefix}{namespace}/{name}" if self.kind.namespaced else self.prefix + name

    def range(self, namespace: str = "") -> str:
        """The key prefix of a namespace, or of the whole kind."""
        return f"{self.prefix}{namespace}/" if namespace else self.prefix

    def splice(self, value: bytes, revision: int) -> bytes:
        """Stored bytes with their resourceVersion."""
        at = len(self._head)
        assert value.startswith(self._head), f"{self.kind.kind}: unexpected layout {value[:80]!r}"
        # Metadata is never empty: every object has a name.
        return b'%b"resourceVersion":"%d",%b' % (value[:at], revision, value[at:])

    def cached(self, key: str, value: bytes, revision: int) -> CachedObject:
        """The object of a stored value."""
        return CachedObject(self, key, self.splice(value, revision), revision)

    def moved(self, obj: CachedObject, revision: int) -> CachedObject:
        """The same state under another revision: what a DELETED event shows."""
        at = len(self._head)
        end = obj.data.index(b",", at) + 1
        data = self.splice(obj.data[:at] + obj.data[end:], revision)
        return CachedObject(self, obj.key, data, revision, obj.facts_if_known)


def _folder(kind: Kind) -> str:
    """Kubernetes' own layout: built-in kinds by their plural, custom ones below their group."""
    builtin = "." not in kind.group or kind.group.endswith(".k8s.io")
    return kind.plural if builtin else f"{kind.group}/{kind.plural}"


Facts = tuple[Mapping[str, str], Mapping[str, str]]


class CachedObject:
    """One version of one object, as bytes with its resourceVersion. Immutable."""

    __slots__ = ("_facts", "data", "key", "layout", "revision")

    def __init__(self, layout: Layout, key: str, data: bytes, revision: int, facts: Facts | None = None) -> None:
        self.layout = layout
        self.key = key
        self.data = data
        self.revision = revision
        self._facts = facts

    def decode(self) -> Any:
        """A fresh struct, for the caller to change."""
        return codec.read(self.layout.kind.type, self.data)

    @property
    def facts(self) -> Facts:
        """(labels, field values): what selectors look at."""
        if self._facts is None:
            self.learn(self.decode())
            assert self._facts is not None
        return self._facts

    @property
    def facts_if_known(self) -> Facts | None:
        return self._facts

    def learn(self, obj: Any) -> None:
        """Take the facts from a struct of this very state, which saves a decode."""
        self._facts = (obj.metadata.labels, self.layout.kind.field_values(obj))


class CacheEvent:
    """One write as watches see it. `object` is the state after it (for a deletion: the last state, under the revision
    of the deletion), `previous` the state before it. Its frames are built once, whoever asks."""

    __slots__ = ("_frames", "_left", "object", "previous", "revision", "seconds", "type")

    def __init__(self, type_: str, obj: CachedObject, previous: CachedObject | None, seconds: float) -> None:
        self.type = type_
        self.object = obj
        self.previous = previous
        self.revision = obj.revision
        self.seconds = seconds
        self._left: CachedObject | None = None
        self._frames: dict[str, bytes] = {}

    @property
    def left(self) -> CachedObject:
        """The state before the write under its revision: for watches whose selector the object has left."""
        if self._left is None:
            assert self.previous is not None
            self._left = (
                self.object if self.type == DELETED else self.previous.layout.moved(self.previous, self.revision)
            )
        return self._left

    def shown(self, as_type: str) -> CachedObject:
        return self.left if as_type == DELETED else self.object

    def frame(self, as_type: str) -> bytes:
        """The line of the watch stream."""
        found = self._frames.get(as_type)
        if found is None:
            found = self._frames[as_type] = frame(as_type, self.shown(as_type).data)
        return found


def frame(as_type: str, data: bytes) -> bytes:
    """One line of a watch stream."""
    return b'{"type":"%b","object":%b}\n' % (as_type.encode(), data)
