"""NodeAffinity: the pod's nodeSelector and node affinity against the nodes' labels (and names, through matchFields).

Required terms are or-ed, the expressions of a term and-ed; a term without any matches nothing. NotIn and DoesNotExist
also match nodes that lack the label. The score is the sum of the weights of the preferred terms that match, the
largest becoming 100.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import msgspec
import numpy as np

from apimachinery.kinds.pod_affinity import NodeSelectorRequirement, NodeSelectorTerm
from scheduler.framework import Filter, Score, proportional
from scheduler.nodes import NODE_ADD, NODE_LABEL, BoolColumn, FloatColumn, LabelColumn, Nodes
from scheduler.podinfo import PodInfo


class NodeAffinity(Filter, Score):
    """Filter: nodeSelector and required terms. Score: preferred terms."""

    name = "NodeAffinity"
    events = frozenset({NODE_ADD, NODE_LABEL})
    normalizes = True

    def signature(self, pod: PodInfo) -> Hashable:
        affinity = msgspec.json.encode(pod.node_affinity) if pod.node_affinity is not None else b""
        return tuple(sorted(pod.node_selector.items())), affinity

    def skip_filter(self, pod: PodInfo) -> bool:
        affinity = pod.node_affinity
        required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
        return not pod.node_selector and required is None

    def skip_score(self, pod: PodInfo) -> bool:
        affinity = pod.node_affinity
        return affinity is None or not affinity.preferredDuringSchedulingIgnoredDuringExecution

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        mask = np.ones(nodes.count, np.bool_)
        for key, value in pod.node_selector.items():
            mask &= _looked_up(nodes.label(key), [value].__contains__, absent=False)
        affinity = pod.node_affinity
        required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
        if required is not None:
            allowed = np.zeros(nodes.count, np.bool_)
            for term in required.nodeSelectorTerms:
                allowed |= matches_term(term, nodes)
            mask &= allowed
        return mask

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        yield "node(s) didn't match Pod's node affinity/selector", np.ones(nodes.count, np.bool_)

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        total = np.zeros(nodes.count)
        if pod.node_affinity is not None:
            for wish in pod.node_affinity.preferredDuringSchedulingIgnoredDuringExecution:
                total += wish.weight * matches_term(wish.preference, nodes)
        return total

    def normalize(self, raw: FloatColumn, feasible: BoolColumn) -> FloatColumn:
        return proportional(raw, feasible)


def matches_term(term: NodeSelectorTerm, nodes: Nodes) -> BoolColumn:
    """Where all expressions and fields of the term hold."""
    if not term.matchExpressions and not term.matchFields:
        return np.zeros(nodes.count, np.bool_)
    mask = np.ones(nodes.count, np.bool_)
    for requirement in term.matchExpressions:
        mask &= _matches_label(requirement, nodes.label(requirement.key))
    for requirement in term.matchFields:
        mask &= _matches_field(requirement, nodes)
    return mask


def _matches_label(requirement: NodeSelectorRequirement, column: LabelColumn) -> BoolColumn:
    values = requirement.values
    match requirement.operator:
        case "In":
            return _looked_up(column, lambda held: held in values, absent=False)
        case "NotIn":
            return _looked_up(column, lambda held: held not in values, absent=True)
        case "Exists":
            return column.codes >= 0
        case "DoesNotExist":
            return column.codes < 0
        case "Gt":
            return _looked_up(column, lambda held: _compare(held, values) > 0, absent=False)
        case "Lt":
            return _looked_up(column, lambda held: _compare(held, values) < 0, absent=False)
    # Validation lets no other operator in; should one come, it matches nothing, as in Kubernetes.
    return np.zeros(len(column.codes), np.bool_)


def _matches_field(requirement: NodeSelectorRequirement, nodes: Nodes) -> BoolColumn:
    named = np.zeros(nodes.count, np.bool_)
    if requirement.key == "metadata.name":
        for name in requirement.values:
            position = nodes.position(name)
            if position is not None:
                named[position] = True
        if requirement.operator == "In":
            return named
        if requirement.operator == "NotIn":
            return ~named
    return np.zeros(nodes.count, np.bool_)


def _looked_up(column: LabelColumn, holds: Callable[[str], bool], *, absent: bool) -> BoolColumn:
    """`holds` of each node's value, asked once for each value that occurs; `absent` where there is none."""
    table = np.array([*(holds(value) for value in column.values), absent], np.bool_)
    return table[column.codes]  # code -1, no label, is the last entry


def _compare(held: str, values: list[str]) -> int:
    try:
        left, right = int(held), int(values[0])
    except (ValueError, IndexError):
        return 0  # not numbers: neither greater nor less
    return (left > right) - (left < right)
