"""Evaluations: what a policy says of every node for one class of pods, kept and brought up to date row by row.

A pod's class is its signature. The snapshot logs which rows were touched; an evaluation works out those again and
leaves the rest. The answer is the same as that of a fresh evaluation, always: keeping is a matter of speed alone.
Evaluations live in the snapshot's `memo`, the least recently used go when they would take more than MEMORY_BYTES.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np

from scheduler.framework import Filter, Policy, Score
from scheduler.nodes import BoolColumn, FloatColumn, IntColumn, Nodes
from scheduler.podinfo import PodInfo
from scheduler.snapshot import Snapshot

MEMORY_BYTES = 64 << 20
# Above this share of touched rows a whole column is cheaper than picking rows.
WHOLE_SHARE = 0.5

Weighted = tuple[Score, float]


def evaluate(snapshot: Snapshot, pod: PodInfo, policy: Policy) -> Evaluation:
    """The policy's verdict on every node, up to date. Valid until the snapshot's next change."""
    snapshot.settle()
    signature = policy.signature(pod)
    if signature is None:
        return Evaluation(snapshot, pod, policy)
    kept: OrderedDict[Hashable, Evaluation] = snapshot.memo.setdefault("evaluations", OrderedDict())
    key = (policy, signature)
    found = kept.get(key)
    if found is None or found.generation != snapshot.generation:
        found = kept[key] = Evaluation(snapshot, pod, policy)
        kept.move_to_end(key)
        if len(kept) * found.size_bytes > MEMORY_BYTES and len(kept) > 1:
            kept.popitem(last=False)
    else:
        try:
            found.update(snapshot, pod)
        except Exception:
            del kept[key]  # a plugin failed half-way: what is kept is neither old nor new
            raise
        kept.move_to_end(key)
    return found


class Evaluation:
    """`ranked`: the total score of each node, -inf where the pod may not run."""

    def __init__(self, snapshot: Snapshot, pod: PodInfo, policy: Policy) -> None:
        count = len(snapshot.names)
        scores = [row for row in policy.weighted if not row[0].skip_score(pod)]
        self.generation = snapshot.generation
        self._filters = _split([plugin for plugin in policy.filters if not plugin.skip_filter(pod)])
        self._plain = _split_scores([row for row in scores if not row[0].normalizes])
        self._relative = [row for row in scores if row[0].normalizes]
        self._constants = [_constant(plugin) for plugin, _ in self._relative]
        # In two layers, so that a pod that comes or goes costs only the plugins that read load.
        self._allowed: BoolColumn = np.ones(count, np.bool_)
        self._base: FloatColumn = np.zeros(count)
        self.feasible: BoolColumn = np.ones(count, np.bool_)
        self._absolute: FloatColumn = np.zeros(count)
        self._raw: list[FloatColumn] = [np.zeros(count) for _ in self._relative]
        # Whether a raw column is all zeros: then normalizing it gives a constant, and rows can be ranked one by one.
        self._flat = [True] * len(self._relative)
        self.ranked: FloatColumn = np.zeros(count)
        self.size_bytes = count * (2 + 8 * (3 + len(self._raw))) + 1
        self._facts_seen = self._load_seen = 0
        self._work_out(snapshot, pod, None, facts=True)
        self._facts_seen, self._load_seen = len(snapshot.facts_log), len(snapshot.load_log)

    def update(self, snapshot: Snapshot, pod: PodInfo) -> None:
        """Work out again what was touched since the last time."""
        facts, load = snapshot.facts_log[self._facts_seen :], snapshot.load_log[self._load_seen :]
        if not facts and not load:
            return
        self._facts_seen, self._load_seen = len(snapshot.facts_log), len(snapshot.load_log)
        touched = sorted({*facts, *load})
        rows = np.array(touched, np.int64) if len(touched) < WHOLE_SHARE * len(snapshot.names) else None
        self._work_out(snapshot, pod, rows, facts=bool(facts))

    def _work_out(self, snapshot: Snapshot, pod: PodInfo, rows: IntColumn | None, *, facts: bool) -> None:
        nodes = snapshot.nodes if rows is None else snapshot.rows(rows)
        where: IntColumn | slice = slice(None)
        if rows is not None:
            where = rows if len(rows) > 1 else slice(int(rows[0]), int(rows[0]) + 1)
        if facts:
            allowed = np.ones(nodes.count, np.bool_)
            for filter_ in self._filters[False]:
                allowed &= filter_.filter(pod, nodes)
            self._allowed[where] = allowed
        feasible = self._allowed[where].copy()
        for filter_ in self._filters[True]:
            feasible &= filter_.filter(pod, nodes)
        self.feasible[where] = feasible
        if facts:
            self._base[where] = _sum(self._plain[False], pod, nodes, feasible)
        absolute = self._base[where] + _sum(self._plain[True], pod, nodes, feasible)
        self._absolute[where] = absolute
        for index, (plugin, _) in enumerate(self._relative):
            if facts or _follows_load(plugin):
                self._raw[index][where] = _score(plugin, pod, nodes, feasible)
                self._flat[index] = not self._raw[index].any()
        self._rank(where)
        if np.isnan(self.ranked[where]).any():
            raise ValueError(self._blame(snapshot, pod))

    def _rank(self, where: IntColumn | slice) -> None:
        """Put the layers together: for the touched rows, or for all if one row's score may move another's."""
        if not all(self._flat) and self.feasible.any():
            where = slice(None)
        total = self._absolute[where]
        for index, (plugin, weight) in enumerate(self._relative):
            if self._flat[index] or not self.feasible.any():
                total = total + weight * self._constants[index]
            else:
                total = total + weight * plugin.normalize(self._raw[index], self.feasible)
        self.ranked[where] = np.where(self.feasible[where], total, -np.inf)

    def _blame(self, snapshot: Snapshot, pod: PodInfo) -> str:
        """Who scored NaN, and where."""
        rows = [*self._plain[False], *self._plain[True], *self._relative]
        for plugin, _ in rows:
            wrong = np.isnan(_score(plugin, pod, snapshot.nodes, self.feasible)) & self.feasible
            if wrong.any():
                node = snapshot.names[int(np.flatnonzero(wrong)[0])]
                return f"plugin {plugin.name} scored NaN for pod {pod.key} on node {node}"
        return f"the scores of {', '.join(plugin.name for plugin, _ in rows)} add up to NaN for pod {pod.key}"


def _constant(plugin: Score) -> float:
    """What normalizing makes of a column of zeros."""
    return float(plugin.normalize(np.zeros(1), np.ones(1, np.bool_))[0])


def _sum(rows: list[Weighted], pod: PodInfo, nodes: Nodes, feasible: BoolColumn) -> FloatColumn:
    if not rows:
        return np.zeros(nodes.count)
    columns = (weight * _score(plugin, pod, nodes, feasible) for plugin, weight in rows)
    return functools.reduce(np.add, columns)


def _score(plugin: Score, pod: PodInfo, nodes: Nodes, feasible: BoolColumn) -> FloatColumn:
    if plugin.feasible_only:
        column = np.zeros(nodes.count)
        column[feasible] = plugin.score(pod, nodes.where(feasible))
    else:
        column = plugin.score(pod, nodes)
    return column


def _split(filters: Sequence[Filter]) -> dict[bool, list[Filter]]:
    return {load: [plugin for plugin in filters if plugin.reads_load == load] for load in (False, True)}


def _split_scores(scores: list[Weighted]) -> dict[bool, list[Weighted]]:
    return {load: [row for row in scores if _follows_load(row[0]) == load] for load in (False, True)}


def _follows_load(plugin: Score) -> bool:
    """Whether a pod that comes or goes may change scores; it may also make a node feasible that had none yet."""
    return plugin.reads_load or plugin.feasible_only
