"""What this node can hold: the minimum over the cgroup that will hold the pods, all its ancestors, and the machine.

Owns reading the kernel's files, under cgroup v1 and v2 names. Every function takes the root of the file system as an
argument, so that tests bring a folder of fake files. Only limits on the chain that holds the pods count: the agent's
own cgroup is elsewhere and says nothing about them. Leaves to `node.py` when to read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from apimachinery import quantity

DEFAULT_MAX_PODS = 110
# cgroup v1 writes "no limit" as the largest multiple of the page size below 2**63.
NO_LIMIT_V1 = 1 << 62
DEFAULT_PID_MAX = 32768


@dataclass(frozen=True, slots=True)
class Names:
    """The files that hold one limit each, by layout. `cpuset` lists the newest name first."""

    cpu_quota: str
    memory_limit: str
    memory_usage: str
    cpuset: tuple[str, ...]


NAMES = {
    1: Names(
        "cpu.cfs_quota_us",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("cpuset.effective_cpus", "cpuset.cpus"),
    ),
    2: Names("cpu.max", "memory.max", "memory.current", ("cpuset.cpus.effective", "cpuset.cpus")),
}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the node has: cpu in thousandths of a core, memory and ephemeral storage in bytes."""

    cpu_milli: int
    memory_bytes: int
    pids: int
    ephemeral_storage_bytes: int
    pods: int = DEFAULT_MAX_PODS

    def minus(self, reserved: Reserved) -> Capacity:
        """What is left for pods; never below zero."""
        return Capacity(
            cpu_milli=max(self.cpu_milli - reserved.cpu_milli, 0),
            memory_bytes=max(self.memory_bytes - reserved.memory_bytes, 0),
            pids=max(self.pids - reserved.pids, 0),
            ephemeral_storage_bytes=max(self.ephemeral_storage_bytes - reserved.ephemeral_storage_bytes, 0),
            pods=self.pods,
        )

    def resources(self) -> dict[str, str]:
        """As the canonical quantities of a Node's status, by resource name."""
        return {
            "cpu": quantity.from_milli(self.cpu_milli),
            "ephemeral-storage": quantity.from_value(self.ephemeral_storage_bytes, "BinarySI"),
            "memory": quantity.from_value(self.memory_bytes, "BinarySI"),
            "pids": quantity.from_value(self.pids),
            "pods": quantity.from_value(self.pods),
        }


@dataclass(frozen=True, slots=True)
class Reserved:
    """What pods must not count on: kept for the host and the cluster's own processes. Units as in Capacity."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    pids: int = 0
    ephemeral_storage_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where each controller's tree is mounted, and under which names. `mounts` lacks a controller that is not there."""

    version: int
    mounts: dict[str, Path] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        return NAMES[self.version]

    def chain(self, controller: str, parent: str) -> Iterator[Path]:
        """Existing directories from `parent` up to the root of the controller's tree, deepest first."""
        mount = self.mounts.get(controller)
        if mount is None:
            return
        parts = [part for part in parent.split("/") if part]
        for depth in range(len(parts), -1, -1):
            directory = mount.joinpath(*parts[:depth])
            if directory.is_dir():
                yield directory


CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


def find_cgroups(root: Path) -> Cgroups:
    """Which cgroup layout the machine has. A hybrid machine, with an empty v2 tree beside v1's, is a v1 machine."""
    base = root / "sys/fs/cgroup"
    unified = _text(base / "cgroup.controllers")
    if unified is not None:
        present = unified.split()
        return Cgroups(2, {name: base for name in CONTROLLERS if name in present})
    return Cgroups(1, {name: base / name for name in CONTROLLERS if (base / name).is_dir()})


def read_capacity(
    root: Path, parent: str, storage: Path, *, affinity: int | None = None, max_pods: int = DEFAULT_MAX_PODS
) -> Capacity:
    """The capacity for pods that will live under the cgroup `parent`, with their files on the file system of `storage`.

    affinity: how many CPUs this process may run on; None when that should not count.
    """
    cgroups = find_cgroups(root)
    return Capacity(
        cpu_milli=cpu_milli(root, cgroups, parent, affinity),
        memory_bytes=memory_bytes(root, cgroups, parent),
        pids=pids(root, cgroups, parent),
        ephemeral_storage_bytes=storage_bytes(storage),
        pods=max_pods,
    )


def storage_bytes(path: Path) -> int:
    """Size of the file system that holds `path`."""
    facts = os.statvfs(path)
    return facts.f_blocks * facts.f_frsize


