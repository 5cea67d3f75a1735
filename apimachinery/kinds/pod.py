"""Pod: containers that share a network and live and die on one node. The whole v1 PodSpec and PodStatus of 1.33.

The structs are in pod_spec, pod_container, pod_volumes, pod_affinity and pod_status; defaulting in pod_defaults,
the rules in pod_validation and its neighbours, the table in pod_table, and what nothing acts on yet in
pod_unsupported."""

from __future__ import annotations

from apimachinery.kind import Kind
from apimachinery.kinds import pod_defaults, pod_rules, pod_rules_update, pod_table
from apimachinery.kinds.pod_affinity import Affinity, Toleration
from apimachinery.kinds.pod_container import (
    Container,
    ContainerPort,
    EnvVar,
    EphemeralContainer,
    Probe,
    ResourceRequirements,
    SecurityContext,
    VolumeMount,
)
from apimachinery.kinds.pod_spec import HostAlias, Pod, PodDNSConfig, PodSecurityContext, PodSpec
from apimachinery.kinds.pod_status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    PodCondition,
    PodIP,
    PodStatus,
)
from apimachinery.kinds.pod_unsupported import unsupported
from apimachinery.kinds.pod_volumes import Volume

__all__ = [
    "KIND",
    "Affinity",
    "Container",
    "ContainerPort",
    "ContainerState",
    "ContainerStateRunning",
    "ContainerStateTerminated",
    "ContainerStateWaiting",
    "ContainerStatus",
    "EnvVar",
    "EphemeralContainer",
    "HostAlias",
    "HostIP",
    "Pod",
    "PodCondition",
    "PodDNSConfig",
    "PodIP",
    "PodSecurityContext",
    "PodSpec",
    "PodStatus",
    "Probe",
    "ResourceRequirements",
    "SecurityContext",
    "Toleration",
    "Volume",
    "VolumeMount",
]


def field_values(pod: Pod) -> dict[str, str]:
    """What field selectors on pods may compare."""
    spec, status = pod.spec, pod.status
    return {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "spec.nodeName": spec.nodeName,
        "spec.restartPolicy": spec.restartPolicy,
        "spec.schedulerName": spec.schedulerName,
        "spec.serviceAccountName": spec.serviceAccountName,
        "spec.hostNetwork": "true" if spec.hostNetwork else "false",
        "status.phase": status.phase,
        "status.podIP": status.podIP,
        "status.podIPs": "",  # accepted by Kubernetes, and matched against nothing there too
        "status.nominatedNodeName": status.nominatedNodeName,
    }


KIND = Kind(
    group="",
    version="v1",
    kind="Pod",
    plural="pods",
    type=Pod,
    short_names=("po",),
    categories=("all",),
    subresources=("status", "binding", "log", "exec"),
    default=pod_defaults.default,
    admit=pod_defaults.admit,
    prepare_create=pod_defaults.prepare_create,
    prepare_update=pod_rules_update.prepare_update,
    validate=pod_rules.validate,
    validate_create=pod_rules.validate_create,
    validate_update=pod_rules_update.validate_update,
    validate_status_update=pod_rules_update.validate_status_update,
    warnings=unsupported,
    columns=pod_table.COLUMNS,
    cells=pod_table.cells,
    field_values=field_values,
    graceful=True,
    description="Pod is a collection of containers that can run on a host.",
)
