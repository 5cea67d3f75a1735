"""Rules for the containers of a pod: environment, ports, resources, probes, hooks, rights."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import chain

from apimachinery import quantity
from apimachinery.causes import (
    duplicate,
    faulty,
    forbidden,
    invalid,
    not_found,
    not_negative,
    not_supported,
    one_of,
    required,
    within,
)
from apimachinery.errors import Cause
from apimachinery.kinds.pod_container import (
    Container,
    EnvVarSource,
    HTTPGetAction,
    LifecycleHandler,
    Probe,
    ResourceRequirements,
    SecurityContext,
)
from apimachinery.kinds.pod_rules_volumes import field_ref, key_selector, mounts, port_number, resource_field_ref
from apimachinery.kinds.pod_spec import PodSpec
from apimachinery.names import (
    dns_label_faults,
    dns_subdomain_faults,
    env_name_faults,
    label_key_faults,
    port_name_faults,
)

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
PROTOCOLS = ("SCTP", "TCP", "UDP")
ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_HEADER = re.compile(r"[-A-Za-z0-9]+", re.ASCII)
MAX_ID = 2**31 - 1


def containers(spec: PodSpec) -> list[Cause]:
    """All containers of all three kinds."""
    found: list[Cause] = []
    volumes = {volume.name for volume in spec.volumes}
    claims = {claim.name for claim in spec.resourceClaims}
    names: set[str] = set()
    if not spec.containers:
        found.append(required("spec.containers"))
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(getattr(spec, field)):
            path = f"spec.{field}[{index}]"
            if container.name in names and container.name:
                found.append(duplicate(f"{path}.name", container.name))
            names.add(container.name)
            found += _container(container, path, claims) + mounts(container, path, volumes)
            found += _ROLES[field](container, path)
    found += _host_ports(spec)
    return found


def _container(container: Container, path: str, claims: Collection[str]) -> list[Cause]:
    found: list[Cause] = []
    if not container.name:
        found.append(required(f"{path}.name"))
    else:
        found += faulty(f"{path}.name", container.name, dns_label_faults(container.name))
    if not container.image:
        found.append(required(f"{path}.image"))
    elif container.image != container.image.strip():
        found.append(invalid(f"{path}.image", container.image, "must not have leading or trailing whitespace"))
    found += one_of(f"{path}.imagePullPolicy", container.imagePullPolicy, PULL_POLICIES)
    policies = ("FallbackToLogsOnError", "File")
    found += one_of(f"{path}.terminationMessagePolicy", container.terminationMessagePolicy, policies)
    found += _ports(container, path) + _env(container, path)
    found += resources(container.resources, f"{path}.resources", claims)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = getattr(container, name)
        if probe is not None:
            found += _probe(probe, f"{path}.{name}", name)
    if container.lifecycle is not None:
        for name in ("postStart", "preStop"):
            handler = getattr(container.lifecycle, name)
            if handler is not None:
                found += _handler(handler, f"{path}.lifecycle.{name}")
    if container.securityContext is not None:
        found += _security(container.securityContext, f"{path}.securityContext")
    for index, policy in enumerate(container.resizePolicy):
        place = f"{path}.resizePolicy[{index}]"
        found += one_of(f"{place}.resourceName", policy.resourceName, ("cpu", "memory"))
        found += one_of(f"{place}.restartPolicy", policy.restartPolicy, ("NotRequired", "RestartContainer"))
    return found


def _main(container: Container, path: str) -> list[Cause]:
    if container.restartPolicy is None:
        return []
    return [forbidden(f"{path}.restartPolicy", "may not be set for non-init containers")]


def _init(container: Container, path: str) -> list[Cause]:
    if container.restartPolicy is not None:
        if container.restartPolicy == "Always":
            return []
        return [not_supported(f"{path}.restartPolicy", container.restartPolicy, ("Always",))]
    why = "may not be set for init containers without restartPolicy=Always"
    names = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
    return [forbidden(f"{path}.{name}", why) for name in names if getattr(container, name) is not None]


def _ephemeral(container: Container, path: str) -> list[Cause]:
    why = "cannot be set for an Ephemeral Container"
    names = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy", "restartPolicy")
    found = [forbidden(f"{path}.{name}", why) for name in names if getattr(container, name)]
    if container.resources.limits or container.resources.requests:
        found.append(forbidden(f"{path}.resources", why))
    for index, mount in enumerate(container.volumeMounts):
        if mount.subPath or mount.subPathExpr:
            found.append(forbidden(f"{path}.volumeMounts[{index}].subPath", why))
    return found


_ROLES = {"containers": _main, "initContainers": _init, "ephemeralContainers": _ephemeral}


def _ports(container: Container, path: str) -> list[Cause]:
    found: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(container.ports):
        place = f"{path}.ports[{index}]"
        if port.name:
            if faults := port_name_faults(port.name):
                found += faulty(f"{place}.name", port.name, faults)
            elif port.name in names:
                found.append(duplicate(f"{place}.name", port.name))
            names.add(port.name)
        if port.containerPort == 0:
            found.append(required(f"{place}.containerPort"))
        else:
            found += port_number(port.containerPort, f"{place}.containerPort")
        found += port_number(port.hostPort or None, f"{place}.hostPort")
        found += one_of(f"{place}.protocol", port.protocol, PROTOCOLS)
    return found


def _host_ports(spec: PodSpec) -> list[Cause]:
    found: list[Cause] = []
    taken: set[str] = set()
    for field in ("initContainers", "containers"):
        for index, container in enumerate(getattr(spec, field)):
            for number, port in enumerate(container.ports):
                place = f"spec.{field}[{index}].ports[{number}]"
                if spec.hostNetwork and port.hostPort != port.containerPort:
                    why = "must match `hostPort` when `hostNetwork` is true"
                    found.append(invalid(f"{place}.containerPort", port.containerPort, why))
                # Init containers end before the others begin, so only the others compete.
                if port.hostPort and field == "containers":
                    key = f"{port.protocol}/{port.hostIP}/{port.hostPort}"
                    if key in taken:
                        found.append(duplicate(f"{place}.hostPort", key))
                    taken.add(key)
    return found


def _env(container: Container, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, variable in enumerate(container.env):
        place = f"{path}.env[{index}]"
        if not variable.name:
            found.append(required(f"{place}.name"))
        else:
            found += faulty(f"{place}.name", variable.name, env_name_faults(variable.name))
        if variable.valueFrom is not None:
            found += _env_source(variable.valueFrom, f"{place}.valueFrom", variable.value)
    for index, source in enumerate(container.envFrom):
        place = f"{path}.envFrom[{index}]"
        if source.prefix:
            found += faulty(f"{place}.prefix", source.prefix, env_name_faults(source.prefix))
        if source.configMapRef is None and source.secretRef is None:
            found.append(invalid(place, "", "must specify one of: `configMapRef` or `secretRef`"))
        if source.configMapRef is not None and source.secretRef is not None:
            found.append(invalid(place, "", "may not have more than one field specified at a time"))
        for name in ("configMapRef", "secretRef"):
            reference = getattr(source, name)
            if reference is not None and not reference.name:
                found.append(required(f"{place}.{name}.name"))
            elif reference is not None:
                found += faulty(f"{place}.{name}.name", reference.name, dns_subdomain_faults(reference.name))
    return found


def _env_source(source: EnvVarSource, path: str, value: str) -> list[Cause]:
    found: list[Cause] = []
    chosen = [name for name in source.__struct_fields__ if getattr(source, name) is not None]
    if not chosen:
        why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        found.append(invalid(path, "", why))
    elif value:
        found.append(invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(chosen) > 1:
        found.append(invalid(path, "", "may not have more than one field specified at a time"))
    if source.fieldRef is not None:
        found += field_ref(source.fieldRef, f"{path}.fieldRef", ENV_FIELDS)
    if source.resourceFieldRef is not None:
        found += resource_field_ref(source.resourceFieldRef, f"{path}.resourceFieldRef", needs_container=False)
    if source.configMapKeyRef is not None:
        reference = source.configMapKeyRef
        found += key_selector(reference.name, reference.key, f"{path}.configMapKeyRef")
    if source.secretKeyRef is not None:
        found += key_selector(source.secretKeyRef.name, source.secretKeyRef.key, f"{path}.secretKeyRef")
    return found


def resources(given: ResourceRequirements, path: str, claims: Collection[str] = ()) -> list[Cause]:
    """Names and amounts; a request is at most its limit."""
    found = amounts(given.limits, f"{path}.limits") + amounts(given.requests, f"{path}.requests")
    for name, text in given.requests.items():
        limit = given.limits.get(name)
        if limit is None:
            if not overcommits(name):
                found.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
            continue
        if quantity.parse(text) > quantity.parse(limit):
            why = f"must be less than or equal to {name} limit of {limit}"
            found.append(invalid(f"{path}.requests", text, why))
        elif not overcommits(name) and quantity.parse(text) != quantity.parse(limit):
            found.append(invalid(f"{path}.requests", text, f"must be equal to {name} limit of {limit}"))
    names = set(chain(given.limits, given.requests))
    if any(name.startswith("hugepages-") for name in names) and not names & {"cpu", "memory"}:
        found.append(forbidden(path, "HugePages require cpu or memory"))
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(given.claims):
        if not claim.name:
            found.append(required(f"{path}.claims[{index}]"))
        elif claim.name not in claims:
            found.append(not_found(f"{path}.claims[{index}]", claim.name))
        if (claim.name, claim.request) in seen:
            found.append(duplicate(f"{path}.claims[{index}]", claim.name))
        seen.add((claim.name, claim.request))
    return found


def amounts(given: Mapping[str, str], path: str) -> list[Cause]:
    """A resource list of a container: known or qualified names, nothing negative, whole counts of devices."""
    found: list[Cause] = []
    for name, text in given.items():
        place = f"{path}.{name}" if "." not in name else f"{path}[{name}]"
        found += resource_name(name, place)
        amount = quantity.parse(text)
        if amount.nanos < 0:
            found.append(invalid(place, text, "must be greater than or equal to 0"))
        if not overcommits(name) and amount.nanos % 10**9:
            found.append(invalid(place, text, "must be an integer"))
    return found


def resource_name(name: str, path: str) -> list[Cause]:
    """cpu, memory, ephemeral-storage, hugepages-<size>, or a name with a domain."""
    found = faulty(path, name, label_key_faults(name))
    if found or name in _STANDARD or name.startswith("hugepages-"):
        return found
    if "/" not in name:
        return [
            invalid(path, name, "must be a standard resource type or fully qualified"),
            invalid(path, name, "must be a standard resource for containers"),
        ]
    return []


def overcommits(name: str) -> bool:
    """Whether limits may exceed requests: neither huge pages nor extended resources."""
    if name.startswith("hugepages-"):
        return False
    return "/" not in name or name.partition("/")[0].endswith("kubernetes.io")


def _probe(probe: Probe, path: str, role: str) -> list[Cause]:
    found = _actions(probe, ("exec", "httpGet", "tcpSocket", "grpc"), path)
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        found += not_negative(f"{path}.{name}", getattr(probe, name))
    if role != "readinessProbe" and probe.successThreshold not in (None, 1):
        found.append(invalid(f"{path}.successThreshold", probe.successThreshold, "must be 1"))
    grace = probe.terminationGracePeriodSeconds
    if role == "readinessProbe" and grace is not None:
        found.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"))
    elif grace is not None and grace <= 0:
        found.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if probe.grpc is not None:
        found += within(f"{path}.grpc.port", probe.grpc.port, 1, 65535)
    return found


def _handler(handler: LifecycleHandler, path: str) -> list[Cause]:
    found = _actions(handler, ("exec", "httpGet", "tcpSocket", "sleep"), path)
    if handler.sleep is not None and handler.sleep.seconds < 0:
        found.append(invalid(f"{path}.sleep", handler.sleep.seconds, "must be greater than or equal to 0"))
    return found


def _actions(owner: Probe | LifecycleHandler, names: tuple[str, ...], path: str) -> list[Cause]:
    chosen = [name for name in names if getattr(owner, name) is not None]
    if not chosen:
        return [required(path, "must specify a handler type")]
    found = [forbidden(f"{path}.{name}", "may not specify more than 1 handler type") for name in chosen[1:]]
    if owner.exec is not None and not owner.exec.command:
        found.append(required(f"{path}.exec.command"))
    if owner.httpGet is not None:
        found += _http_get(owner.httpGet, f"{path}.httpGet")
    if owner.tcpSocket is not None:
        found += _port(owner.tcpSocket.port, f"{path}.tcpSocket.port")
    return found


def _http_get(action: HTTPGetAction, path: str) -> list[Cause]:
    found = [] if action.path else [required(f"{path}.path")]
    found += _port(action.port, f"{path}.port")
    found += one_of(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for index, header in enumerate(action.httpHeaders):
        if not _HEADER.fullmatch(header.name):
            why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')"
            found.append(invalid(f"{path}.httpHeaders[{index}]", header.name, why))
    return found


def _port(value: int | str, path: str) -> list[Cause]:
    if isinstance(value, int):
        return within(path, value, 1, 65535)
    return faulty(path, value, port_name_faults(value))


def _security(context: SecurityContext, path: str) -> list[Cause]:
    found = identity(context.runAsUser, context.runAsGroup, path)
    found += one_of(f"{path}.procMount", context.procMount or "", ("Default", "Unmasked"), needed=False)
    if context.allowPrivilegeEscalation is False:
        if context.privileged:
            why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            found.append(invalid(path, context, why))
        if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
            why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            found.append(invalid(path, context, why))
    return found + profiles(context, path)


def identity(user: int | None, group: int | None, path: str) -> list[Cause]:
    """Numbers of a user and a group."""
    return within(f"{path}.runAsUser", user, 0, MAX_ID) + within(f"{path}.runAsGroup", group, 0, MAX_ID)


def profiles(context: object, path: str) -> list[Cause]:
    """seccompProfile and appArmorProfile of a container or pod."""
    found: list[Cause] = []
    for name in ("seccompProfile", "appArmorProfile"):
        profile = getattr(context, name)
        if profile is None:
            continue
        place = f"{path}.{name}"
        found += one_of(f"{place}.type", profile.type, ("Localhost", "RuntimeDefault", "Unconfined"))
        if profile.type == "Localhost" and not profile.localhostProfile:
            found.append(required(f"{place}.localhostProfile", "must be set when profile type is Localhost"))
        elif profile.type != "Localhost" and profile.localhostProfile is not None:
            why = "can only be set when profile type is Localhost"
            found.append(invalid(f"{place}.localhostProfile", profile.localhostProfile, why))
    return found
