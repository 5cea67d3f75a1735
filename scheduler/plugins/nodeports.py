"""NodePorts: a host port can be opened once per node, address and protocol; 0.0.0.0 stands for every address."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from scheduler.framework import ASSIGNED_POD_DELETE, Filter
from scheduler.nodes import NODE_ADD, BoolColumn, Nodes
from scheduler.podinfo import PodInfo

ANY_ADDRESS = "0.0.0.0"

HostPort = tuple[str, str, int]


class NodePorts(Filter):
    """Refuses nodes on which another pod holds one of the pod's host ports."""

    name = "NodePorts"
    reads_load = True
    events = frozenset({NODE_ADD, ASSIGNED_POD_DELETE})

    def signature(self, pod: PodInfo) -> Hashable:
        return pod.host_ports

    def skip_filter(self, pod: PodInfo) -> bool:
        return not pod.host_ports

    def filter(self, pod: PodInfo, nodes: Nodes) -> BoolColumn:
        # Few pods want host ports: looking at the nodes one by one is good enough for those.
        return np.array([_free(pod, nodes.pods_on(name)) for name in nodes.names], np.bool_)

    def reasons(self, pod: PodInfo, nodes: Nodes) -> Iterable[tuple[str, BoolColumn]]:
        text = "node(s) didn't have free ports for the requested pod ports"
        yield text, np.ones(nodes.count, np.bool_)


def _free(pod: PodInfo, others: Iterable[PodInfo]) -> bool:
    return not any(_clash(wanted, held) for other in others for held in other.host_ports for wanted in pod.host_ports)


def _clash(one: HostPort, other: HostPort) -> bool:
    same_address = one[0] == other[0] or ANY_ADDRESS in (one[0], other[0])
    return same_address and one[1:] == other[1:]