def cpu_milli(root: Path, cgroups: Cgroups, parent: str, affinity: int | None = None) -> int:
    """Thousandths of a core: quota per period and cpuset along the chain, CPUs online, affinity; the smallest wins."""
    limits = [1000 * count_cpus(_text(root / "sys/devices/system/cpu/online") or "0")]
    if affinity is not None:
        limits.append(1000 * affinity)
    for directory in cgroups.chain("cpu", parent):
        quota = _cpu_quota(directory, cgroups.version)
        if quota is not None:
            limits.append(quota)
    for directory in cgroups.chain("cpuset", parent):
        cpus = next(filter(None, (_text(directory / name) for name in cgroups.names.cpuset)), "")
        if cpus:
            limits.append(1000 * count_cpus(cpus))
    return min(limits)


def _cpu_quota(directory: Path, version: int) -> int | None:
    """Thousandths of a core, None when there is no quota. v1: two files, -1 is none; v2: `max 100000` is none."""
    if version == 2:
        words = (_text(directory / "cpu.max") or "max").split()
        quota, period = words[0], words[1] if len(words) > 1 else "100000"
    else:
        quota = _text(directory / "cpu.cfs_quota_us") or "-1"
        period = _text(directory / "cpu.cfs_period_us") or "100000"
    if quota == "max" or int(quota) <= 0 or int(period) <= 0:
        return None
    return int(quota) * 1000 // int(period)


def memory_bytes(root: Path, cgroups: Cgroups, parent: str) -> int:
    """Bytes: the machine's memory or the smallest limit along the chain. v1 also tells, in memory.stat, of ancestors
    that are outside our view (a cgroup namespace)."""
    limits = [meminfo(root).get("MemTotal", 0)]
    for directory in cgroups.chain("memory", parent):
        limits += _limit(directory / cgroups.names.memory_limit)
        if cgroups.version == 1:
            hierarchical = _stat(directory / "memory.stat").get("hierarchical_memory_limit", NO_LIMIT_V1)
            limits += [hierarchical] if hierarchical < NO_LIMIT_V1 else []
    return min(limits)


def pids(root: Path, cgroups: Cgroups, parent: str) -> int:
    """How many tasks fit: the smallest pids.max along the chain, kernel.pid_max, kernel.threads-max."""
    kernel = root / "proc/sys/kernel"
    limits = [int(_text(kernel / name) or DEFAULT_PID_MAX) for name in ("pid_max", "threads-max")]
    for directory in cgroups.chain("pids", parent):
        limits += _limit(directory / "pids.max")
    return min(limits)


def count_cpus(text: str) -> int:
    """CPUs in the kernel's list format: `0-1,4` is 3."""
    count = 0
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first:
            count += int(last or first) - int(first) + 1
    return count


def meminfo(root: Path) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words:
            found[name] = int(words[0]) * (1024 if words[-1] == "kB" else 1)
    return found


def _limit(path: Path) -> list[int]:
    """The limit in `path` as a list of one, or nothing when the file is not there or says `max`."""
    text = _text(path)
    if text is None or text == "max":
        return []
    value = int(text)
    return [value] if 0 < value < NO_LIMIT_V1 else []


def _stat(path: Path) -> dict[str, int]:
    """A flat-keyed kernel file."""
    pairs = (line.split() for line in (_text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _text(path: Path) -> str | None:
    """What is in the file, stripped; None when there is no such file."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


# What is in use, for the Node's pressure conditions.

MEMORY_AVAILABLE_BYTES = 100 << 20
STORAGE_AVAILABLE_SHARE = 0.05
PIDS_AVAILABLE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Pressure:
    """Which of the node's resources run short."""

    memory: bool = False
    disk: bool = False
    pids: bool = False


def read_pressure(root: Path, parent: str, storage: Path, capacity: Capacity) -> Pressure:
    """Memory: less than 100 MiB left on the machine or in any cgroup of the chain (page cache that can be dropped
    counts as left). Disk and pids: less than a twentieth left."""
    cgroups = find_cgroups(root)
    left = [meminfo(root).get("MemAvailable", capacity.memory_bytes)]
    inactive = "total_inactive_file" if cgroups.version == 1 else "inactive_file"
    for directory in cgroups.chain("memory", parent):
        limit = _limit(directory / cgroups.names.memory_limit)
        usage = _text(directory / cgroups.names.memory_usage)
        if limit and usage is not None:
            left.append(limit[0] - int(usage) + _stat(directory / "memory.stat").get(inactive, 0))
    facts = os.statvfs(storage)
    tasks = _tasks(root)
    return Pressure(
        memory=min(left) < MEMORY_AVAILABLE_BYTES,
        disk=facts.f_bavail < STORAGE_AVAILABLE_SHARE * facts.f_blocks,
        pids=tasks > (1 - PIDS_AVAILABLE_SHARE) * capacity.pids,
    )


def _tasks(root: Path) -> int:
    """Tasks on the machine: the fourth word of /proc/loadavg is `running/all`."""
    words = (_text(root / "proc/loadavg") or "").split()
    return int(words[3].split("/")[1]) if len(words) > 3 else 0
