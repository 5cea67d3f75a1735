"""The default policy: kube-scheduler's default profile, its order of filters and its weights, as far as we have it.

Missing yet: PodTopologySpread, InterPodAffinity, ImageLocality, the volume plugins, preemption.
"""

from __future__ import annotations

from scheduler.framework import Policy
from scheduler.plugins.balancedallocation import BalancedAllocation
from scheduler.plugins.leastallocated import LeastAllocated
from scheduler.plugins.nodeaffinity import NodeAffinity
from scheduler.plugins.nodename import NodeName
from scheduler.plugins.nodeports import NodePorts
from scheduler.plugins.nodeready import NodeReady
from scheduler.plugins.noderesourcesfit import NodeResourcesFit
from scheduler.plugins.nodeunschedulable import NodeUnschedulable
from scheduler.plugins.tainttoleration import TaintToleration
from scheduler.plugins.unsupported import UnsupportedConstraints

_TAINTS = TaintToleration()
_AFFINITY = NodeAffinity()

POLICY = Policy(
    name="default",
    filters=(
        UnsupportedConstraints(),
        NodeUnschedulable(),
        NodeReady(),
        NodeName(),
        _TAINTS,
        _AFFINITY,
        NodePorts(),
        NodeResourcesFit(),
    ),
    scores=((_TAINTS, 3), (_AFFINITY, 2), (LeastAllocated(), 1), (BalancedAllocation(), 1)),
)
