"""NodeName: a pod that names its node fits there only. Such pods rarely come this way: naming a node is being bound."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from scheduler.framework import Filter
from scheduler.nodes import NODE_ADD, BoolColumn, Nodes
from scheduler.podinfo import PodInfo


class NodeName(Filter):
    """Refuses all nodes but the one in `spec.nodeName`."""

    name = "NodeName"
    events = frozenset({NODE_ADD})

    def signature(self, pod: PodInfo) -> Hashable:
        return pod.node_name

    def skip_filter(self, pod: PodInfo) -> bool:
        return not pod.node_name

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        mask = np.zeros(nodes.count, np.bool_)
        position = nodes.position(pod.node_name)
        if position is not None:
            mask[position] = True
        return mask

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        yield "node(s) didn't match the requested node name", np.ones(nodes.count, np.bool_)
