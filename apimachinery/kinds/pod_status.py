"""What is observed of a pod: phase, conditions, addresses, containers."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kinds.pod_container import ResourceRequirements
from apimachinery.meta import Int32, Int64, QuantityString, Record, Time, always, fresh, merge_on


class PodCondition(Record, kw_only=True):
    """PodScheduled, Initialized, ContainersReady, Ready, ...: True, False or Unknown."""

    type: str = always("")
    observedGeneration: Int64 | None = None
    status: str = always("")
    lastProbeTime: Time = ""
    lastTransitionTime: Time = ""
    reason: str = ""
    message: str = ""


class HostIP(Record, kw_only=True):
    """An address of the node."""

    ip: str = always("")


class PodIP(Record, kw_only=True):
    """An address of the pod."""

    ip: str = always("")


class ContainerStateWaiting(Record, kw_only=True):
    """Not yet started, and why."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(Record, kw_only=True):
    """Started."""

    startedAt: Time = ""


class ContainerStateTerminated(Record, kw_only=True):
    """Ended."""

    exitCode: Int32 = always(0)
    signal: Int32 | None = None
    reason: str = ""
    message: str = ""
    startedAt: Time = ""
    finishedAt: Time = ""
    containerID: str = ""


class ContainerState(Record, kw_only=True):
    """At most one is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class VolumeMountStatus(Record, kw_only=True):
    """How a volume is mounted in fact."""

    name: str = always("")
    mountPath: str = always("")
    readOnly: bool | None = None
    recursiveReadOnly: str | None = None


class LinuxContainerUser(Record, kw_only=True):
    """Ids of the first process."""

    uid: Int64 = always(0)
    gid: Int64 = always(0)
    supplementalGroups: list[Int64] = []


class ContainerUser(Record, kw_only=True):
    """Who the first process runs as."""

    linux: LinuxContainerUser | None = None


class ResourceHealth(Record, kw_only=True):
    """Health of a device: Healthy, Unhealthy or Unknown."""

    resourceID: str = always("")
    health: str = ""


class ResourceStatus(Record, kw_only=True):
    """Health of the devices of a resource."""

    name: str = always("")
    resources: list[ResourceHealth] = []


class ContainerStatus(Record, kw_only=True):
    """One container of the pod."""

    name: str = always("")
    state: ContainerState = fresh(ContainerState)
    lastState: ContainerState = fresh(ContainerState)
    ready: bool = always(False)
    restartCount: Int32 = always(0)
    image: str = always("")
    imageID: str = always("")
    containerID: str = ""
    started: bool | None = None
    allocatedResources: dict[str, QuantityString] = {}
    resources: ResourceRequirements | None = None
    volumeMounts: Annotated[list[VolumeMountStatus], merge_on("mountPath")] = []
    user: ContainerUser | None = None
    allocatedResourcesStatus: Annotated[list[ResourceStatus], merge_on("name")] = []
    stopSignal: str | None = None


class PodResourceClaimStatus(Record, kw_only=True):
    """The claim that was made for a claim template of the pod."""

    name: str = always("")
    resourceClaimName: str | None = None


class PodStatus(Record, kw_only=True):
    """What is known of the pod. phase: Pending, Running, Succeeded, Failed, Unknown."""

    observedGeneration: Int64 | None = None
    phase: str = ""
    conditions: Annotated[list[PodCondition], merge_on("type")] = []
    message: str = ""
    reason: str = ""
    nominatedNodeName: str = ""
    hostIP: str = ""
    hostIPs: Annotated[list[HostIP], merge_on("ip")] = []
    podIP: str = ""
    podIPs: Annotated[list[PodIP], merge_on("ip")] = []
    startTime: Time = ""
    initContainerStatuses: list[ContainerStatus] = []
    containerStatuses: list[ContainerStatus] = []
    qosClass: str = ""
    ephemeralContainerStatuses: list[ContainerStatus] = []
    resize: str = ""
    resourceClaimStatuses: Annotated[list[PodResourceClaimStatus], merge_on("name", strategy="merge,retainKeys")] = []
