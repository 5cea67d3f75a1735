"""What plugins see of nodes: columns over some or all of them, or one node at a time; and the facts that make a column.

These are views of a `Snapshot`: valid until its next change, read-only by agreement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from apimachinery.kinds.node import Node
from scheduler.podinfo import PIDS, Amounts, PodInfo, amount

if TYPE_CHECKING:
    from scheduler.snapshot import Snapshot

FloatColumn = NDArray[np.float64]
BoolColumn = NDArray[np.bool_]
IntColumn = NDArray[np.int64]
N = TypeVar("N", bound=np.generic)
# (key, value, effect)
TaintKey = tuple[str, str, str]

# What can change about a node, by the names of Kubernetes' cluster events.
NODE_ADD = "NodeAdd"
NODE_ALLOCATABLE = "UpdateNodeAllocatable"
NODE_LABEL = "UpdateNodeLabel"
NODE_TAINT = "UpdateNodeTaint"
NODE_CONDITION = "UpdateNodeCondition"


@dataclass(slots=True)
class NodeFacts:
    """What a Node object says that matters here."""

    name: str
    allocatable: Amounts
    labels: dict[str, str]
    taints: tuple[TaintKey, ...]
    unschedulable: bool
    ready: bool

    @classmethod
    def of(cls, node: Node) -> NodeFacts:
        return cls(
            name=node.metadata.name,
            allocatable={name: amount(name, text) for name, text in node.status.allocatable.items()},
            labels=dict(node.metadata.labels),
            taints=tuple((taint.key, taint.value, taint.effect) for taint in node.spec.taints),
            unschedulable=bool(node.spec.unschedulable),
            ready=any(each.type == "Ready" and each.status == "True" for each in node.status.conditions),
        )

    def changes(self, new: NodeFacts) -> list[str]:
        """The names of what differs."""
        found = []
        if self.allocatable != new.allocatable:
            found.append(NODE_ALLOCATABLE)
        if self.labels != new.labels:
            found.append(NODE_LABEL)
        if self.taints != new.taints or self.unschedulable != new.unschedulable:
            found.append(NODE_TAINT)
        if self.ready != new.ready:
            found.append(NODE_CONDITION)
        return found


@dataclass(frozen=True, slots=True)
class LabelColumn:
    """One label over all nodes: codes[i] is the index in `values` of node i's value, -1 where it has none."""

    codes: IntColumn
    values: tuple[str, ...]


def absent(resource: str) -> float:
    """What a node has of a resource that it does not report: nothing, but no limit on processes."""
    return np.inf if resource == PIDS else 0.0


class Nodes:
    """Some or all nodes of a snapshot, as columns of one length. What plugins get to see; valid until the next
    change."""

    __slots__ = ("_indices", "_pick", "_snapshot", "count")

    def __init__(self, snapshot: Snapshot, indices: IntColumn | None) -> None:
        self._snapshot = snapshot
        self._indices = indices
        # One row is the usual case of an update: a slice is taken much faster than an index array.
        one = int(indices[0]) if indices is not None and len(indices) == 1 else None
        self._pick = indices if one is None else slice(one, one + 1)
        self.count = len(snapshot.names) if indices is None else len(indices)

    def allocatable(self, resource: str) -> FloatColumn:
        """What pods may have in all: millicores, bytes, counts."""
        column = self._snapshot._allocatable.get(resource)
        return np.full(self.count, absent(resource)) if column is None else self._take(column)

    def requested(self, resource: str) -> FloatColumn:
        """What pods hold."""
        column = self._snapshot._requested.get(resource)
        return np.zeros(self.count) if column is None else self._take(column)

    def nonzero_requested(self, resource: str) -> FloatColumn:
        """What pods hold, with Kubernetes' defaults for those that ask for nothing; cpu and memory only."""
        return self._take(self._snapshot._nonzero[resource])

    @property
    def ready(self) -> BoolColumn:
        return self._take(self._snapshot._flags["ready"])

    @property
    def unschedulable(self) -> BoolColumn:
        return self._take(self._snapshot._flags["unschedulable"])

    @property
    def taint_codes(self) -> IntColumn:
        """Index of each node's taints in `taint_sets`."""
        return self._take(self._snapshot._taint_codes)

    @property
    def taint_sets(self) -> list[tuple[TaintKey, ...]]:
        """Every combination of taints that occurs or occurred."""
        return self._snapshot._taint_sets

    def label(self, key: str) -> LabelColumn:
        column = self._snapshot._label(key)
        return column if self._indices is None else LabelColumn(column.codes[self._indices], column.values)

    @property
    def names(self) -> list[str]:
        names = self._snapshot.names
        return names if self._indices is None else [names[index] for index in self._indices]

    def where(self, mask: BoolColumn) -> Nodes:
        """Those of them where `mask` holds."""
        chosen = np.flatnonzero(mask)
        return Nodes(self._snapshot, chosen if self._indices is None else self._indices[chosen])

    def position(self, name: str) -> int | None:
        """Where in these columns a node stands."""
        index = self._snapshot._index.get(name)
        if index is None or self._indices is None:
            return index
        found = np.flatnonzero(self._indices == index)
        return int(found[0]) if len(found) else None

    def pods_on(self, name: str) -> Iterable[PodInfo]:
        return self._snapshot.pods_on(name)

    def __iter__(self) -> Iterator[NodeView]:
        indices = range(self.count) if self._indices is None else (int(index) for index in self._indices)
        return (NodeView(self._snapshot, index) for index in indices)

    def _take(self, column: NDArray[N]) -> NDArray[N]:
        return column if self._pick is None else column[self._pick]


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, for plugins that look at nodes one by one."""

    snapshot: Snapshot
    row: int

    @property
    def name(self) -> str:
        return self.snapshot.names[self.row]

    @property
    def labels(self) -> Mapping[str, str]:
        return self.snapshot.facts(self.row).labels

    @property
    def taints(self) -> tuple[TaintKey, ...]:
        return self.snapshot.facts(self.row).taints

    @property
    def pods(self) -> Iterable[PodInfo]:
        return self.snapshot.pods_on(self.name)

    def allocatable(self, resource: str) -> float:
        return self.snapshot.facts(self.row).allocatable.get(resource, absent(resource))

    def requested(self, resource: str) -> float:
        column = self.snapshot._requested.get(resource)
        return 0.0 if column is None else float(column[self.row])

    def free(self, resource: str) -> float:
        return self.allocatable(resource) - self.requested(resource)
