"""UnsupportedConstraints: a demand that this scheduler cannot judge yet keeps the pod waiting, and says so.

Kubernetes would hold such a pod back until the demand is met; running it anywhere would ignore what its user asked for.
Preferences (preferred terms, ScheduleAnyway) only cost quality, and the API server warns of them.
"""

from __future__ import annotations

from collections.abc import Hashable

from scheduler.framework import Filter
from scheduler.podinfo import PodInfo


class UnsupportedConstraints(Filter):
    """Refuses pods with required pod affinity or anti-affinity, hard topology spread, or device claims."""

    name = "UnsupportedConstraints"
    events = frozenset()

    def signature(self, pod: PodInfo) -> Hashable:
        return bool(self.pre_filter(pod))

    def pre_filter(self, pod: PodInfo) -> str:
        spec = pod.pod.spec
        near = spec.affinity.podAffinity if spec.affinity is not None else None
        apart = spec.affinity.podAntiAffinity if spec.affinity is not None else None
        found = []
        if near is not None and near.requiredDuringSchedulingIgnoredDuringExecution:
            found.append("required spec.affinity.podAffinity")
        if apart is not None and apart.requiredDuringSchedulingIgnoredDuringExecution:
            found.append("required spec.affinity.podAntiAffinity")
        if any(each.whenUnsatisfiable == "DoNotSchedule" for each in spec.topologySpreadConstraints):
            found.append("spec.topologySpreadConstraints with DoNotSchedule")
        if spec.resourceClaims:
            found.append("spec.resourceClaims")
        return f"this scheduler does not support {' and '.join(found)} yet" if found else ""

    def skip_filter(self, pod: PodInfo) -> bool:
        return True  # what it has to say is not about nodes
