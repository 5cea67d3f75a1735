"""Capacity is the minimum over the chain of cgroups that will hold the pods, and the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.capacity import (
    Capacity,
    Reserved,
    count_cpus,
    cpu_milli,
    find_cgroups,
    memory_bytes,
    pids,
    read_capacity,
    read_pressure,
)

MACHINE = {
    "proc/meminfo": "MemTotal:  8388608 kB\nMemAvailable: 4194304 kB\n",
    "proc/sys/kernel/pid_max": "4194304\n",
    "proc/sys/kernel/threads-max": "190000\n",
    "proc/loadavg": "0.00 0.00 0.00 1/100 99\n",
    "sys/devices/system/cpu/online": "0-3\n",
}
V1_NONE = "9223372036854771712\n"
V1 = {
    "sys/fs/cgroup/cpu/cpu.shares": "1024",
    "sys/fs/cgroup/cpuset/cpuset.effective_cpus": "0-3\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_NONE,
    "sys/fs/cgroup/memory/memory.stat": f"cache 0\nhierarchical_memory_limit {V1_NONE}",
    "sys/fs/cgroup/pids/tasks": "",
    "sys/fs/cgroup/unified/cgroup.controllers": "",
}
V2 = {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids\n"}


def machine(root: Path, *layers: dict[str, str]) -> Path:
    for layer in (MACHINE, *layers):
        for name, text in layer.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def figures(root: Path, parent: str, affinity: int | None = None) -> tuple[int, int, int]:
    cgroups = find_cgroups(root)
    return cpu_milli(root, cgroups, parent, affinity), memory_bytes(root, cgroups, parent), pids(root, cgroups, parent)


@pytest.mark.parametrize("layout", [V1, V2])
def test_machine_where_no_cgroup_limits(tmp_path: Path, layout: dict[str, str]) -> None:
    machine(tmp_path, layout)
    assert figures(tmp_path, "/pods") == (4000, 8 << 30, 190000)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/a/cpu.max": "150000 100000"}, (1500, 8 << 30, 190000)),
        (
            {"sys/fs/cgroup/a/cpu.max": "max 100000", "sys/fs/cgroup/a/b/cpu.max": "50000 100000"},
            (500, 8 << 30, 190000),
        ),
        ({"sys/fs/cgroup/a/cpuset.cpus.effective": "0,2"}, (2000, 8 << 30, 190000)),
        ({"sys/fs/cgroup/a/memory.max": "1073741824", "sys/fs/cgroup/a/b/memory.max": "max"}, (4000, 1 << 30, 190000)),
        (
            {"sys/fs/cgroup/a/memory.max": "2147483648", "sys/fs/cgroup/a/b/memory.max": "1048576"},
            (4000, 1 << 20, 190000),
        ),
        ({"sys/fs/cgroup/a/pids.max": "max", "sys/fs/cgroup/a/b/pids.max": "512"}, (4000, 8 << 30, 512)),
        ({"sys/fs/cgroup/elsewhere/memory.max": "4096"}, (4000, 8 << 30, 190000)),
    ],
)
def test_v2_minimum_over_the_chain(tmp_path: Path, files: dict[str, str], expected: tuple[int, int, int]) -> None:
    machine(tmp_path, V2, files)
    assert figures(tmp_path, "/a/b") == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"}, (2500, 8 << 30, 190000)),
        ({"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, (4000, 8 << 30, 190000)),
        ({"cpuset/a/b/cpuset.effective_cpus": "1"}, (1000, 8 << 30, 190000)),
        ({"cpuset/a/cpuset.cpus": "0-1"}, (2000, 8 << 30, 190000)),
        (
            {"memory/a/memory.limit_in_bytes": "1048576", "memory/a/b/memory.limit_in_bytes": V1_NONE},
            (4000, 1 << 20, 190000),
        ),
        ({"memory/a/b/memory.stat": "hierarchical_memory_limit 4096"}, (4000, 4096, 190000)),
        ({"pids/a/pids.max": "77", "pids/a/b/pids.max": "max"}, (4000, 8 << 30, 77)),
    ],
)
def test_v1_minimum_over_the_chain(tmp_path: Path, files: dict[str, str], expected: tuple[int, int, int]) -> None:
    machine(tmp_path, V1, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert figures(tmp_path, "a/b") == expected


def test_missing_memory_controller_leaves_the_machine_figure(tmp_path: Path) -> None:
    machine(tmp_path, {"sys/fs/cgroup/cpu/tasks": ""})
    cgroups = find_cgroups(tmp_path)
    assert "memory" not in cgroups.mounts
    assert memory_bytes(tmp_path, cgroups, "/pods") == 8 << 30


def test_affinity_and_a_parent_that_is_not_there_yet(tmp_path: Path) -> None:
    machine(tmp_path, V2, {"sys/fs/cgroup/a/memory.max": "1048576"})
    assert figures(tmp_path, "/a/not/yet", affinity=1) == (1000, 1 << 20, 190000)


def test_change_is_seen_at_the_next_read(tmp_path: Path) -> None:
    machine(tmp_path, V2, {"sys/fs/cgroup/a/memory.max": "1048576"})
    first = read_capacity(tmp_path, "/a", tmp_path)
    (tmp_path / "sys/fs/cgroup/a/memory.max").write_text("2097152")
    assert (first.memory_bytes, read_capacity(tmp_path, "/a", tmp_path).memory_bytes) == (1 << 20, 2 << 20)


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0-1,4,6-7", 5), ("", 0), ("3\n", 1)])
def test_cpu_lists(text: str, count: int) -> None:
    assert count_cpus(text) == count


def test_allocatable_is_capacity_minus_reserved_and_never_negative() -> None:
    capacity = Capacity(cpu_milli=2500, memory_bytes=1 << 30, pids=100, ephemeral_storage_bytes=1 << 30)
    left = capacity.minus(Reserved(cpu_milli=500, memory_bytes=2 << 30, pids=10))
    assert left.resources() == {"cpu": "2", "ephemeral-storage": "1Gi", "memory": "0", "pids": "90", "pods": "110"}
    assert capacity.resources()["cpu"] == "2500m"


def test_memory_pressure_counts_droppable_cache_as_free(tmp_path: Path) -> None:
    limit = {"sys/fs/cgroup/a/memory.max": str(1 << 30), "sys/fs/cgroup/a/memory.current": str((1 << 30) - 4096)}
    machine(tmp_path, V2, limit)
    capacity = read_capacity(tmp_path, "/a", tmp_path)
    assert read_pressure(tmp_path, "/a", tmp_path, capacity).memory
    machine(tmp_path, {"sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {512 << 20}\n"})
    assert not read_pressure(tmp_path, "/a", tmp_path, capacity).memory


def test_pid_pressure(tmp_path: Path) -> None:
    machine(tmp_path, V2, {"sys/fs/cgroup/a/pids.max": "101"})
    capacity = read_capacity(tmp_path, "/a", tmp_path)
    assert read_pressure(tmp_path, "/a", tmp_path, capacity).pids
