"""From a pod's spec to what the CRI is asked for: sandbox and container configurations. Pure.

What the node adds (log directory, cgroup parent, DNS, mounts, environment) is passed in. Raises `ConfigError` for
what cannot be asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from apimachinery.kinds.pod import Container, Pod, PodSecurityContext
from apimachinery.kinds.pod_container import AppArmorProfile, SeccompProfile, SecurityContext, SELinuxOptions
from nodeagent import cri as names
from nodeagent.environment import ConfigError, expand
from nodeagent.hosts import pod_hostname
from nodeagent.resources import container_resources, pod_resources
from nodeagent.volumes.interface import Mount
from pb.cri.v1 import api_pb2 as cri

# What a container must not see or change in /proc and /sys unless procMount says Unmasked.
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
PROTOCOLS = {"": cri.TCP, "TCP": cri.TCP, "UDP": cri.UDP, "SCTP": cri.SCTP}
PROPAGATION = {
    "": cri.PROPAGATION_PRIVATE,
    "None": cri.PROPAGATION_PRIVATE,
    "HostToContainer": cri.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri.PROPAGATION_BIDIRECTIONAL,
}
PROFILES = {
    "RuntimeDefault": cri.SecurityProfile.RuntimeDefault,
    "Unconfined": cri.SecurityProfile.Unconfined,
    "Localhost": cri.SecurityProfile.Localhost,
}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node contributes. memory_bytes: its capacity."""

    node_name: str
    memory_bytes: int = 0


def pod_labels(pod: Pod) -> dict[str, str]:
    """The labels by which a sandbox and its containers are found again."""
    meta = pod.metadata
    return {names.POD_NAME: meta.name, names.POD_NAMESPACE: meta.namespace, names.POD_UID: meta.uid}


def sandbox_config(
    pod: Pod, attempt: int, node: NodeFacts, dns: cri.DNSConfig, *, log_directory: str, cgroup: str
) -> cri.PodSandboxConfig:
    """The pod's surroundings. cgroup: the one to put it into, "" to leave that to the runtime."""
    meta, security = pod.metadata, pod.spec.securityContext or PodSecurityContext()
    ports = [
        cri.PortMapping(
            protocol=PROTOCOLS.get(port.protocol, cri.TCP),
            container_port=port.containerPort,
            host_port=port.hostPort or 0,
            host_ip=port.hostIP,
        )
        for container in [*pod.spec.initContainers, *pod.spec.containers]
        for port in container.ports
        if port.hostPort and not pod.spec.hostNetwork
    ]
    linux = cri.LinuxPodSandboxConfig(
        cgroup_parent=cgroup,
        security_context=cri.LinuxSandboxSecurityContext(
            namespace_options=namespaces(pod),
            selinux_options=_selinux(security.seLinuxOptions),
            run_as_user=_int(security.runAsUser),
            run_as_group=_int(security.runAsGroup),
            supplemental_groups=_groups(security),
            privileged=any(_privileged(each) for each in [*pod.spec.initContainers, *pod.spec.containers]),
            seccomp=_profile(security.seccompProfile),
        ),
        sysctls={each.name: each.value for each in security.sysctls},
        resources=pod_resources(pod),
    )
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=meta.name, namespace=meta.namespace, uid=meta.uid, attempt=attempt),
        hostname=node.node_name if pod.spec.hostNetwork else pod_hostname(pod),
        log_directory=log_directory,
        dns_config=dns,
        port_mappings=ports,
        labels={**meta.labels, **pod_labels(pod)},
        annotations=meta.annotations,
        linux=linux,
    )


def container_config(
    pod: Pod,
    container: Container,
    attempt: int,
    image: cri.Image | None,
    image_ref: str,
    node: NodeFacts,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
) -> cri.ContainerConfig:
    """One container. image: what the runtime knows of the image, for its user; image_ref: by which it is started."""
    grace = pod.spec.terminationGracePeriodSeconds
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=container.name, attempt=attempt),
        image=cri.ImageSpec(image=image_ref, user_specified_image=container.image),
        command=[expand(word, env) for word in container.command],
        args=[expand(word, env) for word in container.args],
        working_dir=container.workingDir,
        envs=[cri.KeyValue(key=key, value=value) for key, value in env.items()],
        mounts=[_mount(each) for each in mounts],
        labels={**pod_labels(pod), names.CONTAINER_NAME: container.name},
        annotations={
            names.RESTART_COUNT: str(attempt),
            names.SPEC_HASH: spec_hash(container),
            names.MESSAGE_PATH: container.terminationMessagePath,
            names.MESSAGE_POLICY: container.terminationMessagePolicy,
            names.GRACE_SECONDS: str(30 if grace is None else grace),
        },
        log_path=f"{container.name}/{attempt}.log",
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdinOnce),
        tty=bool(container.tty),
        linux=cri.LinuxContainerConfig(
            resources=container_resources(pod, container, node.memory_bytes),
            security_context=_security(pod, container, image),
        ),
        stop_signal=_stop_signal(container),  # type: ignore[arg-type]
    )


def spec_hash(container: Container) -> str:
    """Changes when the container's spec does."""
    return hashlib.blake2b(msgspec.json.encode(container), digest_size=8).hexdigest()


