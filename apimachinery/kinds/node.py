"""Node: a machine that runs pods."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kind import Kind
from apimachinery.meta import (
    Int32,
    Int64,
    ObjectMeta,
    QuantityString,
    Record,
    Time,
    always,
    fresh,
    merge_on,
    patch_strategy,
)


class Taint(Record, kw_only=True):
    """Keeps away, or drives away, pods that do not tolerate it. effect: NoSchedule, PreferNoSchedule, NoExecute."""

    key: str = always("")
    value: str = ""
    effect: str = always("")
    timeAdded: Time = ""


class ConfigMapNodeConfigSource(Record, kw_only=True):
    """Where a node's configuration once came from."""

    namespace: str = always("")
    name: str = always("")
    uid: str = ""
    resourceVersion: str = ""
    kubeletConfigKey: str = always("")


class NodeConfigSource(Record, kw_only=True):
    """Removed feature; the field remains."""

    configMap: ConfigMapNodeConfigSource | None = None


class NodeSpec(Record, kw_only=True):
    """What is decided about a node."""

    podCIDR: str = ""
    podCIDRs: Annotated[list[str], patch_strategy("merge")] = []
    externalID: str = ""
    providerID: str = ""
    unschedulable: bool | None = None
    taints: list[Taint] = []
    configSource: NodeConfigSource | None = None


class NodeCondition(Record, kw_only=True):
    """Ready, MemoryPressure, DiskPressure, PIDPressure, NetworkUnavailable: True, False or Unknown."""

    type: str = always("")
    status: str = always("")
    lastHeartbeatTime: Time = ""
    lastTransitionTime: Time = ""
    reason: str = ""
    message: str = ""


class NodeAddress(Record, kw_only=True):
    """type: Hostname, InternalIP, ExternalIP, InternalDNS, ExternalDNS."""

    type: str = always("")
    address: str = always("")


class DaemonEndpoint(Record, kw_only=True):
    """A port; the wire writes it with a capital letter."""

    Port: Int32 = always(0)


class NodeDaemonEndpoints(Record, kw_only=True):
    """Where the agent listens."""

    kubeletEndpoint: DaemonEndpoint = fresh(DaemonEndpoint)


class NodeSwapStatus(Record, kw_only=True):
    """Bytes of swap."""

    capacity: Int64 | None = None


class NodeSystemInfo(Record, kw_only=True):
    """What the machine is."""

    machineID: str = always("")
    systemUUID: str = always("")
    bootID: str = always("")
    kernelVersion: str = always("")
    osImage: str = always("")
    containerRuntimeVersion: str = always("")
    kubeletVersion: str = always("")
    kubeProxyVersion: str = always("")
    operatingSystem: str = always("")
    architecture: str = always("")
    swap: NodeSwapStatus | None = None


class ContainerImage(Record, kw_only=True):
    """An image that the node has, under all its names."""

    names: list[str] = []
    sizeBytes: Int64 | None = None


class AttachedVolume(Record, kw_only=True):
    """A volume attached to the node."""

    name: str = always("")
    devicePath: str = always("")


class NodeConfigStatus(Record, kw_only=True):
    """Removed feature; the field remains."""

    assigned: NodeConfigSource | None = None
    active: NodeConfigSource | None = None
    lastKnownGood: NodeConfigSource | None = None
    error: str = ""


class NodeRuntimeHandlerFeatures(Record, kw_only=True):
    """What a runtime handler can do."""

    recursiveReadOnlyMounts: bool | None = None
    userNamespaces: bool | None = None


class NodeRuntimeHandler(Record, kw_only=True):
    """A runtime handler; the default one has an empty name."""

    name: str = always("")
    features: NodeRuntimeHandlerFeatures | None = None


class NodeFeatures(Record, kw_only=True):
    """What the runtime can do."""

    supplementalGroupsPolicy: bool | None = None


class NodeStatus(Record, kw_only=True):
    """What the agent observes. capacity is what the machine has, allocatable what pods may have."""

    capacity: dict[str, QuantityString] = {}
    allocatable: dict[str, QuantityString] = {}
    phase: str = ""
    conditions: Annotated[list[NodeCondition], merge_on("type")] = []
    addresses: Annotated[list[NodeAddress], merge_on("type")] = []
    daemonEndpoints: NodeDaemonEndpoints = fresh(NodeDaemonEndpoints)
    nodeInfo: NodeSystemInfo = fresh(NodeSystemInfo)
    images: list[ContainerImage] = []
    volumesInUse: list[str] = []
    volumesAttached: list[AttachedVolume] = []
    config: NodeConfigStatus | None = None
    runtimeHandlers: list[NodeRuntimeHandler] = []
    features: NodeFeatures | None = None


class Node(Record, kw_only=True):
    """A machine of the cluster."""

    apiVersion: str = always("v1")
    kind: str = always("Node")
    metadata: ObjectMeta = fresh(ObjectMeta)
    spec: NodeSpec = fresh(NodeSpec)
    status: NodeStatus = fresh(NodeStatus)


KIND = Kind(
    group="",
    version="v1",
    kind="Node",
    plural="nodes",
    type=Node,
    short_names=("no",),
    namespaced=False,
    subresources=("status", "proxy"),
    description="Node is a worker node in Kubernetes.",
)
