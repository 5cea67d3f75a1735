"""The cluster as numpy columns: one entry a node, one column a fact, kept up to date change by change.

Nodes stand in the order of a keyed hash of (seed, node name), so that the first maximum of a score column is the
tie rule, and a node that joins or leaves does not change the order of the others. Amounts are float64 with integer
values (see `podinfo`). The snapshot also keeps two logs of touched rows, from which cached evaluations learn what
to work out again.

Whoever holds a snapshot may read it; only the cache changes it. Columns handed out are the live ones: do not write
to them."""

from __future__ import annotations

import bisect
import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apimachinery.kinds.node import Node
from scheduler.nodes import (
    NODE_ADD,
    BoolColumn,
    FloatColumn,
    IntColumn,
    LabelColumn,
    NodeFacts,
    Nodes,
    TaintKey,
    absent,
)
from scheduler.podinfo import CPU, MEMORY, PodInfo

OrderKey = tuple[int, str]


def order_key(seed: int, name: str) -> OrderKey:
    """Where a node stands among others: smaller wins ties. Stateless, the same in every process."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=str(seed).encode()[:64]).digest()
    return int.from_bytes(digest, "big"), name


@dataclass(slots=True)
class _Row:
    """One node with the pods that hold something on it, by key. `facts` is None while only its pods are known."""

    facts: NodeFacts | None
    pods: dict[str, PodInfo] = field(default_factory=dict)


class Snapshot:
    """All nodes and what their pods hold. See the module's text for who may change it."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.names: list[str] = []
        # Grows when nodes join or leave: every row number changes its meaning.
        self.generation = 0
        # Rows whose requested amounts changed, and rows of which anything else did.
        self.load_log: list[int] = []
        self.facts_log: list[int] = []
        # For cached evaluations (`classes`); never part of what a snapshot says.
        self.memo: dict[Any, Any] = {}
        self._rows: dict[str, _Row] = {}
        self._order: list[OrderKey] = []
        self._index: dict[str, int] = {}
        self._unsettled: set[str] = set()
        self._allocatable: dict[str, FloatColumn] = {}
        self._requested: dict[str, FloatColumn] = {}
        self._nonzero: dict[str, FloatColumn] = {CPU: np.zeros(0), MEMORY: np.zeros(0)}
        self._flags: dict[str, BoolColumn] = {"ready": np.zeros(0, np.bool_), "unschedulable": np.zeros(0, np.bool_)}
        self._taint_codes: IntColumn = np.zeros(0, np.int64)
        self._taint_sets: list[tuple[TaintKey, ...]] = []
        self._taint_code_of: dict[tuple[TaintKey, ...], int] = {}
        self._labels: dict[str, LabelColumn] = {}

    # Changing

    def set_node(self, node: Node) -> list[str]:
        """Add a node or take over its new state. The names of what changed; empty when nothing did that matters."""
        facts = NodeFacts.of(node)
        row = self._rows.setdefault(facts.name, _Row(None))
        old, row.facts = row.facts, facts
        if old is None:
            self._unsettled.add(facts.name)
            return [NODE_ADD]
        changes = old.changes(facts)
        if changes and facts.name not in self._unsettled:
            self._write_facts(self._index[facts.name], facts)
            self._labels.clear()
            self.facts_log.append(self._index[facts.name])
            self._shorten_logs()
        return changes

    def remove_node(self, name: str) -> None:
        """Forget a node; the pods on it are kept for the case that it comes back."""
        row = self._rows.get(name)
        if row is None or row.facts is None:
            return
        row.facts = None
        self._unsettled.add(name)
        if not row.pods:
            del self._rows[name]

    def add_pod(self, pod: PodInfo, node_name: str) -> None:
        """Let `pod` hold its requests on a node, which may be unknown yet. A pod is on one node at a time."""
        row = self._rows.setdefault(node_name, _Row(None))
        if pod.key in row.pods:
            self.remove_pod(row.pods[pod.key], node_name)
            row = self._rows.setdefault(node_name, row)
        row.pods[pod.key] = pod
        self._account(pod, node_name, 1.0)

    def remove_pod(self, pod: PodInfo, node_name: str) -> None:
        """Give back what `pod` holds on the node. Does nothing if it holds nothing there."""
        row = self._rows.get(node_name)
        if row is None or pod.key not in row.pods:
            return
        held = row.pods.pop(pod.key)
        self._account(held, node_name, -1.0)
        if row.facts is None and not row.pods:
            del self._rows[node_name]

    # Reading

    @property
    def nodes(self) -> Nodes:
        """All nodes."""
        self.settle()
        return Nodes(self, None)

    def rows(self, indices: IntColumn) -> Nodes:
        """The nodes at `indices`."""
        return Nodes(self, indices)

    def __len__(self) -> int:
        self.settle()
        return len(self.names)

    def index(self, name: str) -> int | None:
        """Row number of a node."""
        self.settle()
        return self._index.get(name)

    def pods_on(self, node_name: str) -> Iterable[PodInfo]:
        """The pods that hold something on a node, in the order in which they came."""
        row = self._rows.get(node_name)
        return row.pods.values() if row is not None else ()

    def facts(self, index: int) -> NodeFacts:
        facts = self._rows[self.names[index]].facts
        assert facts is not None, "a settled row has facts"
        return facts

    def resources(self) -> list[str]:
        """Every resource that a node offers or a pod holds, sorted."""
        return sorted(self._allocatable.keys() | self._requested.keys())

    def copy(self) -> Snapshot:
        """An independent snapshot with the same content, to try things on."""
        self.settle()
        other = copy.copy(self)
        other.memo = {}
        other.load_log, other.facts_log = [], []
        other._rows = {name: _Row(row.facts, dict(row.pods)) for name, row in self._rows.items()}
        other._allocatable = {name: column.copy() for name, column in self._allocatable.items()}
        other._requested = {name: column.copy() for name, column in self._requested.items()}
        other._nonzero = {name: column.copy() for name, column in self._nonzero.items()}
        other._flags = {name: column.copy() for name, column in self._flags.items()}
        other._taint_codes = self._taint_codes.copy()
        other._taint_sets = list(self._taint_sets)
        other._taint_code_of = dict(self._taint_code_of)
        other._labels = {}
        other._unsettled = set()
        other.names, other._order, other._index = list(self.names), list(self._order), dict(self._index)
        return other

    # Columns

    def settle(self) -> None:
        """Take joined and left nodes into the columns. Cheap when there are none."""
        if not self._unsettled:
            return
        changed = sorted(self._unsettled)
        self._unsettled.clear()
        leaving = [self._index[name] for name in changed if name in self._index and not self._known(name)]
        joining = sorted(
            order_key(self.seed, name) for name in changed if name not in self._index and self._known(name)
        )
        # A node that left and came back between two decisions keeps its row.
        staying = [name for name in changed if name in self._index and self._known(name)]
        if leaving:
            self._each_column(lambda column: np.delete(column, leaving))
            gone = set(leaving)
            self._order = [key for index, key in enumerate(self._order) if index not in gone]
        if joining:
            places = [bisect.bisect_left(self._order, key) for key in joining]
            self._each_column(lambda column: np.insert(column, places, 0))
            self._order = sorted(self._order + joining)
        self.names = [name for _, name in self._order]
        self._index = {name: index for index, name in enumerate(self.names)}
        for name in [*(name for _, name in joining), *staying]:
            self._write_row(name)
        self._labels.clear()
        self._start_generation()

    def _known(self, name: str) -> bool:
        row = self._rows.get(name)
        return row is not None and row.facts is not None

    def _start_generation(self) -> None:
        self.generation += 1
        self.load_log.clear()
        self.facts_log.clear()

    def _each_column(self, change: Any) -> None:
        for columns in (self._allocatable, self._requested, self._nonzero, self._flags):
            for name, column in columns.items():
                columns[name] = change(column)
        self._taint_codes = change(self._taint_codes)

    def _write_row(self, name: str) -> None:
        index, row = self._index[name], self._rows[name]
        assert row.facts is not None
        self._write_facts(index, row.facts)
        for column in (*self._requested.values(), *self._nonzero.values()):
            column[index] = 0.0
        for pod in row.pods.values():
            self._add_amounts(pod, index, 1.0)

    def _write_facts(self, index: int, facts: NodeFacts) -> None:
        for resource, column in self._allocatable.items():
            column[index] = facts.allocatable.get(resource, absent(resource))
        for resource, value in facts.allocatable.items():
            if resource not in self._allocatable:
                self._allocatable[resource] = np.full(len(self.names), absent(resource))
                self._allocatable[resource][index] = value
        self._flags["ready"][index] = facts.ready
        self._flags["unschedulable"][index] = facts.unschedulable
        code = self._taint_code_of.get(facts.taints)
        if code is None:
            code = self._taint_code_of[facts.taints] = len(self._taint_sets)
            self._taint_sets.append(facts.taints)
        self._taint_codes[index] = code

    def _account(self, pod: PodInfo, node_name: str, sign: float) -> None:
        index = self._index.get(node_name)
        if index is None or node_name in self._unsettled:
            return  # its row is written whole when it settles
        self._add_amounts(pod, index, sign)
        self.load_log.append(index)
        self._shorten_logs()

    def _shorten_logs(self) -> None:
        if len(self.load_log) + len(self.facts_log) > 4 * len(self.names) + 1000:
            self._start_generation()  # nobody reads that far back: starting over is cheaper

    def _add_amounts(self, pod: PodInfo, index: int, sign: float) -> None:
        for resource, value in pod.requests.items():
            column = self._requested.get(resource)
            if column is None:
                column = self._requested[resource] = np.zeros(len(self.names))
            column[index] += sign * value
        self._nonzero[CPU][index] += sign * pod.nonzero_cpu
        self._nonzero[MEMORY][index] += sign * pod.nonzero_memory

    def _label(self, key: str) -> LabelColumn:
        column = self._labels.get(key)
        if column is None:
            codes: dict[str, int] = {}
            held = [self.facts(index).labels.get(key) for index in range(len(self.names))]
            numbers = [-1 if value is None else codes.setdefault(value, len(codes)) for value in held]
            column = self._labels[key] = LabelColumn(np.array(numbers, np.int64), tuple(codes))
        return column