def namespaces(pod: Pod) -> cri.NamespaceOption:
    """Which namespaces the pod shares, and with whom."""
    pid = cri.POD if pod.spec.shareProcessNamespace else cri.CONTAINER
    return cri.NamespaceOption(
        network=cri.NODE if pod.spec.hostNetwork else cri.POD,
        ipc=cri.NODE if pod.spec.hostIPC else cri.POD,
        pid=cri.NODE if pod.spec.hostPID else pid,
        userns_options=cri.UserNamespace(mode=cri.NODE),
    )


def _security(pod: Pod, container: Container, image: cri.Image | None) -> cri.LinuxContainerSecurityContext:
    outer = pod.spec.securityContext or PodSecurityContext()
    inner = container.securityContext or SecurityContext()
    user = outer.runAsUser if inner.runAsUser is None else inner.runAsUser
    group = outer.runAsGroup if inner.runAsGroup is None else inner.runAsGroup
    not_root = outer.runAsNonRoot if inner.runAsNonRoot is None else inner.runAsNonRoot
    if not_root:
        _check_not_root(pod, container, user, image)
    by_image = user is None and image is not None
    unmasked = inner.procMount == "Unmasked" or bool(inner.privileged)
    capabilities = inner.capabilities
    return cri.LinuxContainerSecurityContext(
        capabilities=cri.Capability(
            add_capabilities=capabilities.add if capabilities else [],
            drop_capabilities=capabilities.drop if capabilities else [],
        ),
        privileged=bool(inner.privileged),
        namespace_options=namespaces(pod),
        selinux_options=_selinux(inner.seLinuxOptions or outer.seLinuxOptions),
        run_as_user=_image_user(image) if by_image else _int(user),
        run_as_group=_int(group),
        run_as_username=image.username if by_image and image is not None else "",
        readonly_rootfs=bool(inner.readOnlyRootFilesystem),
        supplemental_groups=_groups(outer),
        supplemental_groups_policy=cri.Strict if outer.supplementalGroupsPolicy == "Strict" else cri.Merge,
        no_new_privs=inner.allowPrivilegeEscalation is False,
        masked_paths=[] if unmasked else MASKED_PATHS,
        readonly_paths=[] if unmasked else READONLY_PATHS,
        seccomp=_profile(inner.seccompProfile or outer.seccompProfile, privileged=bool(inner.privileged)),
        apparmor=_apparmor(inner.appArmorProfile or outer.appArmorProfile),
    )


def _check_not_root(pod: Pod, container: Container, user: int | None, image: cri.Image | None) -> None:
    where = f"(pod: {pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid}), container: {container.name})"
    if user == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if user is not None or image is None:
        return
    if image.username:
        text = f"container has runAsNonRoot and image has non-numeric user ({image.username})"
        raise ConfigError(f"{text}, cannot verify user is non-root {where}")
    if not image.HasField("uid") or image.uid.value == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _image_user(image: cri.Image | None) -> cri.Int64Value | None:
    return image.uid if image is not None and image.HasField("uid") and not image.username else None


def _groups(security: PodSecurityContext) -> list[int]:
    return [*security.supplementalGroups, *([] if security.fsGroup is None else [security.fsGroup])]


def _profile(profile: SeccompProfile | None, *, privileged: bool = False) -> cri.SecurityProfile | None:
    """Without a word in the spec it is the runtime's to decide; a privileged container has none."""
    if privileged:
        return cri.SecurityProfile(profile_type=cri.SecurityProfile.Unconfined)
    if profile is None:
        return None
    return cri.SecurityProfile(
        profile_type=PROFILES.get(profile.type, cri.SecurityProfile.RuntimeDefault),
        localhost_ref=profile.localhostProfile or "",
    )


def _apparmor(profile: AppArmorProfile | None) -> cri.SecurityProfile | None:
    if profile is None:
        return None
    return cri.SecurityProfile(
        profile_type=PROFILES.get(profile.type, cri.SecurityProfile.RuntimeDefault),
        localhost_ref=profile.localhostProfile or "",
    )


def _selinux(options: SELinuxOptions | None) -> cri.SELinuxOption | None:
    if options is None:
        return None
    return cri.SELinuxOption(user=options.user, role=options.role, type=options.type, level=options.level)


def _privileged(container: Container) -> bool:
    return bool(container.securityContext is not None and container.securityContext.privileged)


def _int(value: int | None) -> cri.Int64Value | None:
    return None if value is None else cri.Int64Value(value=value)


def _mount(mount: Mount) -> cri.Mount:
    return cri.Mount(
        container_path=mount.container_path,
        host_path=mount.host_path,
        readonly=mount.readonly,
        propagation=PROPAGATION.get(mount.propagation, cri.PROPAGATION_PRIVATE),
        recursive_read_only=mount.recursive_read_only,
    )


def _stop_signal(container: Container) -> int:
    wanted = container.lifecycle.stopSignal if container.lifecycle is not None else None
    if not wanted:
        return cri.RUNTIME_DEFAULT
    try:
        return int(cri.Signal.Value(wanted.replace("+", "PLUS").replace("-", "MINUS")))
    except ValueError:
        raise ConfigError(f"stop signal {wanted!r} is not known") from None
