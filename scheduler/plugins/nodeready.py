"""NodeReady: nodes whose agent does not say that it is ready take no new pods.

In Kubernetes a controller turns the Ready condition into a taint, `node.kubernetes.io/not-ready`, and TaintToleration
does the rest. Until that controller exists the condition is read directly, with the same exception: pods that tolerate
that taint (as a DaemonSet's do) may go there. A node without the condition is new, and not ready.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from scheduler.framework import Filter
from scheduler.nodes import NODE_ADD, NODE_CONDITION, BoolColumn, Nodes
from scheduler.plugins.tainttoleration import tolerates
from scheduler.podinfo import PodInfo

TAINT = ("node.kubernetes.io/not-ready", "", "NoSchedule")


class NodeReady(Filter):
    """Refuses nodes that are not ready."""

    name = "NodeReady"
    events = frozenset({NODE_ADD, NODE_CONDITION})

    def signature(self, pod: PodInfo) -> Hashable:
        return tolerates(pod.tolerations, TAINT)

    def skip_filter(self, pod: PodInfo) -> bool:
        return tolerates(pod.tolerations, TAINT)

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        return nodes.ready

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        yield "node(s) were not ready", np.ones(nodes.count, np.bool_)
