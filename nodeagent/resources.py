"""What a container may use, as the CRI asks for it. Pure; the formulas are the kubelet's (cm/helpers_linux.go).

The number of processes is not part of the CRI: the runtime applies its own limit to every container.
"""

from __future__ import annotations

from apimachinery.kinds.pod import Container, Pod
from apimachinery.quantity import milli, value
from nodeagent.status import qos_class
from pb.cri.v1 import api_pb2 as cri

CPU_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
MIN_SHARES, MAX_SHARES = 2, 262_144
GUARANTEED_OOM_SCORE, BEST_EFFORT_OOM_SCORE = -997, 1000
SYSTEM_CRITICAL = 2_000_000_000


def cpu_shares(milli_cpu: int) -> int:
    """Shares for thousandths of a core: 1024 for a whole one."""
    return min(max(milli_cpu * 1024 // 1000, MIN_SHARES), MAX_SHARES)


def cpu_quota(milli_cpu: int) -> int:
    """Microseconds a period; 0 is no limit."""
    return max(milli_cpu * CPU_PERIOD_US // 1000, MIN_QUOTA_US) if milli_cpu else 0


def oom_score_adj(pod: Pod, container: Container, capacity_bytes: int) -> int:
    """Who dies first when memory runs out: best effort; then, among burstable ones, who asked for least."""
    if (pod.spec.priority or 0) >= SYSTEM_CRITICAL:
        return GUARANTEED_OOM_SCORE
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return GUARANTEED_OOM_SCORE
    if quality == "BestEffort":
        return BEST_EFFORT_OOM_SCORE
    share = 1000 * _request(container, "memory") // max(capacity_bytes, 1)
    return min(max(1000 - share, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def container_resources(pod: Pod, container: Container, capacity_bytes: int) -> cri.LinuxContainerResources:
    """Limits of one container. capacity_bytes: the node's memory, for the score."""
    requests, limits = container.resources.requests, container.resources.limits
    cpu = milli(requests.get("cpu", limits.get("cpu", "")))
    memory = value(limits.get("memory", ""))
    return cri.LinuxContainerResources(
        cpu_period=CPU_PERIOD_US,
        cpu_quota=cpu_quota(milli(limits.get("cpu", ""))),
        cpu_shares=cpu_shares(cpu),
        memory_limit_in_bytes=memory,
        # Memory and swap together: with a limit there is no swap beyond it (the kubelet's NoSwap).
        memory_swap_limit_in_bytes=memory,
        oom_score_adj=oom_score_adj(pod, container, capacity_bytes),
    )


def pod_resources(pod: Pod) -> cri.LinuxContainerResources:
    """Limits of the pod's own cgroup: the sum over its containers, or what the largest init container needs. A resource
    is limited only when every container limits it."""
    cpu = sum(milli(each.resources.limits.get("cpu", "")) for each in pod.spec.containers)
    memory = sum(value(each.resources.limits.get("memory", "")) for each in pod.spec.containers)
    asked = sum(milli(each.resources.requests.get("cpu", "")) for each in pod.spec.containers)
    everyone = [*pod.spec.containers, *pod.spec.initContainers]
    sidecars = [each for each in pod.spec.initContainers if each.restartPolicy == "Always"]
    cpu += sum(milli(each.resources.limits.get("cpu", "")) for each in sidecars)
    memory += sum(value(each.resources.limits.get("memory", "")) for each in sidecars)
    for each in pod.spec.initContainers:
        cpu = max(cpu, milli(each.resources.limits.get("cpu", "")))
        memory = max(memory, value(each.resources.limits.get("memory", "")))
        asked = max(asked, milli(each.resources.requests.get("cpu", "")))
    limited = all(each.resources.limits.get("cpu") for each in everyone)
    bounded = all(each.resources.limits.get("memory") for each in everyone)
    return cri.LinuxContainerResources(
        cpu_period=CPU_PERIOD_US,
        cpu_quota=cpu_quota(cpu) if limited else 0,
        cpu_shares=cpu_shares(asked),
        memory_limit_in_bytes=memory if bounded else 0,
    )


def _request(container: Container, resource: str) -> int:
    resources = container.resources
    return value(resources.requests.get(resource, resources.limits.get(resource, "")))
