"""PodSpec and Pod: what is wanted of a pod, and the object itself."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kinds.pod_affinity import Affinity, Toleration, TopologySpreadConstraint
from apimachinery.kinds.pod_container import (
    AppArmorProfile,
    Container,
    EphemeralContainer,
    ResourceRequirements,
    SeccompProfile,
    SELinuxOptions,
    WindowsSecurityContextOptions,
)
from apimachinery.kinds.pod_status import PodStatus
from apimachinery.kinds.pod_volumes import PodVolumes
from apimachinery.meta import (
    Int32,
    Int64,
    LocalObjectReference,
    ObjectMeta,
    QuantityString,
    Record,
    always,
    fresh,
    merge_on,
)


class Sysctl(Record, kw_only=True):
    """A kernel parameter of the pod's namespaces."""

    name: str = always("")
    value: str = always("")


class PodSecurityContext(Record, kw_only=True):
    """Rights of all containers of the pod, and what is set on its volumes."""

    seLinuxOptions: SELinuxOptions | None = None
    windowsOptions: WindowsSecurityContextOptions | None = None
    runAsUser: Int64 | None = None
    runAsGroup: Int64 | None = None
    runAsNonRoot: bool | None = None
    supplementalGroups: list[Int64] = []
    supplementalGroupsPolicy: str | None = None
    fsGroup: Int64 | None = None
    sysctls: list[Sysctl] = []
    fsGroupChangePolicy: str | None = None
    seccompProfile: SeccompProfile | None = None
    appArmorProfile: AppArmorProfile | None = None
    seLinuxChangePolicy: str | None = None


class HostAlias(Record, kw_only=True):
    """A line of /etc/hosts."""

    ip: str = always("")
    hostnames: list[str] = []


class PodDNSConfigOption(Record, kw_only=True):
    """An option of resolv.conf."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(Record, kw_only=True):
    """Lines of resolv.conf, added to those of dnsPolicy."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSConfigOption] = []


class PodReadinessGate(Record, kw_only=True):
    """A condition that others set and that Ready waits for."""

    conditionType: str = always("")


class PodOS(Record, kw_only=True):
    """linux or windows."""

    name: str = always("")


class PodSchedulingGate(Record, kw_only=True):
    """While one is there, the pod is not scheduled."""

    name: str = always("")


class PodResourceClaim(Record, kw_only=True):
    """A device claim, by name or made from a template."""

    name: str = always("")
    resourceClaimName: str | None = None
    resourceClaimTemplateName: str | None = None


class PodSpec(Record, kw_only=True):
    """What is wanted of a pod."""

    volumes: PodVolumes = []
    initContainers: Annotated[list[Container], merge_on("name")] = []
    containers: Annotated[list[Container], merge_on("name")] = []
    ephemeralContainers: Annotated[list[EphemeralContainer], merge_on("name")] = []
    restartPolicy: str = ""
    terminationGracePeriodSeconds: Int64 | None = None
    activeDeadlineSeconds: Int64 | None = None
    dnsPolicy: str = ""
    nodeSelector: dict[str, str] = {}
    serviceAccountName: str = ""
    serviceAccount: str = ""
    automountServiceAccountToken: bool | None = None
    nodeName: str = ""
    hostNetwork: bool | None = None
    hostPID: bool | None = None
    hostIPC: bool | None = None
    shareProcessNamespace: bool | None = None
    securityContext: PodSecurityContext | None = None
    imagePullSecrets: Annotated[list[LocalObjectReference], merge_on("name")] = []
    hostname: str = ""
    subdomain: str = ""
    affinity: Affinity | None = None
    schedulerName: str = ""
    tolerations: list[Toleration] = []
    hostAliases: Annotated[list[HostAlias], merge_on("ip")] = []
    priorityClassName: str = ""
    priority: Int32 | None = None
    dnsConfig: PodDNSConfig | None = None
    readinessGates: list[PodReadinessGate] = []
    runtimeClassName: str | None = None
    enableServiceLinks: bool | None = None
    preemptionPolicy: str | None = None
    overhead: dict[str, QuantityString] = {}
    topologySpreadConstraints: Annotated[list[TopologySpreadConstraint], merge_on("topologyKey")] = []
    setHostnameAsFQDN: bool | None = None
    os: PodOS | None = None
    hostUsers: bool | None = None
    schedulingGates: Annotated[list[PodSchedulingGate], merge_on("name")] = []
    resourceClaims: Annotated[list[PodResourceClaim], merge_on("name", strategy="merge,retainKeys")] = []
    resources: ResourceRequirements | None = None


class Pod(Record, kw_only=True):
    """Containers that run together on one node."""

    apiVersion: str = always("v1")
    kind: str = always("Pod")
    metadata: ObjectMeta = fresh(ObjectMeta)
    spec: PodSpec = fresh(PodSpec)
    status: PodStatus = fresh(PodStatus)
