"""Rules for the volumes of a pod and for where its containers mount them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from apimachinery import quantity
from apimachinery.causes import (
    duplicate,
    faulty,
    forbidden,
    invalid,
    not_found,
    not_supported,
    one_of,
    required,
    within,
)
from apimachinery.errors import Cause
from apimachinery.kinds.pod_container import Container
from apimachinery.kinds.pod_volumes import (
    SOURCES,
    DownwardAPIVolumeFile,
    KeyToPath,
    ObjectFieldSelector,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    Volume,
)
from apimachinery.names import config_key_faults, dns_label_faults, dns_subdomain_faults, label_key_faults

HOST_PATH_TYPES = ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]", re.DOTALL)
_RESOURCES = tuple(
    f"{side}.{resource}" for side in ("limits", "requests") for resource in ("cpu", "ephemeral-storage", "memory")
)
_DIVISORS = {
    "cpu": ("1", "1m"),
    "": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}
# What cannot be missing in each kind of source. Values that are no strings are not looked at.
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "hostPath": ("path",),
    "secret": ("secretName",),
    "configMap": ("name",),
    "persistentVolumeClaim": ("claimName",),
    "csi": ("driver",),
    "nfs": ("server", "path"),
    "gitRepo": ("repository",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "iscsi": ("targetPortal", "iqn"),
    "glusterfs": ("endpoints", "path"),
    "rbd": ("image", "monitors"),
    "cephfs": ("monitors",),
    "cinder": ("volumeID",),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "azureDisk": ("diskName", "diskURI"),
    "vsphereVolume": ("volumePath",),
    "quobyte": ("registry", "volume"),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "scaleIO": ("gateway", "system", "volumeName"),
    "storageos": ("volumeName",),
    "ephemeral": ("volumeClaimTemplate",),
}
MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def volumes(given: list[Volume], path: str) -> list[Cause]:
    """Names, and one well-formed source each."""
    found: list[Cause] = []
    names: set[str] = set()
    for index, volume in enumerate(given):
        place = f"{path}[{index}]"
        if not volume.name:
            found.append(required(f"{place}.name"))
        elif faults := faulty(f"{place}.name", volume.name, dns_label_faults(volume.name)):
            found += faults
        elif volume.name in names:
            found.append(duplicate(f"{place}.name", volume.name))
        names.add(volume.name)
        found += _source(volume, place)
    return found


def _source(volume: Volume, place: str) -> list[Cause]:
    sources = [name for name in SOURCES if getattr(volume, name) is not None]
    if not sources:
        return [required(place, "must specify a volume type")]
    found = [forbidden(f"{place}.{name}", "may not specify more than 1 volume type") for name in sources[1:]]
    first = sources[0]
    source = getattr(volume, first)
    at = f"{place}.{first}"
    found += [required(f"{at}.{name}") for name in _REQUIRED.get(first, ()) if not getattr(source, name)]
    if "defaultMode" in type(source).__struct_fields__:
        found += mode(source.defaultMode, f"{at}.defaultMode")
    if volume.hostPath is not None and first == "hostPath":
        found += _no_dots(volume.hostPath.path, f"{at}.path")
        if volume.hostPath.type and volume.hostPath.type not in HOST_PATH_TYPES:
            found.append(not_supported(f"{at}.type", volume.hostPath.type, HOST_PATH_TYPES))
    elif volume.emptyDir is not None and first == "emptyDir":
        limit = volume.emptyDir.sizeLimit
        if limit and quantity.parse(limit).nanos < 0:
            found.append(forbidden(f"{at}.sizeLimit", "SizeLimit field must be a valid resource quantity"))
    elif first in ("secret", "configMap"):
        found += _items(source.items, at)
    elif first == "downwardAPI":
        found += _downward(source.items, at)
    elif first == "projected":
        found += _projected(source, at)
    elif volume.nfs is not None and first == "nfs" and volume.nfs.path and not volume.nfs.path.startswith("/"):
        found.append(invalid(f"{at}.path", volume.nfs.path, "must be an absolute path"))
    return found


def mode(value: int | None, path: str) -> list[Cause]:
    """Permission bits."""
    return [invalid(path, value, MODE)] if value is not None and not 0 <= value <= 0o777 else []


def _items(items: list[KeyToPath], at: str) -> list[Cause]:
    found: list[Cause] = []
    for index, item in enumerate(items):
        place = f"{at}.items[{index}]"
        if not item.key:
            found.append(required(f"{place}.key"))
        found += _file_path(item.path, f"{place}.path") + mode(item.mode, f"{place}.mode")
    return found


def _downward(items: list[DownwardAPIVolumeFile], at: str) -> list[Cause]:
    found: list[Cause] = []
    for index, item in enumerate(items):
        place = f"{at}.items[{index}]"
        found += _file_path(item.path, f"{place}.path") + mode(item.mode, f"{place}.mode")
        if item.fieldRef is not None:
            found += field_ref(item.fieldRef, f"{place}.fieldRef", VOLUME_FIELDS)
            if item.resourceFieldRef is not None:
                found.append(
                    invalid(place, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
                )
        elif item.resourceFieldRef is not None:
            found += resource_field_ref(item.resourceFieldRef, f"{place}.resourceFieldRef", needs_container=True)
        else:
            found.append(required(place, "one of fieldRef and resourceFieldRef is required"))
    return found


def _projected(source: ProjectedVolumeSource, at: str) -> list[Cause]:
    found: list[Cause] = []
    for index, projection in enumerate(source.sources):
        place = f"{at}.sources[{index}]"
        chosen = [name for name in type(projection).__struct_fields__ if getattr(projection, name) is not None]
        if not chosen:
            found.append(required(place, "must specify a volume type"))
            continue
        found += [forbidden(f"{place}.{name}", "may not specify more than 1 volume type") for name in chosen[1:]]
        name, part = f"{place}.{chosen[0]}", getattr(projection, chosen[0])
        if chosen[0] in ("secret", "configMap"):
            if not part.name:
                found.append(required(f"{name}.name"))
            found += _items(part.items, name)
        elif chosen[0] == "downwardAPI":
            found += _downward(part.items, name)
        elif chosen[0] == "serviceAccountToken":
            if not part.path:
                found.append(required(f"{name}.path"))
            if part.expirationSeconds is not None and part.expirationSeconds < 600:
                why = "may not specify a duration less than 10 minutes"
                found.append(invalid(f"{name}.expirationSeconds", part.expirationSeconds, why))
        else:
            found += _file_path(part.path, f"{name}.path")
    return found


def _file_path(path: str, place: str) -> list[Cause]:
    if not path:
        return [required(place)]
    found = _no_dots(path, place)
    if path.startswith("/"):
        found.append(invalid(place, path, "must be a relative path"))
    elif path.startswith("..") and not found:
        found.append(invalid(place, path, "must not start with '..'"))
    return found


def _no_dots(path: str, place: str) -> list[Cause]:
    return [invalid(place, path, "must not contain '..'")] if ".." in path.split("/") else []


def field_ref(selector: ObjectFieldSelector, path: str, supported: Collection[str]) -> list[Cause]:
    """A reference to a field of the pod: one of `supported`, or a label or annotation in brackets."""
    if not selector.apiVersion:
        return [required(f"{path}.apiVersion")]
    if not selector.fieldPath:
        return [required(f"{path}.fieldPath")]
    if selector.apiVersion != "v1":
        return [invalid(f"{path}.apiVersion", selector.apiVersion, 'must be "v1"')]
    subscript = _SUBSCRIPT.fullmatch(selector.fieldPath)
    if subscript is not None:
        key = subscript[2] if subscript[1] == "metadata.labels" else subscript[2].lower()
        return faulty(path, subscript[2], label_key_faults(key))
    if selector.fieldPath in supported:
        return []
    return [not_supported(f"{path}.fieldPath", selector.fieldPath, supported)]


def resource_field_ref(selector: ResourceFieldSelector, path: str, *, needs_container: bool) -> list[Cause]:
    """A reference to a limit or a request of a container."""
    if needs_container and not selector.containerName:
        return [required(f"{path}.containerName")]
    if not selector.resource:
        return [required(f"{path}.resource")]
    resource = selector.resource.partition(".")[2]
    if selector.resource not in _RESOURCES and not resource.startswith("hugepages-"):
        return [not_supported(f"{path}.resource", selector.resource, _RESOURCES)]
    allowed = _DIVISORS.get(resource, _DIVISORS[""])
    if selector.divisor not in ("", "0") and selector.divisor not in allowed:
        why = f"only divisor's values {', '.join(allowed)} are supported with the {resource} resource"
        return [invalid(f"{path}.divisor", selector.divisor, why)]
    return []


def mounts(container: Container, path: str, names: Collection[str]) -> list[Cause]:
    """The mounts and block devices of one container; `names` are the volumes of the pod."""
    found: list[Cause] = []
    paths: set[str] = set()
    privileged = container.securityContext is not None and bool(container.securityContext.privileged)
    for index, mount in enumerate(container.volumeMounts):
        place = f"{path}.volumeMounts[{index}]"
        found += _mounted(mount.name, f"{place}.name", names)
        if not mount.mountPath:
            found.append(required(f"{place}.mountPath"))
        elif mount.mountPath in paths:
            found.append(invalid(f"{place}.mountPath", mount.mountPath, "must be unique"))
        paths.add(mount.mountPath)
        if mount.subPath and mount.subPathExpr:
            why = "subPathExpr and subPath are mutually exclusive"
            found.append(invalid(f"{place}.subPathExpr", mount.subPathExpr, why))
        for name, text in (("subPath", mount.subPath), ("subPathExpr", mount.subPathExpr)):
            if text.startswith("/"):
                found.append(invalid(f"{place}.{name}", text, "must be a relative path"))
            found += _no_dots(text, f"{place}.{name}")
        modes = ("Bidirectional", "HostToContainer", "None")
        found += one_of(f"{place}.mountPropagation", mount.mountPropagation or "", modes, needed=False)
        if mount.mountPropagation == "Bidirectional" and not privileged:
            why = "Bidirectional mount propagation is available only to privileged containers"
            found.append(forbidden(f"{place}.mountPropagation", why))
        modes = ("Disabled", "Enabled", "IfPossible")
        found += one_of(f"{place}.recursiveReadOnly", mount.recursiveReadOnly or "", modes, needed=False)
        if mount.recursiveReadOnly in ("Enabled", "IfPossible") and not mount.readOnly:
            found.append(forbidden(f"{place}.recursiveReadOnly", "may only be specified when readOnly is true"))
    for index, device in enumerate(container.volumeDevices):
        place = f"{path}.volumeDevices[{index}]"
        found += _mounted(device.name, f"{place}.name", names)
        if not device.devicePath:
            found.append(required(f"{place}.devicePath"))
        elif device.devicePath in paths:
            found.append(invalid(f"{place}.devicePath", device.devicePath, "must be unique"))
        paths.add(device.devicePath)
    return found


def _mounted(name: str, path: str, names: Collection[str]) -> list[Cause]:
    if not name:
        return [required(path)]
    return [] if name in names else [not_found(path, name)]


def key_selector(name: str, key: str, path: str) -> list[Cause]:
    """A key of a ConfigMap or Secret."""
    found = faulty(f"{path}.name", name, dns_subdomain_faults(name)) if name else [required(f"{path}.name")]
    if not key:
        return [*found, required(f"{path}.key")]
    return found + faulty(f"{path}.key", key, config_key_faults(key))


def port_number(value: int | None, path: str) -> list[Cause]:
    """1 to 65535, if given."""
    return within(path, value, 1, 65535)
