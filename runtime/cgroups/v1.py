"""One group in every mounted v1 hierarchy, at the same path in each.

cpuset needs its cpus and mems filled on every level before anyone can join. A quota that the parent does not allow yet
and a memory limit above the old swap limit are written in the other order.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

from runtime.cgroups.convert import device_line, required_controllers, v1_settings
from runtime.cgroups.interface import CgroupError, Entry, Resources, Usage

_UNLIMITED = 1 << 60


class V1Cgroup:
    """`hierarchies` maps a controller to the mount that carries it; controllers mounted together share one."""

    def __init__(self, hierarchies: dict[str, Path], path: str) -> None:
        self._mounts = hierarchies
        self._path = path
        self._roots = list(dict.fromkeys(hierarchies.values()))

    @property
    def path(self) -> str:
        return self._path

    def _directory(self, controller: str) -> Path:
        return self._mounts[controller] / self._path.lstrip("/")

    def _directories(self) -> list[Path]:
        return [root / self._path.lstrip("/") for root in self._roots]

    def create(self) -> None:
        for root in self._roots:
            directory = root / self._path.lstrip("/")
            fills = root == self._mounts.get("cpuset")
            try:
                directory.mkdir()
            except FileNotFoundError:
                V1Cgroup({c: m for c, m in self._mounts.items() if m == root}, os.path.dirname(self._path)).create()
                directory.mkdir(exist_ok=True)
            except FileExistsError:
                continue
            if fills:
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (directory / name).write_text((directory.parent / name).read_text())

    def apply(self, resources: Resources) -> None:
        for controller in required_controllers(resources) - self._mounts.keys():
            raise CgroupError(missing(controller))
        if resources.unified:
            raise CgroupError(f"cgroup v2 settings {sorted(resources.unified)} on a machine with cgroup v1")
        settings = [setting for setting in v1_settings(resources) if setting.controller in self._mounts]
        postponed = []
        for setting in settings:
            try:
                self._write(setting.controller, setting.file, setting.value)
            except FileNotFoundError:
                if setting.file != "memory.memsw.limit_in_bytes":
                    raise CgroupError(f"{setting.file} does not exist on this machine") from None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise CgroupError(f"{setting.file} = {setting.value}: {error.strerror}") from None
                postponed.append(setting)
        for setting in postponed:
            try:
                self._write(setting.controller, setting.file, setting.value)
            except OSError as error:
                raise CgroupError(f"{setting.file} = {setting.value}: {error.strerror}") from None
        if "devices" in self._mounts:
            for rule in resources.devices:
                self._write("devices", "devices.allow" if rule.allow else "devices.deny", device_line(rule))

    def _write(self, controller: str, file: str, value: str) -> None:
        fd = os.open(self._directory(controller) / file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)

    def _read(self, controller: str, file: str) -> str:
        try:
            return (self._directory(controller) / file).read_text()
        except (KeyError, OSError):
            return ""

    def entry(self) -> Entry:
        entry = Entry()
        for directory in self._directories():
            entry.procs.append(os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        if "memory" in self._mounts:
            entry.oom = os.open(self._directory("memory") / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        return entry

    def processes(self) -> list[int]:
        found: dict[int, None] = {}
        for directory in self._directories():
            for inner, _, _ in os.walk(directory):
                try:
                    found.update(dict.fromkeys(map(int, Path(inner, "cgroup.procs").read_text().split())))
                except OSError:
                    continue
        return list(found)

    def freeze(self, frozen: bool) -> None:
        if "freezer" not in self._mounts:
            raise CgroupError(missing("freezer"))
        wanted = "FROZEN" if frozen else "THAWED"
        self._write("freezer", "freezer.state", wanted)
        deadline = time.monotonic() + 2.0
        while self._read("freezer", "freezer.state").strip() != wanted:
            if time.monotonic() > deadline:
                raise CgroupError(f"{self._path} is not {wanted.lower()} after 2 s")
            self._write("freezer", "freezer.state", wanted)

    def kill(self) -> None:
        """Freeze so that nobody forks away, signal all, thaw."""
        if not any(directory.exists() for directory in self._directories()):
            return
        can_freeze = "freezer" in self._mounts
        if can_freeze:
            try:
                self.freeze(True)
            except (CgroupError, OSError):
                can_freeze = False
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if can_freeze:
            self.freeze(False)

    def usage(self) -> Usage:
        memory = _table(self._read("memory", "memory.stat"))
        usage = _number(self._read("memory", "memory.usage_in_bytes"))
        limit = _number(self._read("memory", "memory.limit_in_bytes"))
        inactive = memory.get("total_inactive_file", 0)
        return Usage(
            cpu_nanoseconds=_number(self._read("cpuacct", "cpuacct.usage")),
            memory_usage=usage,
            memory_working_set=None if usage is None else max(usage - inactive, 0),
            memory_rss=memory.get("total_rss"),
            memory_limit=limit if limit is not None and limit < _UNLIMITED else None,
            page_faults=memory.get("total_pgfault"),
            major_page_faults=memory.get("total_pgmajfault"),
            swap_usage=memory.get("total_swap"),
            processes=_number(self._read("pids", "pids.current")),
        )

    def rename(self, name: str) -> V1Cgroup:
        """Give the group another name below the same parent, with whoever is in it."""
        for directory in self._directories():
            directory.rename(directory.with_name(name))
        return V1Cgroup(self._mounts, f"{os.path.dirname(self._path)}/{name}")

    def remove(self) -> None:
        for directory in self._directories():
            for inner, _, _ in os.walk(directory, topdown=False):
                try:
                    os.rmdir(inner)
                except FileNotFoundError:
                    continue


def missing(controller: str) -> str:
    return (
        f"no {controller} cgroup controller on this machine, so its limits cannot be held: enable it "
        f"(kernel option or boot parameter cgroup_enable={controller}) or mount its cgroup v1 hierarchy"
    )


def _table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.lstrip("-").isdigit() else None
