"""Node: a machine that runs pods."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from apimachinery import quantity
from apimachinery.causes import duplicate, faulty, forbidden, invalid, one_of, required
from apimachinery.errors import Cause
from apimachinery.kind import Column, Kind
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
from apimachinery.names import label_key_faults, label_value_faults
from apimachinery.table import AGE, NAME, age, or_none

ROLE_LABEL = "node-role.kubernetes.io/"


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


def default(node: Node) -> None:
    """What is not set aside may be given to pods. podCIDR and podCIDRs say the same."""
    status, spec = node.status, node.spec
    if not status.allocatable:
        status.allocatable = dict(status.capacity)
    if spec.podCIDR and not spec.podCIDRs:
        spec.podCIDRs = [spec.podCIDR]
    elif spec.podCIDRs and not spec.podCIDR:
        spec.podCIDR = spec.podCIDRs[0]


def validate(node: Node) -> list[Cause]:
    """Taints, pod ranges, amounts."""
    found: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(node.spec.taints):
        place = f"spec.taints[{index}]"
        found += faulty(f"{place}.key", taint.key, label_key_faults(taint.key))
        found += faulty(f"{place}.value", taint.value, label_value_faults(taint.value))
        found += one_of(f"{place}.effect", taint.effect, ("NoExecute", "NoSchedule", "PreferNoSchedule"))
        if (taint.key, taint.effect) in seen:
            found.append(duplicate(place, taint))
        seen.add((taint.key, taint.effect))
    for index, text in enumerate(node.spec.podCIDRs):
        try:
            ipaddress.ip_network(text)
        except ValueError:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            found.append(invalid(f"spec.podCIDRs[{index}]", text, why))
    for name, amounts in (("capacity", node.status.capacity), ("allocatable", node.status.allocatable)):
        for resource, text in amounts.items():
            if quantity.parse(text).nanos < 0:
                why = "must be greater than or equal to 0"
                found.append(invalid(f"status.{name}.{resource}", text, why))
    for index, address in enumerate(node.status.addresses):
        if not address.address:
            found.append(required(f"status.addresses[{index}].address"))
    return found


def validate_update(new: Node, old: Node) -> list[Cause]:
    """What a node was once told stays."""
    found: list[Cause] = []
    if old.spec.podCIDRs and new.spec.podCIDRs != old.spec.podCIDRs:
        found.append(forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))
    if old.spec.providerID and new.spec.providerID != old.spec.providerID:
        why = 'node updates may not change providerID except from "" to valid'
        found.append(forbidden("spec.providerID", why))
    return found


def validate_status_update(new: Node, old: Node) -> list[Cause]:
    """As for the rest of the node."""
    return validate(new)


def roles(node: Node) -> list[str]:
    """Roles that labels give the node."""
    found = [key.removeprefix(ROLE_LABEL) for key in node.metadata.labels if key.startswith(ROLE_LABEL)]
    return sorted({*filter(None, found), *filter(None, [node.metadata.labels.get("kubernetes.io/role", "")])})


def cells(node: Node, now: float) -> list[Any]:
    """Name, status, roles, age, version, addresses, and what the machine is."""
    ready = next((condition for condition in node.status.conditions if condition.type == "Ready"), None)
    status = "Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"
    if node.spec.unschedulable:
        status += ",SchedulingDisabled"
    info = node.status.nodeInfo
    addresses = {address.type: address.address for address in reversed(node.status.addresses)}
    return [
        node.metadata.name,
        status,
        or_none(",".join(roles(node))),
        age(node.metadata.creationTimestamp, now),
        info.kubeletVersion,
        or_none(addresses.get("InternalIP", "")),
        or_none(addresses.get("ExternalIP", "")),
        info.osImage or "<unknown>",
        info.kernelVersion or "<unknown>",
        info.containerRuntimeVersion or "<unknown>",
    ]


def field_values(node: Node) -> dict[str, str]:
    """What field selectors may compare."""
    return {
        "metadata.name": node.metadata.name,
        "metadata.namespace": "",
        "spec.unschedulable": "true" if node.spec.unschedulable else "false",
    }


COLUMNS = (
    NAME,
    Column("Status", description="The status of the node"),
    Column("Roles", description="The roles of the node"),
    AGE,
    Column("Version", description="Version of the node agent"),
    Column("Internal-IP", description="Address inside the cluster", priority=1),
    Column("External-IP", description="Address from outside", priority=1),
    Column("OS-Image", description="Operating system of the machine", priority=1),
    Column("Kernel-Version", description="Kernel of the machine", priority=1),
    Column("Container-Runtime", description="Container runtime and its version", priority=1),
)

KIND = Kind(
    group="",
    version="v1",
    kind="Node",
    plural="nodes",
    type=Node,
    short_names=("no",),
    namespaced=False,
    default=default,
    validate=validate,
    validate_update=validate_update,
    validate_status_update=validate_status_update,
    columns=COLUMNS,
    cells=cells,
    field_values=field_values,
    subresources=("status", "proxy"),
    description="Node is a worker node in Kubernetes.",
)
