"""What a host must have before a cluster can start on it, checked before anything is made.

Every finding names one cause and what to do about it. The roots of /proc and /sys are arguments, so that tests can
show hosts that this one is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyctl.failure import Failure

CAPABILITIES = {
    # name: (bit, what for)
    "CAP_NET_ADMIN": (12, "pods' networks"),
    "CAP_SYS_CHROOT": (18, "containers' roots"),
    "CAP_SYS_ADMIN": (21, "namespaces and mounts"),
}


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look, and as whom."""

    proc: Path = Path("/proc")
    cgroups: Path = Path("/sys/fs/cgroup")
    user_id: int = -1

    @property
    def effective_user(self) -> int:
        return os.geteuid() if self.user_id < 0 else self.user_id


def require_root(what: str, host: Host | None = None) -> None:
    """Raise Failure saying what is missing and how to get it."""
    host = host or Host()
    if host.effective_user != 0:
        raise Failure(
            f"{what} needs root, for namespaces, mounts, cgroups and links; you are user {host.effective_user}",
            hint="run it with sudo; the kubeconfig will belong to you, so that later commands need no root",
        )


def check(host: Host) -> None:
    """Raise Failure with everything that is missing on this host."""
    require_root("pyctl up", host)
    findings = [*_capabilities(host), *_overlay(host), *_cgroups(host), *_namespaces(host)]
    if findings:
        raise Failure(
            "this host cannot run containers: " + "; ".join(each for each, _ in findings),
            hint="; ".join(hint for _, hint in findings),
        )


def _capabilities(host: Host) -> Iterator[tuple[str, str]]:
    status = (host.proc / "self/status").read_text().splitlines()
    effective = next((int(line.split()[1], 16) for line in status if line.startswith("CapEff:")), 0)
    missing = [f"{name} ({use})" for name, (bit, use) in CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        yield (
            f"root here lacks {', '.join(missing)}",
            "start this machine or container with these capabilities (for Docker: --privileged)",
        )


def _overlay(host: Host) -> Iterator[tuple[str, str]]:
    known = [line.split()[-1] for line in (host.proc / "filesystems").read_text().splitlines() if line.strip()]
    if "overlay" in known or _module_exists(host, "overlay"):
        return
    yield "the kernel has no overlay filesystem", "run `modprobe overlay`, or boot a kernel with CONFIG_OVERLAY_FS"


def _module_exists(host: Host, name: str) -> bool:
    # The kernel loads a filesystem's module by itself at the first mount.
    try:
        release = (host.proc / "sys/kernel/osrelease").read_text().strip()
        listing = Path("/lib/modules", release, "modules.dep").read_text()
    except OSError:
        return False
    return f"/{name}.ko" in listing


def _cgroups(host: Host) -> Iterator[tuple[str, str]]:
    try:
        unified = (host.cgroups / "cgroup.controllers").read_text().split()
    except OSError:
        unified = None
    for controller, use in (("memory", "memory limits"), ("cpu", "cpu limits"), ("pids", "process limits")):
        present = (
            controller in unified if unified is not None else (host.cgroups / controller / "cgroup.procs").exists()
        )
        if not present:
            yield f"the cgroup controller {controller} is not available ({use})", _cgroup_hint(host, controller)


def _cgroup_hint(host: Host, controller: str) -> str:
    try:
        rows = [line.split() for line in (host.proc / "cgroups").read_text().splitlines()]
    except OSError:
        rows = []
    state = {row[0]: row[3] for row in rows if len(row) == 4}
    if state.get(controller) == "0" or (rows and controller not in state):
        if controller == "memory":
            return "add `cgroup_enable=memory cgroup_memory=1` to the kernel's command line and reboot"
        return f"remove `cgroup_disable={controller}` from the kernel's command line and reboot"
    return f"mount it: `mount -t cgroup -o {controller} cgroup {host.cgroups / controller}`"


def _namespaces(host: Host) -> Iterator[tuple[str, str]]:
    missing = [name for name in ("ipc", "mnt", "net", "pid", "uts") if not (host.proc / "self/ns" / name).exists()]
    if missing:
        yield f"the kernel has no {', '.join(missing)} namespaces", "boot a kernel with CONFIG_NAMESPACES and its parts"
