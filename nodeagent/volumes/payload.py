"""The files of configMap, secret, downwardAPI and projected volumes, from the objects they name. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.pod import Pod, Volume
from apimachinery.kinds.pod_volumes import DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource
from apimachinery.kinds.secret import Secret
from nodeagent.environment import ConfigError, Objects, Place, pod_field, resource_field
from nodeagent.volumes.atomic import File
from nodeagent.volumes.interface import VolumeError

DEFAULT_MODE = 0o644


def referenced(volume: Volume) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the volume needs."""
    configmaps, secrets = set(), set()
    if volume.configMap is not None:
        configmaps.add(volume.configMap.name)
    if volume.secret is not None:
        secrets.add(volume.secret.secretName)
    for source in volume.projected.sources if volume.projected is not None else []:
        if source.configMap is not None:
            configmaps.add(source.configMap.name)
        if source.secret is not None:
            secrets.add(source.secret.name)
    return configmaps, secrets


def files(volume: Volume, pod: Pod, objects: Objects, place: Place) -> dict[str, File]:
    """What the volume holds, by relative path. Raises VolumeError."""
    if volume.configMap is not None:
        configmap = volume.configMap
        mode = _mode(configmap.defaultMode)
        return _configmap(objects, configmap.name, configmap.items, mode, configmap.optional)
    if volume.secret is not None:
        secret = volume.secret
        return _secret(objects, secret.secretName, secret.items, _mode(secret.defaultMode), secret.optional)
    if volume.downwardAPI is not None:
        return _downward(volume.downwardAPI.items, _mode(volume.downwardAPI.defaultMode), pod, place)
    assert volume.projected is not None
    return _projected(volume.projected, pod, objects, place)


def _projected(projected: ProjectedVolumeSource, pod: Pod, objects: Objects, place: Place) -> dict[str, File]:
    mode = _mode(projected.defaultMode)
    found: dict[str, File] = {}
    for source in projected.sources:
        if source.configMap is not None:
            more = source.configMap
            found |= _configmap(objects, more.name, more.items, mode, more.optional)
        elif source.secret is not None:
            other = source.secret
            found |= _secret(objects, other.name, other.items, mode, other.optional)
        elif source.downwardAPI is not None:
            found |= _downward(source.downwardAPI.items, mode, pod, place)
        else:
            kind = "serviceAccountToken" if source.serviceAccountToken is not None else "clusterTrustBundle"
            raise VolumeError(f"projected source {kind} is not supported", permanent=True)
    return found


def _mode(mode: int | None) -> int:
    return DEFAULT_MODE if mode is None else mode


def _configmap(
    objects: Objects, name: str, items: list[KeyToPath], mode: int, optional: bool | None
) -> dict[str, File]:
    found: ConfigMap | None = objects.configmaps.get(name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'configmap "{name}" not found')
    data = {key: value.encode() for key, value in found.data.items()} | found.binaryData
    return _pick(data, items, mode, optional, f'configmap "{name}"')


def _secret(objects: Objects, name: str, items: list[KeyToPath], mode: int, optional: bool | None) -> dict[str, File]:
    found: Secret | None = objects.secrets.get(name)
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'secret "{name}" not found')
    return _pick(found.data, items, mode, optional, f'secret "{name}"')


def _pick(
    data: Mapping[str, bytes], items: list[KeyToPath], mode: int, optional: bool | None, what: str
) -> dict[str, File]:
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    found = {}
    for item in items:
        if item.key in data:
            found[item.path] = File(data[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise VolumeError(f"{what} references non-existent key: {item.key}")
    return found


def _downward(items: list[DownwardAPIVolumeFile], mode: int, pod: Pod, place: Place) -> dict[str, File]:
    found = {}
    for item in items:
        try:
            if item.fieldRef is not None:
                text = pod_field(item.fieldRef, pod, place)
            elif item.resourceFieldRef is not None:
                text = resource_field(item.resourceFieldRef, pod, place)
            else:
                text = ""
        except ConfigError as error:
            raise VolumeError(str(error), permanent=True) from error
        found[item.path] = File(text.encode(), mode if item.mode is None else item.mode)
    return found
