"""A container's environment, command and arguments, as Kubernetes makes them. Pure functions.

The objects that variables refer to are fetched by the caller and passed in. Raises `ConfigError` with the text that the
container's status then shows as CreateContainerConfigError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.pod import Container, Pod
from apimachinery.kinds.pod_container import EnvVarSource
from apimachinery.kinds.pod_volumes import ObjectFieldSelector, ResourceFieldSelector
from apimachinery.kinds.secret import Secret
from apimachinery.quantity import parse


class ConfigError(Exception):
    """The container's configuration cannot be made from the pod and the objects it refers to."""


@dataclass(frozen=True, slots=True)
class Objects:
    """ConfigMaps and Secrets of the pod's namespace by name; None where there is none."""

    configmaps: Mapping[str, ConfigMap | None] = field(default_factory=dict)
    secrets: Mapping[str, Secret | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pod is: its own addresses, the node's, and what the node has for pods (quantities by resource)."""

    pod_ips: tuple[str, ...] = ()
    host_ip: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)


def referenced(container: Container) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the container's environment needs."""
    sources = [variable.valueFrom for variable in container.env if variable.valueFrom is not None]
    configmaps = {each.configMapKeyRef.name for each in sources if each.configMapKeyRef}
    configmaps |= {each.configMapRef.name for each in container.envFrom if each.configMapRef}
    secrets = {each.secretKeyRef.name for each in sources if each.secretKeyRef}
    secrets |= {each.secretRef.name for each in container.envFrom if each.secretRef}
    return configmaps, secrets


def environment(container: Container, pod: Pod, objects: Objects, place: Place) -> dict[str, str]:
    """Variables in their order: envFrom first, then env, where later ones may refer to earlier ones."""
    found: dict[str, str] = {}
    for source in container.envFrom:
        if source.configMapRef is not None:
            name = source.configMapRef.name
            data: Mapping[str, str | bytes] = _configmap(objects, name, source.configMapRef.optional).data
        elif source.secretRef is not None:
            data = _secret(objects, source.secretRef.name, source.secretRef.optional).data
        else:
            continue
        for key in sorted(data):
            if valid_variable(source.prefix + key):
                found[source.prefix + key] = _text(data[key])
    for variable in container.env:
        if variable.valueFrom is None:
            found[variable.name] = expand(variable.value, found)
            continue
        value = _from_source(variable.valueFrom, container, pod, objects, place)
        if value is not None:
            found[variable.name] = value
    return found


def skipped_keys(container: Container, objects: Objects) -> list[str]:
    """Keys of envFrom that are no valid variable names and are left out."""
    skipped = []
    for source in container.envFrom:
        holder: ConfigMap | Secret | None = None
        if source.configMapRef is not None:
            holder = objects.configmaps.get(source.configMapRef.name)
        elif source.secretRef is not None:
            holder = objects.secrets.get(source.secretRef.name)
        keys = sorted(holder.data) if holder is not None else []
        skipped += [key for key in keys if not valid_variable(source.prefix + key)]
    return skipped


def valid_variable(name: str) -> bool:
    """Any printable ASCII name without `=`, as Kubernetes 1.30 and later allow."""
    return bool(name) and all(" " <= char <= "~" and char != "=" for char in name)


