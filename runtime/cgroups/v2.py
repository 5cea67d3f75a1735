"""One group in the unified tree. Also serves a hybrid machine's tree without controllers, for freezing and killing.

Controllers are switched on level by level from the root; a level that holds processes of its own refuses, and the error
says so. Devices are filtered by a small program, see `device_program`.
"""

from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path

from runtime.cgroups.convert import required_controllers, v2_settings
from runtime.cgroups.device_program import attach_filter
from runtime.cgroups.interface import CgroupError, Entry, Resources, Usage
from runtime.cgroups.v1 import _number, _table, missing
from runtime.linux.interface import Kernel

USED = {"cpu", "cpuset", "io", "memory", "pids", "hugetlb"}


class V2Cgroup:
    """`controllers` are those that we use; empty in a hybrid tree."""

    def __init__(self, kernel: Kernel, mount: Path, controllers: set[str], path: str) -> None:
        self._kernel = kernel
        self._mount = mount
        self._controllers = controllers
        self._path = path
        self._directory = mount / path.lstrip("/")

    @property
    def path(self) -> str:
        return self._path

    def create(self) -> None:
        try:
            self._directory.mkdir()
        except FileExistsError:
            return
        except FileNotFoundError:
            V2Cgroup(self._kernel, self._mount, self._controllers, os.path.dirname(self._path)).create()
            self._directory.mkdir(exist_ok=True)
        if self._controllers:
            self._enable(self._directory.parent)

    def _enable(self, parent: Path) -> None:
        """Let `parent` hand our controllers down, which its own parent must have done before."""
        on = set((parent / "cgroup.subtree_control").read_text().split())
        wanted = self._controllers - on
        if not wanted:
            return
        if parent != self._mount and not wanted <= set((parent / "cgroup.controllers").read_text().split()):
            self._enable(parent.parent)
        try:
            (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(wanted)))
        except OSError as error:
            hint = ": it holds processes, move them into a child group" if error.errno == errno.EBUSY else ""
            raise CgroupError(f"{parent}: cannot enable {sorted(wanted)}: {error.strerror}{hint}") from None

    def apply(self, resources: Resources) -> None:
        for controller in required_controllers(resources) - self._controllers:
            raise CgroupError(missing(controller))
        for setting in v2_settings(resources):
            if setting.controller not in self._controllers and setting.controller != "cgroup":
                continue
            try:
                (self._directory / setting.file).write_text(setting.value)
            except FileNotFoundError:
                if setting.file != "memory.swap.max":
                    raise CgroupError(f"{setting.file} does not exist on this machine") from None
            except OSError as error:
                raise CgroupError(f"{setting.file} = {setting.value}: {error.strerror}") from None
        if resources.devices:
            attach_filter(self._kernel, self._directory, resources.devices)

    def entry(self) -> Entry:
        entry = Entry(clone=os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        if (self._directory / "cgroup.kill").exists():
            entry.kill = os.open(self._directory / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        if "memory" in self._controllers:
            entry.oom = os.open(self._directory / "memory.events", os.O_RDONLY | os.O_CLOEXEC)
        return entry

    def processes(self) -> list[int]:
        found: list[int] = []
        for inner, _, _ in os.walk(self._directory):
            try:
                found += map(int, Path(inner, "cgroup.procs").read_text().split())
            except OSError:
                continue
        return found

    def freeze(self, frozen: bool) -> None:
        """Returns when all are frozen: each process stops on its own way back to user space."""
        (self._directory / "cgroup.freeze").write_text("1" if frozen else "0")
        wanted = f"frozen {int(frozen)}"
        deadline = time.monotonic() + 2.0
        with open(self._directory / "cgroup.events") as events:
            changes = select.poll()
            changes.register(events, select.POLLPRI)
            while wanted not in events.read().splitlines():
                if time.monotonic() > deadline:
                    raise CgroupError(f"{self._path} is not {'frozen' if frozen else 'thawed'} after 2 s")
                changes.poll(100)
                events.seek(0)

    def kill(self) -> None:
        try:
            (self._directory / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            if self._directory.exists():
                raise CgroupError("cgroup.kill is missing: Linux 5.14 or newer is needed") from None

    def _read(self, file: str) -> str:
        try:
            return (self._directory / file).read_text()
        except OSError:
            return ""

    def usage(self) -> Usage:
        memory = _table(self._read("memory.stat"))
        usage = _number(self._read("memory.current"))
        cpu = _table(self._read("cpu.stat")).get("usage_usec")
        return Usage(
            cpu_nanoseconds=None if cpu is None else cpu * 1000,
            memory_usage=usage,
            memory_working_set=None if usage is None else max(usage - memory.get("inactive_file", 0), 0),
            memory_rss=memory.get("anon"),
            memory_limit=_number(self._read("memory.max")),
            page_faults=memory.get("pgfault"),
            major_page_faults=memory.get("pgmajfault"),
            swap_usage=_number(self._read("memory.swap.current")),
            processes=_number(self._read("pids.current")),
        )

    def rename(self, name: str) -> V2Cgroup:
        """v2 cannot rename; nobody makes spares there, since CLONE_INTO_CGROUP needs none."""
        raise CgroupError("cgroup v2 groups cannot be renamed")

    def sibling(self, name: str) -> V2Cgroup:
        return V2Cgroup(self._kernel, self._mount, self._controllers, f"{os.path.dirname(self._path)}/{name}")

    def remove(self) -> None:
        for inner, _, _ in os.walk(self._directory, topdown=False):
            try:
                os.rmdir(inner)
            except FileNotFoundError:
                continue
