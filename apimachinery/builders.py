"""Ready-made pods and nodes for tests, simulators and benchmarks: complete as the API server would store them, so
that no caller has to know which fields matter to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from apimachinery.kinds import pod_defaults
from apimachinery.kinds.node import (
    Node,
    NodeAddress,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    Taint,
)
from apimachinery.kinds.pod import Affinity, Container, ContainerPort, Pod, PodSpec, ResourceRequirements, Toleration
from apimachinery.meta import ObjectMeta
from apimachinery.quantity import canonical


def make_pod(
    name: str,
    *,
    namespace: str = "default",
    uid: str = "",
    labels: Mapping[str, str] | None = None,
    image: str = "registry.local/app:1",
    command: Sequence[str] = (),
    requests: Mapping[str, str] | None = None,
    limits: Mapping[str, str] | None = None,
    containers: Sequence[Container] = (),
    init_containers: Sequence[Container] = (),
    ports: Sequence[int] = (),
    node_name: str = "",
    node_selector: Mapping[str, str] | None = None,
    affinity: Affinity | None = None,
    tolerations: Sequence[Toleration] = (),
    priority: int = 0,
    restart_policy: str = "Always",
    scheduler_name: str = "",
    phase: str = "Pending",
    created: str = "",
) -> Pod:
    """A defaulted and admitted pod with one container `main`, or with those given. `requests={"cpu": "100m"}`.
    Without a uid it is `uid-<namespace>-<name>`: stable, so that runs repeat."""
    main = Container(
        name="main",
        image=image,
        command=list(command),
        ports=[ContainerPort(containerPort=port) for port in ports],
        resources=ResourceRequirements(requests=_amounts(requests), limits=_amounts(limits)),
    )
    pod = Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            uid=uid or f"uid-{namespace}-{name}",
            labels=dict(labels or {}),
            creationTimestamp=created,
        ),
        spec=PodSpec(
            containers=list(containers) or [main],
            initContainers=list(init_containers),
            nodeName=node_name,
            nodeSelector=dict(node_selector or {}),
            affinity=affinity,
            tolerations=list(tolerations),
            priority=priority,
            restartPolicy=restart_policy,
            schedulerName=scheduler_name,
        ),
    )
    pod_defaults.default(pod)
    pod_defaults.admit(pod)
    pod_defaults.prepare_create(pod)
    pod.status.phase = phase
    return pod


def make_node(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    ephemeral_storage: str = "100Gi",
    pods: int = 110,
    extended: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Taint] = (),
    unschedulable: bool = False,
    ready: bool = True,
    address: str = "",
    pod_cidr: str = "",
    created: str = "",
) -> Node:
    """A node whose whole capacity is allocatable, with the well-known labels. `extended` adds further resources,
    such as `{"pids": "32768", "example.com/gpu": "2"}`."""
    capacity = _amounts({"cpu": cpu, "memory": memory, "ephemeral-storage": ephemeral_storage, "pods": str(pods)})
    capacity |= _amounts(extended)
    well_known = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    condition = NodeCondition(
        type="Ready",
        status="True" if ready else "False",
        reason="KubeletReady" if ready else "KubeletNotReady",
        lastHeartbeatTime=created,
        lastTransitionTime=created,
    )
    addresses = [NodeAddress(type="Hostname", address=name)]
    if address:
        addresses.insert(0, NodeAddress(type="InternalIP", address=address))
    return Node(
        metadata=ObjectMeta(
            name=name, uid=f"uid-{name}", labels={**well_known, **(labels or {})}, creationTimestamp=created
        ),
        spec=NodeSpec(
            podCIDR=pod_cidr,
            podCIDRs=[pod_cidr] if pod_cidr else [],
            taints=list(taints),
            unschedulable=True if unschedulable else None,
        ),
        status=NodeStatus(
            capacity=capacity,
            allocatable=dict(capacity),
            conditions=[condition],
            addresses=addresses,
            nodeInfo=NodeSystemInfo(operatingSystem="linux", architecture="amd64", kubeletVersion="v1.33.0"),
        ),
    )


def _amounts(given: Mapping[str, str] | None) -> dict[str, str]:
    return {name: canonical(text) for name, text in (given or {}).items()}
