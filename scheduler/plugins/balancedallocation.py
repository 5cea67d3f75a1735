"""NodeResourcesBalancedAllocation: nodes whose cpu and memory would be used to a similar share are better.

score = floor((1 - |cpu share - memory share| / 2) * 100), shares of what is really requested, the pod included, at
most 1. A pod that asks for neither scores 0 everywhere. Source: kube-scheduler,
plugins/noderesources/balanced_allocation.go.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from scheduler.framework import MAX_SCORE, Score
from scheduler.nodes import BoolColumn, FloatColumn, Nodes
from scheduler.podinfo import CPU, MEMORY, PodInfo


class BalancedAllocation(Score):
    """Avoids nodes that have much of one resource left and little of the other."""

    name = "NodeResourcesBalancedAllocation"
    reads_load = True

    def signature(self, pod: PodInfo) -> Hashable:
        return pod.requests.get(CPU, 0.0), pod.requests.get(MEMORY, 0.0)

    def skip_score(self, pod: PodInfo) -> bool:
        return CPU not in pod.requests and MEMORY not in pod.requests

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        ask_cpu, ask_memory = pod.requests.get(CPU, 0.0), pod.requests.get(MEMORY, 0.0)
        cpu, has_cpu = _share(nodes, CPU, ask_cpu)
        memory, has_memory = _share(nodes, MEMORY, ask_memory)
        # With one resource alone there is nothing to be out of balance.
        deviation = np.abs(cpu - memory) * (0.5 * (has_cpu & has_memory))
        score: FloatColumn = np.floor((1.0 - deviation) * MAX_SCORE)
        return score


def _share(nodes: Nodes, resource: str, ask: float) -> tuple[FloatColumn, BoolColumn]:
    capacity = nodes.allocatable(resource)
    # The least that there can be is one: what has none is left out above.
    return np.minimum((nodes.requested(resource) + ask) / np.maximum(capacity, 1.0), 1.0), capacity > 0
