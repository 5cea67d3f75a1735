"""NodeUnschedulable: nodes that are cordoned (`spec.unschedulable`) take no new pods but those that tolerate it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from scheduler.framework import Filter
from scheduler.nodes import NODE_ADD, NODE_TAINT, BoolColumn, Nodes
from scheduler.plugins.tainttoleration import tolerates
from scheduler.podinfo import PodInfo

TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")


class NodeUnschedulable(Filter):
    """Refuses cordoned nodes."""

    name = "NodeUnschedulable"
    events = frozenset({NODE_ADD, NODE_TAINT})

    def signature(self, pod: PodInfo) -> Hashable:
        return tolerates(pod.tolerations, TAINT)

    def skip_filter(self, pod: PodInfo) -> bool:
        return tolerates(pod.tolerations, TAINT)

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        return ~nodes.unschedulable

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        yield "node(s) were unschedulable", np.ones(nodes.count, np.bool_)
