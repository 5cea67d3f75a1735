"""The Node object: made when the agent starts, kept true while it runs.

Writes the status when it changes and every five minutes; a lease every ten seconds says that the node lives.
`Observation` is what is seen, `node_status` (pure) what the API says of it. Ready is false, with the reason, while
the runtime is away or has no network.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from apimachinery.errors import AlreadyExists, NotFound, StatusError
from apimachinery.kinds.node import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeStatus,
    NodeSystemInfo,
)
from apimachinery.meta import ObjectMeta, OwnerReference
from apimachinery.times import format_time
from componentbase.clock import Clock
from kubeclient.backoff import Backoff
from kubeclient.leases import LeaseHeartbeat
from kubeclient.rest import STRATEGIC_PATCH, Client
from kubeclient.transport import TransportError
from nodeagent.capacity import Capacity, Pressure
from nodeagent.machine import Machine
from nodeagent.podworker.reporter import status_patch

log = logging.getLogger(__name__)

VERSION = "v1.33.0+pyctl"
OBSERVE_SECONDS = 10.0
REPORT_SECONDS = 300.0
MAX_IMAGES = 50
KEYED = {"conditions": "type", "addresses": "type"}
NO_PRESSURE = Pressure()


@dataclass(frozen=True, slots=True)
class Observation:
    """The node as it is now. runtime_error: why the runtime cannot run pods, "" when it can."""

    capacity: Capacity
    allocatable: Capacity
    pressure: Pressure = NO_PRESSURE
    runtime_version: str = ""
    runtime_error: str = ""
    images: tuple[tuple[tuple[str, ...], int], ...] = ()  # names, size in bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays: who the node is and where its agent listens. port: 0 when it does not."""

    name: str
    hostname: str
    ip: str
    machine: Machine
    port: int = 0
    pod_cidr: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def all_labels(self) -> dict[str, str]:
        """The labels that every node has, and those asked for."""
        arch = self.machine.architecture
        return {
            "beta.kubernetes.io/arch": arch,
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch,
            "kubernetes.io/hostname": self.hostname,
            "kubernetes.io/os": "linux",
            **self.labels,
        }


def node_status(identity: Identity, seen: Observation, before: NodeStatus, now: float) -> NodeStatus:
    """The whole status; transition times of conditions that did not change are kept."""
    machine = identity.machine
    return NodeStatus(
        capacity=seen.capacity.resources(),
        allocatable=seen.allocatable.resources(),
        conditions=_conditions(seen, before, now),
        addresses=[
            NodeAddress(type="InternalIP", address=identity.ip),
            NodeAddress(type="Hostname", address=identity.hostname),
        ],
        daemonEndpoints=NodeDaemonEndpoints(kubeletEndpoint=DaemonEndpoint(Port=identity.port)),
        nodeInfo=NodeSystemInfo(
            machineID=machine.machine_id,
            systemUUID=machine.system_uuid,
            bootID=machine.boot_id,
            kernelVersion=machine.kernel,
            osImage=machine.os_image,
            containerRuntimeVersion=seen.runtime_version,
            kubeletVersion=VERSION,
            operatingSystem="linux",
            architecture=machine.architecture,
        ),
        images=[ContainerImage(names=list(names), sizeBytes=size) for names, size in seen.images[:MAX_IMAGES]],
        volumesInUse=before.volumesInUse,
        volumesAttached=before.volumesAttached,
    )