def expand(text: str, values: Mapping[str, str], missing: Callable[[str], str] | None = None) -> str:
    """Replace `$(NAME)` by its value; `$$` is one dollar, and a name that is not known stays as it is, or becomes
    `missing(name)`."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1]
        if name in values:
            return values[name]
        return missing(name) if missing is not None else match[0]

    return re.sub(r"\$\$|\$\(([^()]*)\)", replace, text)


def _from_source(source: EnvVarSource, container: Container, pod: Pod, objects: Objects, place: Place) -> str | None:
    """The value, None for an optional one that is not there."""
    if source.fieldRef is not None:
        return pod_field(source.fieldRef, pod, place)
    if source.resourceFieldRef is not None:
        return resource_field(source.resourceFieldRef, pod, place, container)
    if source.configMapKeyRef is not None:
        reference = source.configMapKeyRef
        data: Mapping[str, str | bytes] = _configmap(objects, reference.name, reference.optional).data
        return _key(data, reference.key, "ConfigMap", pod.metadata.namespace, reference.name, reference.optional)
    if source.secretKeyRef is not None:
        secret = source.secretKeyRef
        data = _secret(objects, secret.name, secret.optional).data
        return _key(data, secret.key, "Secret", pod.metadata.namespace, secret.name, secret.optional)
    return ""


def _key(
    data: Mapping[str, str | bytes], key: str, kind: str, namespace: str, name: str, optional: bool | None
) -> str | None:
    if key in data:
        return _text(data[key])
    if optional:
        return None
    raise ConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")


def _configmap(objects: Objects, name: str, optional: bool | None) -> ConfigMap:
    found = objects.configmaps.get(name)
    if found is None:
        if optional:
            return ConfigMap()
        raise ConfigError(f'configmap "{name}" not found')
    return found


def _secret(objects: Objects, name: str, optional: bool | None) -> Secret:
    found = objects.secrets.get(name)
    if found is None:
        if optional:
            return Secret()
        raise ConfigError(f'secret "{name}" not found')
    return found


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ConfigError("a secret's value is not text and cannot become an environment variable") from None


# The downward API.

_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['([^']*)'\]")


def pod_field(selector: ObjectFieldSelector, pod: Pod, place: Place) -> str:
    """The value of a pod's field. Raises ConfigError for a field that cannot be referred to."""
    meta, path = pod.metadata, selector.fieldPath
    if match := _SUBSCRIPT.fullmatch(path):
        holder = meta.labels if match[1] == "metadata.labels" else meta.annotations
        return holder.get(match[2], "")
    plain: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta.name,
        "metadata.namespace": lambda: meta.namespace,
        "metadata.uid": lambda: meta.uid,
        "metadata.labels": lambda: format_map(meta.labels),
        "metadata.annotations": lambda: format_map(meta.annotations),
        "spec.nodeName": lambda: pod.spec.nodeName,
        "spec.serviceAccountName": lambda: pod.spec.serviceAccountName,
        "status.hostIP": lambda: place.host_ip,
        "status.hostIPs": lambda: place.host_ip,
        "status.podIP": lambda: place.pod_ips[0] if place.pod_ips else "",
        "status.podIPs": lambda: ",".join(place.pod_ips),
    }
    if path not in plain:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return plain[path]()


def format_map(values: Mapping[str, str]) -> str:
    """Labels or annotations as the downward API writes them: sorted, one `key="value"` a line."""
    escaped = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for _, value in sorted(values.items())
    )
    return "\n".join(f'{key}="{value}"' for key, value in zip(sorted(values), escaped, strict=True))


def resource_field(selector: ResourceFieldSelector, pod: Pod, place: Place, container: Container | None = None) -> str:
    """A container's request or limit in units of the divisor, rounded up. A limit that is not set is the node's."""
    if selector.containerName or container is None:
        everyone = [*pod.spec.containers, *pod.spec.initContainers]
        container = next((each for each in everyone if each.name == selector.containerName), None)
        if container is None:
            raise ConfigError(f"container {selector.containerName!r} not found")
    kind, _, resource = selector.resource.partition(".")
    if kind not in ("limits", "requests") or resource not in ("cpu", "memory", "ephemeral-storage"):
        raise ConfigError(f"unsupported container resource : {selector.resource}")
    resources = container.resources
    text = (resources.limits if kind == "limits" else resources.requests).get(resource, "")
    if not text and kind == "requests":
        text = resources.limits.get(resource, "0")
    amount = parse(text or place.allocatable.get(resource, "0")).nanos
    divisor = parse(selector.divisor or "1").nanos or parse("1").nanos
    return str(-(-amount // divisor))
