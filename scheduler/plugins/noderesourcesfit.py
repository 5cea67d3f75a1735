"""NodeResourcesFit: what a pod asks for must be free, for cpu, memory, ephemeral-storage, pods, pids and every
extended resource.

A resource that a node does not report is not there, but for pids, which are then unlimited. A node that is already
overcommitted in a resource is no obstacle for a pod that asks for none of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from scheduler.framework import ASSIGNED_POD_DELETE, Filter
from scheduler.nodes import NODE_ADD, NODE_ALLOCATABLE, BoolColumn, Nodes
from scheduler.podinfo import PODS, PodInfo


class NodeResourcesFit(Filter):
    """Refuses nodes with too little left."""

    name = "NodeResourcesFit"
    reads_load = True
    events = frozenset({NODE_ADD, NODE_ALLOCATABLE, ASSIGNED_POD_DELETE})

    def signature(self, pod: PodInfo) -> Hashable:
        return tuple(pod.requests.items())

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        mask = np.ones(nodes.count, np.bool_)
        for resource, ask in pod.requests.items():
            mask &= _fits(nodes, resource, ask)
        return mask

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        for resource, ask in pod.requests.items():
            yield "Too many pods" if resource == PODS else f"Insufficient {resource}", ~_fits(nodes, resource, ask)


def _fits(nodes: Nodes, resource: str, ask: float) -> BoolColumn:
    fits: BoolColumn = nodes.requested(resource) + ask <= nodes.allocatable(resource)
    return fits
