"""From a CRI request and an image's configuration to what the shim is told; pure functions.

Refuses what this runtime does not do yet: a field is acted upon or answered with an error, never ignored.
"""

from __future__ import annotations

import re
from typing import Any

from pb.cri.v1 import api_pb2 as cri
from runtime.cgroups.convert import ALL_DEVICES, DEFAULT_DEVICES
from runtime.cgroups.interface import DeviceRule, Resources
from runtime.errors import InvalidArgument, Unimplemented
from runtime.linux import capabilities

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MASKED_PROC = "acpi asound interrupts kcore keys latency_stats timer_list timer_stats sched_debug scsi"
MASKED = [*(f"/proc/{name}" for name in _MASKED_PROC.split(" ")), "/sys/firmware", "/sys/devices/virtual/powercap"]
READ_ONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
_SYSCTLS = {
    "ipc": re.compile(r"kernel\.(shm[a-z_]*|msg[a-z_]*|sem)|fs\.mqueue\.[a-z_]+"),
    "network": re.compile(r"net\.[A-Za-z0-9_.\-/]+"),
    "uts": re.compile(r"kernel\.domainname"),
}


def arguments(config: cri.ContainerConfig, image: dict[str, Any]) -> list[str]:
    """The command line: a command of its own replaces the image's entrypoint and its arguments."""
    entrypoint = list(config.command) or list(image.get("Entrypoint") or [])
    own = config.command or config.args
    line = entrypoint + list(config.args if own else image.get("Cmd") or [])
    if not line or not line[0]:
        raise InvalidArgument("no command specified: neither the container nor its image says what to run")
    return line


def environment(config: cri.ContainerConfig, image: dict[str, Any], hostname: str) -> list[str]:
    """NAME=value lines: the image's, then the container's; PATH, HOSTNAME and TERM where nobody set them."""
    merged: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        merged["TERM"] = "xterm"
    for line in image.get("Env") or []:
        name, _, value = line.partition("=")
        merged[name] = value
    for pair in config.envs:
        if not pair.key or "=" in pair.key or "\0" in pair.key + pair.value:
            raise InvalidArgument(f"environment variable {pair.key!r} has no usable name or value")
        merged[pair.key] = pair.value
    return [f"{name}={value}" for name, value in merged.items()]


def user(security: cri.LinuxContainerSecurityContext, image: dict[str, Any]) -> dict[str, Any]:
    """Names or numbers, to be resolved inside the image."""
    has_user = security.HasField("run_as_user")
    if security.HasField("run_as_group") and not has_user and not security.run_as_username:
        raise InvalidArgument(f"user group {security.run_as_group.value} is specified without user")
    image_user, _, image_group = str(image.get("User") or "").partition(":")
    if has_user:
        name, group = str(security.run_as_user.value), ""
    elif security.run_as_username:
        name, group = security.run_as_username, ""
    else:
        name, group = image_user, image_group
    if security.HasField("run_as_group"):
        group = str(security.run_as_group.value)
    return {
        "user": name,
        "group": group,
        "groups": list(security.supplemental_groups),
        "merge": security.supplemental_groups_policy == cri.SupplementalGroupsPolicy.Merge,
    }


def privileges(security: cri.LinuxContainerSecurityContext, held: int) -> dict[str, Any]:
    """Capabilities, paths and no_new_privs. `held` is the mask of what this runtime itself may give."""
    if security.privileged:
        masked: list[str] = []
        read_only: list[str] = []
        mask = held
    else:
        masked = list(security.masked_paths) or MASKED
        read_only = list(security.readonly_paths) or READ_ONLY
        try:
            asked = security.capabilities
            mask = capabilities.select(list(asked.add_capabilities), list(asked.drop_capabilities), held)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
    ambient = capabilities.mask(list(security.capabilities.add_ambient_capabilities))
    return {
        "privileged": security.privileged,
        "capabilities": mask,
        "ambient": ambient,
        "noNewPrivs": security.no_new_privs,
        "maskedPaths": masked,
        "readonlyPaths": read_only,
        "readonlyRootfs": security.readonly_rootfs,
    }


def pid_mode(security: cri.LinuxContainerSecurityContext) -> str:
    """container, pod, node or target. Without options the namespace is the container's own."""
    if not security.HasField("namespace_options"):
        return "container"
    mode: str = cri.NamespaceMode.Name(security.namespace_options.pid).lower()
    return mode


