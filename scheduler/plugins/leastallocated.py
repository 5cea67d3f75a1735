"""LeastAllocated: the scoring of NodeResourcesFit by default: the emptier a node would be in cpu and memory, the
better.

score = mean over cpu and memory of floor((allocatable - requested) * 100 / allocatable), the pod included, 0 where it
does not fit, with Kubernetes' non-zero requests for containers that ask for nothing; a resource of which a node has
none does not count. Source: kube-scheduler, plugins/noderesources/least_allocated.go. Its integer divisions are exact
in float64 below 2**53.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from scheduler.framework import MAX_SCORE, Score
from scheduler.nodes import BoolColumn, FloatColumn, Nodes
from scheduler.podinfo import CPU, MEMORY, PodInfo


class LeastAllocated(Score):
    """Spreads pods over the cluster's capacity."""

    name = "LeastAllocated"
    reads_load = True

    def signature(self, pod: PodInfo) -> Hashable:
        return pod.nonzero_cpu, pod.nonzero_memory

    def score(self, pod: PodInfo, nodes: Nodes) -> FloatColumn:
        cpu, has_cpu = _left(nodes, CPU, pod.nonzero_cpu)
        memory, has_memory = _left(nodes, MEMORY, pod.nonzero_memory)
        # A resource that is not there scores zero: halving is wrong only where one of the two is missing.
        halves = 1.0 - 0.5 * (has_cpu & has_memory)
        result: FloatColumn = np.floor((cpu + memory) * halves)
        return result


def _left(nodes: Nodes, resource: str, ask: float) -> tuple[FloatColumn, BoolColumn]:
    """The share that would be left, 0 to 100, and where there is any of the resource."""
    capacity = nodes.allocatable(resource)
    left = capacity - (nodes.nonzero_requested(resource) + ask)
    return np.floor(np.maximum(left, 0.0) * MAX_SCORE / np.maximum(capacity, 1.0)), capacity > 0