# type: (field of Pressure, reason and message when it is false, reason and message when it is true)
PRESSURES = {
    "MemoryPressure": (
        "memory",
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        "disk",
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        "pids",
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}


def _conditions(seen: Observation, before: NodeStatus, now: float) -> list[NodeCondition]:
    wanted = []
    for kind, (name, fine, short) in PRESSURES.items():
        pressed = bool(getattr(seen.pressure, name))
        reason, message = short if pressed else fine
        wanted.append(NodeCondition(type=kind, status=str(pressed), reason=reason, message=message))
    if seen.runtime_error:
        ready = NodeCondition(type="Ready", status="False", reason="KubeletNotReady", message=seen.runtime_error)
    else:
        text = "kubelet is posting ready status"
        ready = NodeCondition(type="Ready", status="True", reason="KubeletReady", message=text)
    old = {each.type: each for each in before.conditions}
    for each in [*wanted, ready]:
        last = old.pop(each.type, None)
        same = last is not None and last.status == each.status
        each.lastHeartbeatTime = format_time(now)
        each.lastTransitionTime = last.lastTransitionTime if same and last is not None else format_time(now)
    return [*wanted, ready, *old.values()]


class NodeKeeper:
    """Registers the node and reports on it. `observe` looks; `on_pod_cidr` hears of the node's pod range."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        identity: Identity,
        observe: Callable[[], Awaitable[Observation]],
        on_pod_cidr: Callable[[str], Awaitable[None]],
        *,
        observe_seconds: float = OBSERVE_SECONDS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._identity = identity
        self._observe = observe
        self._on_pod_cidr = on_pod_cidr
        self._observe_seconds = observe_seconds
        self._backoff = Backoff(0.1, 5.0, seed=f"node/{identity.name}")
        self._wake = asyncio.Event()
        self._last = NodeStatus()
        self._reported_at = 0.0
        self._pod_cidr = ""
        self.registered = asyncio.Event()

    def look_soon(self) -> None:
        """Something changed: do not wait for the next round."""
        self._wake.set()

    async def run(self) -> None:
        """Register, then report until cancelled."""
        node = await self._register()
        self.registered.set()
        owner = OwnerReference(apiVersion="v1", kind="Node", name=node.metadata.name, uid=node.metadata.uid)
        lease = LeaseHeartbeat(
            self._client, self._clock, node.metadata.name, owner=owner, seed=f"lease/{node.metadata.name}"
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lease.run(), name="node lease")
            tasks.create_task(self._report_forever(), name="node status")

    async def _register(self) -> Node:
        identity = self._identity
        while True:
            try:
                seen = await self._observe()
                status = node_status(identity, seen, NodeStatus(), self._clock.now())
                node = Node(metadata=ObjectMeta(name=identity.name, labels=identity.all_labels()), status=status)
                node.spec.podCIDR = identity.pod_cidr
                node.spec.podCIDRs = [identity.pod_cidr] if identity.pod_cidr else []
                try:
                    node = await self._client.create(node)
                    log.info("registered node %s", identity.name)
                except AlreadyExists:
                    labels = {"metadata": {"labels": identity.all_labels()}}
                    node = await self._client.patch(Node, identity.name, "", labels, content_type=STRATEGIC_PATCH)
                self._backoff.reset()
                await self._seen(node)
                return node
            except (StatusError, TransportError) as error:
                log.warning("cannot register node %s yet: %s", identity.name, error)
                await self._clock.sleep(self._backoff.next_seconds())

    async def _report_forever(self) -> None:
        while True:
            try:
                await self._report()
                self._backoff.reset()
            except NotFound:
                # Somebody deleted the node; as long as we run, it is there.
                await self._register()
                continue
            except (StatusError, TransportError) as error:
                log.debug("node status waits: %s", error)
                await self._clock.sleep(self._backoff.next_seconds())
                continue
            try:
                async with asyncio.timeout(self._observe_seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _report(self) -> None:
        now = self._clock.now()
        status = node_status(self._identity, await self._observe(), self._last, now)
        if not differs(self._last, status) and now - self._reported_at < REPORT_SECONDS:
            return
        old, new = msgspec.to_builtins(self._last), msgspec.to_builtins(status)
        for name in ("capacity", "allocatable"):
            gone = {key: None for key in old.get(name, {}) if key not in new.get(name, {})}
            new[name] = {**gone, **new.get(name, {})}
        body = {"status": status_patch(old, new, KEYED)}
        node = await self._client.patch(
            Node, self._identity.name, "", body, content_type=STRATEGIC_PATCH, subresource="status"
        )
        self._reported_at = now
        await self._seen(node)

    async def _seen(self, node: Node) -> None:
        self._last = node.status
        if node.spec.podCIDR and node.spec.podCIDR != self._pod_cidr:
            self._pod_cidr = node.spec.podCIDR
            await self._on_pod_cidr(node.spec.podCIDR)


def differs(old: NodeStatus, new: NodeStatus) -> bool:
    """Has anything changed but the time of the heartbeat?"""
    return _without_heartbeat(old) != _without_heartbeat(new)


def _without_heartbeat(status: NodeStatus) -> object:
    conditions = sorted((each.type, each.status, each.reason, each.message) for each in status.conditions)
    return (conditions, msgspec.structs.replace(status, conditions=[]))
