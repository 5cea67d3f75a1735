"""Hosts that are not fit, as trees of files: each gives one cause and one thing to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyctl.cluster import preflight
from pyctl.cluster.preflight import Host
from pyctl.failure import Failure


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that has everything, with cgroup v1."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    for name in ("self/ns", "sys/kernel"):
        (proc / name).mkdir(parents=True)
    for name in ("ipc", "mnt", "net", "pid", "uts"):
        (proc / "self/ns" / name).touch()
    (proc / "self/status").write_text("Name:\tpyctl\nCapEff:\t000001ffffffffff\n")
    (proc / "filesystems").write_text("nodev\tproc\n\text4\nnodev\toverlay\n")
    (proc / "sys/kernel/osrelease").write_text("0.0.0-none\n")
    (proc / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t1\t1\t1\n")
    for name in ("memory", "cpu", "pids"):
        (cgroups / name).mkdir(parents=True)
        (cgroups / name / "cgroup.procs").touch()
    return Host(proc, cgroups, user_id=0)


def unified(host: Host, controllers: str) -> None:
    (host.cgroups / "cgroup.controllers").write_text(controllers + "\n")


def test_a_good_host(host: Host) -> None:
    preflight.check(host)


def test_a_good_host_with_unified_cgroups(host: Host) -> None:
    unified(host, "cpuset cpu io memory pids")
    preflight.check(host)


def test_no_root(host: Host) -> None:
    with pytest.raises(Failure, match=r"needs root, .* you are user 1000") as info:
        preflight.check(Host(host.proc, host.cgroups, user_id=1000))
    assert "sudo" in info.value.hint


@pytest.mark.parametrize(
    "spoil, cause, remedy",
    [
        (lambda it: (it.proc / "filesystems").write_text("\text4\n"), "no overlay filesystem", "modprobe overlay"),
        (lambda it: (it.proc / "self/ns/net").unlink(), "no net namespaces", "CONFIG_NAMESPACES"),
        (
            lambda it: (it.cgroups / "memory/cgroup.procs").unlink(),
            "controller memory is not available",
            "mount -t cgroup",
        ),
        (lambda it: unified(it, "cpu pids"), "controller memory is not available", "mount"),
        (
            lambda it: (it.proc / "self/status").write_text("CapEff:\t0000000000001000\n"),
            r"lacks CAP_SYS_CHROOT .* CAP_SYS_ADMIN",
            "--privileged",
        ),
    ],
)
def test_what_is_missing_is_named(host: Host, spoil: Callable[[Host], object], cause: str, remedy: str) -> None:
    spoil(host)
    with pytest.raises(Failure, match=cause) as info:
        preflight.check(host)
    assert remedy in info.value.hint


def test_a_memory_controller_that_is_switched_off_at_boot(host: Host) -> None:
    (host.cgroups / "memory/cgroup.procs").unlink()
    (host.proc / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\n")
    with pytest.raises(Failure, match="controller memory") as info:
        preflight.check(host)
    assert "cgroup_enable=memory" in info.value.hint
