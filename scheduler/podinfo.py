"""What scheduling needs to know of a pod, worked out once when the pod arrives.

Amounts are floats with integer values: cpu in millicores, everything else in whole units (bytes, counts), exact up to
2**53. Requests follow Kubernetes: the sum over containers, at least what the largest init container needs beside the
sidecars that were started before it, plus the overhead. Every pod also asks for one of `pods`.

`pids` is not a resource that a Kubernetes container may request. A pod is taken to need one process for each
container that runs at the same time, the least that it can do with, or what its `overhead` says when that is more. A
node that reports no `pids` has no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial

from apimachinery import quantity
from apimachinery.kinds.pod import Container, Pod
from apimachinery.kinds.pod_affinity import NodeAffinity, Toleration

CPU, MEMORY, STORAGE, PODS, PIDS = "cpu", "memory", "ephemeral-storage", "pods", "pids"
# Kubernetes' non-zero requests: what a container that asks for nothing is taken to use when nodes are scored.
DEFAULT_CPU_MILLI = 100.0
DEFAULT_MEMORY_BYTES = 200.0 * 1024 * 1024
FINISHED_PHASES = ("Succeeded", "Failed")

Amounts = dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class PodInfo:
    """A pod as the scheduler sees it. Never changed: a changed pod gets a new one.

    requests: amounts by resource, only what is asked for.  nonzero_cpu, nonzero_memory: the same with Kubernetes'
    defaults, for scoring.  host_ports: (ip, protocol, port), sorted.  signatures: belongs to `framework.Policy`.
    """

    pod: Pod
    key: str
    uid: str
    priority: int
    requests: Amounts
    nonzero_cpu: float
    nonzero_memory: float
    tolerations: tuple[Toleration, ...]
    node_selector: Mapping[str, str]
    node_affinity: NodeAffinity | None
    host_ports: tuple[tuple[str, str, int], ...]
    signatures: dict[object, Hashable]

    @property
    def node_name(self) -> str:
        return self.pod.spec.nodeName

    @property
    def finished(self) -> bool:
        """It holds nothing any more."""
        return self.pod.status.phase in FINISHED_PHASES


def pod_info(pod: Pod) -> PodInfo:
    """The scheduling view of `pod`. Raises ValueError for an amount that is no quantity."""
    spec, meta = pod.spec, pod.metadata
    affinity = spec.affinity
    return PodInfo(
        pod=pod,
        key=f"{meta.namespace}/{meta.name}",
        uid=meta.uid,
        priority=spec.priority or 0,
        requests=_pod_requests(pod),
        nonzero_cpu=_nonzero(pod, CPU, DEFAULT_CPU_MILLI),
        nonzero_memory=_nonzero(pod, MEMORY, DEFAULT_MEMORY_BYTES),
        tolerations=tuple(spec.tolerations),
        node_selector=spec.nodeSelector,
        node_affinity=affinity.nodeAffinity if affinity is not None else None,
        host_ports=_host_ports(pod),
        signatures={},
    )


def amount(resource: str, text: str) -> float:
    """A quantity as a column's number: millicores for cpu, whole units for everything else."""
    return float(quantity.milli(text) if resource == CPU else quantity.value(text))


def _pod_requests(pod: Pod) -> Amounts:
    spec = pod.spec
    names = {name: None for each in (*spec.containers, *spec.initContainers) for name in each.resources.requests}
    total = {name: _peak(pod, partial(_request, resource=name)) for name in names}
    if spec.resources is not None:
        # Pod-level requests stand for the sum of the containers'.
        total.update({name: amount(name, text) for name, text in spec.resources.requests.items()})
    for name, text in spec.overhead.items():
        total[name] = total.get(name, 0.0) + amount(name, text)
    total[PODS] = 1.0
    total[PIDS] = max(_peak(pod, lambda container: 1.0), total.get(PIDS, 0.0))
    return {name: value for name, value in sorted(total.items()) if value > 0}


def _nonzero(pod: Pod, resource: str, default: float) -> float:
    def ask(container: Container) -> float:
        # Only a missing request gets the default; an explicit zero is a zero.
        return _request(container, resource) if resource in container.resources.requests else default

    level = pod.spec.resources
    if level is not None and resource in level.requests:
        total = amount(resource, level.requests[resource])
    else:
        total = _peak(pod, ask)
    return total + amount(resource, pod.spec.overhead.get(resource, ""))


def _peak(pod: Pod, ask: Callable[[Container], float]) -> float:
    """The most that is used at one moment: init containers run one by one, beside the sidecars started before."""
    sidecars = peak = 0.0
    for container in pod.spec.initContainers:
        if container.restartPolicy == "Always":
            sidecars += ask(container)
            peak = max(peak, sidecars)
        else:
            peak = max(peak, sidecars + ask(container))
    return max(peak, sidecars + sum(ask(container) for container in pod.spec.containers))


def _request(container: Container, resource: str) -> float:
    return amount(resource, container.resources.requests.get(resource, ""))


def _host_ports(pod: Pod) -> tuple[tuple[str, str, int], ...]:
    found = {
        (port.hostIP or "0.0.0.0", port.protocol or "TCP", port.hostPort)
        for container in (*pod.spec.initContainers, *pod.spec.containers)
        for port in container.ports
        if port.hostPort
    }
    return tuple(sorted(found))
