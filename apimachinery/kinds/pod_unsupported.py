"""Fields of a pod that are accepted and on which nothing acts yet. No accepted field is silently ignored: each that
a user sets is answered with a `Warning`. Whoever makes one work deletes its row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apimachinery.kinds.pod_container import ResourceRequirements
from apimachinery.kinds.pod_spec import Pod
from apimachinery.meta import Record

# Paths below `spec`; `[]` goes through a list. A field counts as set when it is neither empty nor what NEUTRAL says.
ROWS: tuple[str, ...] = (
    "ephemeralContainers",
    "automountServiceAccountToken",
    "serviceAccountName",
    "affinity.podAffinity",
    "affinity.podAntiAffinity",
    "topologySpreadConstraints",
    "priorityClassName",
    "runtimeClassName",
    "overhead",
    "subdomain",
    "setHostnameAsFQDN",
    "os",
    "hostUsers",
    "resourceClaims",
    "resources",
    "securityContext.seLinuxOptions",
    "securityContext.windowsOptions",
    "securityContext.fsGroupChangePolicy",
    "securityContext.seccompProfile",
    "securityContext.appArmorProfile",
    "securityContext.seLinuxChangePolicy",
    "tolerations[].tolerationSeconds",
)
# Below each init and main container.
CONTAINER_ROWS: tuple[str, ...] = (
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "volumeDevices",
    "stdinOnce",
    "ports[].hostPort",
    "resources.claims",
    "securityContext.seLinuxOptions",
    "securityContext.windowsOptions",
    "securityContext.procMount",
    "securityContext.seccompProfile",
    "securityContext.appArmorProfile",
)
# Values that ask for nothing: Kubernetes' own defaults and what admission sets.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "serviceAccountName": ("default",),
    "priorityClassName": ("system-cluster-critical", "system-node-critical"),
    "setHostnameAsFQDN": (False,),
    "hostUsers": (True,),
    "automountServiceAccountToken": (False,),
    "tolerations[].tolerationSeconds": (300,),
    "stdinOnce": (False,),
    "securityContext.procMount": ("Default",),
}
# Sources of volumes that work; all others are rows.
VOLUMES = ("name", "emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected")
PROJECTIONS = ("secret", "configMap", "downwardAPI")
# Compute resources that are enforced or scheduled; extended resources and huge pages are not yet.
RESOURCES = ("cpu", "memory", "ephemeral-storage")


def unsupported(pod: Pod) -> list[str]:
    """Texts for `Warning` headers, in the order of the spec's table; none for an ordinary pod."""
    spec = pod.spec
    paths = list(_set_fields(spec, ROWS, "spec"))
    # On the node's own network every port is a port of the node: there hostPort is what happens anyway.
    rows = _ON_HOST_NETWORK if spec.hostNetwork else CONTAINER_ROWS
    for field in ("initContainers", "containers"):
        for index, container in enumerate(getattr(spec, field)):
            path = f"spec.{field}[{index}]"
            paths += _set_fields(container, rows, path)
            paths += _resources(container.resources, f"{path}.resources")
    for index, volume in enumerate(spec.volumes):
        path = f"spec.volumes[{index}]"
        paths += [f"{path}.{name}" for name in _others(volume, VOLUMES)]
        if volume.emptyDir is not None and volume.emptyDir.sizeLimit and volume.emptyDir.medium != "Memory":
            paths.append(f"{path}.emptyDir.sizeLimit")
        for number, source in enumerate(volume.projected.sources if volume.projected is not None else ()):
            paths += [f"{path}.projected.sources[{number}].{name}" for name in _others(source, PROJECTIONS)]
    return [f"{path}: nothing acts on this yet" for path in paths]


_ON_HOST_NETWORK = tuple(row for row in CONTAINER_ROWS if row != "ports[].hostPort")


def _resources(resources: ResourceRequirements, path: str) -> Iterator[str]:
    for side in ("limits", "requests"):
        for name in getattr(resources, side):
            enforced = name in RESOURCES and not (side == "limits" and name == "ephemeral-storage")
            # A limit is copied into the requests by defaulting: say it once.
            if not enforced and (side == "limits" or name not in resources.limits):
                yield f"{path}.{side}[{name}]"


def _others(source: Record, known: tuple[str, ...]) -> list[str]:
    return [name for name in source.__struct_fields__ if getattr(source, name) is not None and name not in known]


def _set_fields(root: Any, rows: tuple[str, ...], base: str) -> Iterator[str]:
    for row in rows:
        parts = _PARTS[row]
        if _is_set(getattr(root, parts[0].removesuffix("[]"))):  # most are not: look no further
            for path, value in _reach(root, parts, base):
                if _is_set(value) and value not in NEUTRAL.get(row, ()):
                    yield path


_PARTS = {row: tuple(row.split(".")) for row in (*ROWS, *CONTAINER_ROWS)}


def _is_set(value: Any) -> bool:
    return bool(value) or value is False


def _reach(value: Any, parts: tuple[str, ...], path: str) -> Iterator[tuple[str, Any]]:
    if value is None:
        return
    if not parts:
        yield path, value
        return
    name = parts[0].removesuffix("[]")
    inner = getattr(value, name)
    if parts[0].endswith("[]"):
        for index, item in enumerate(inner):
            yield from _reach(item, parts[1:], f"{path}.{name}[{index}]")
    else:
        yield from _reach(inner, parts[1:], f"{path}.{name}")