def resources(asked: cri.LinuxContainerResources, devices: tuple[DeviceRule, ...] = ()) -> Resources:
    """Limits of a request; zero means not set. `devices` goes on top of the default rules."""

    def positive(value: int) -> int | None:
        return value if value > 0 else None

    return Resources(
        cpu_shares=positive(asked.cpu_shares),
        cpu_quota=asked.cpu_quota or None,
        cpu_period=positive(asked.cpu_period),
        cpuset_cpus=asked.cpuset_cpus or None,
        cpuset_mems=asked.cpuset_mems or None,
        memory_limit=positive(asked.memory_limit_in_bytes),
        memory_swap_limit=asked.memory_swap_limit_in_bytes or None,
        pids_limit=int(asked.unified["pids.max"]) if asked.unified.get("pids.max", "").isdigit() else None,
        devices=devices,
        hugepages={limit.page_size: limit.limit for limit in asked.hugepage_limits if limit.limit},
        unified={key: value for key, value in asked.unified.items() if key != "pids.max"},
    )


def device_rules(privileged: bool, devices: list[dict[str, Any]]) -> tuple[DeviceRule, ...]:
    if privileged:
        return ALL_DEVICES
    own = (
        DeviceRule(allow=True, type=d["type"], major=d["major"], minor=d["minor"], access=d["access"]) for d in devices
    )
    return (*DEFAULT_DEVICES, *own)


def refuse_unsupported(config: cri.ContainerConfig) -> None:
    """Raise for what is asked and not done, so that nobody believes in protection that is not there."""
    security = config.linux.security_context
    if config.CDI_devices:
        raise Unimplemented(f"CDI devices are not supported: {[device.name for device in config.CDI_devices]}")
    for name in ("seccomp", "apparmor"):
        profile = getattr(security, name)
        if security.HasField(name) and profile.profile_type == cri.SecurityProfile.Localhost:
            raise Unimplemented(f"{name} profiles from this host are not supported: {profile.localhost_ref!r}")
    refuse_user_namespace(security.namespace_options)
    for mount in config.mounts:
        if mount.HasField("image"):
            raise Unimplemented(f"image volumes are not supported: {mount.container_path}")
        if mount.uidMappings or mount.gidMappings:
            raise Unimplemented(f"id-mapped mounts are not supported: {mount.container_path}")
        private = mount.propagation == cri.MountPropagation.PROPAGATION_PRIVATE
        if mount.recursive_read_only and not (mount.readonly and private):
            raise InvalidArgument(f"{mount.container_path}: recursive_read_only needs readonly and private propagation")


def gaps(config: cri.ContainerConfig) -> list[str]:
    """What is asked for and would be refused if half of the world's pods did not ask for it."""
    security = config.linux.security_context
    default = cri.SecurityProfile.RuntimeDefault
    found = []
    if security.HasField("seccomp") and security.seccomp.profile_type == default and not security.privileged:
        found.append(
            "the default seccomp profile is asked for, but this runtime has none yet: system calls are not filtered"
        )
    if security.HasField("apparmor") and security.apparmor.profile_type == default and not security.privileged:
        found.append("the default AppArmor profile is asked for, but this runtime has none: no profile is applied")
    if any(getattr(security.selinux_options, name) for name in ("user", "role", "type", "level")):
        found.append("SELinux options are asked for, but this runtime does not set labels: they have no effect")
    return found


def refuse_unsupported_sandbox(config: cri.PodSandboxConfig) -> None:
    """Raise for what is asked of a sandbox and not done."""
    refuse_user_namespace(config.linux.security_context.namespace_options)
    if config.linux.security_context.namespace_options.network != cri.NamespaceMode.NODE:
        for port in config.port_mappings:
            if port.host_port:
                raise Unimplemented(
                    f"host port {port.host_port} is not supported: use hostNetwork or the pod's address"
                )


def refuse_user_namespace(options: cri.NamespaceOption) -> None:
    if options.HasField("userns_options") and options.userns_options.mode == cri.NamespaceMode.POD:
        raise Unimplemented("user namespaces are not supported: set hostUsers to true or leave it out")


def namespaces(config: cri.PodSandboxConfig) -> list[str]:
    """Which namespaces the sandbox has of its own."""
    options = config.linux.security_context.namespace_options
    own = []
    if options.network != cri.NamespaceMode.NODE:
        own += ["network", "uts"]
    if options.ipc != cri.NamespaceMode.NODE:
        own.append("ipc")
    return own


def sysctls(config: cri.PodSandboxConfig, own: list[str]) -> dict[str, str]:
    """The sysctls asked for; each must lie in a namespace that the sandbox does not share with the node."""
    for name in config.linux.sysctls:
        dotted = name.replace("/", ".")
        space = next((space for space, pattern in _SYSCTLS.items() if pattern.fullmatch(dotted)), None)
        if space is None:
            raise InvalidArgument(f"sysctl {name!r} is not namespaced and would change the node")
        if space not in own:
            raise InvalidArgument(f"sysctl {name!r} is refused because the pod uses the node's {space} namespace")
    return {name.replace("/", "."): value for name, value in config.linux.sysctls.items()}
