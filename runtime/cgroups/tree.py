"""Which cgroup trees this machine has, per controller, and groups that span them.

A controller is used where it is: in the v2 tree if that lists it, else in its v1 hierarchy, else nowhere. A hybrid
machine's v2 tree is joined as well, because even without controllers it freezes and kills.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from runtime.cgroups.interface import Cgroup, CgroupError, Entry, Resources, Usage
from runtime.cgroups.v1 import V1Cgroup
from runtime.cgroups.v2 import USED, V2Cgroup
from runtime.linux.interface import Kernel

_V1 = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`v1` maps controllers to mounts; `options` maps each v1 mount to the controllers mounted there together."""

    v1: dict[str, Path] = field(default_factory=dict)
    v2: Path | None = None
    v2_controllers: frozenset[str] = frozenset()

    @property
    def controllers(self) -> set[str]:
        """All that limit or count something here. `devices` is always there on v2, as a program."""
        return set(self.v1) | self.v2_controllers

    @property
    def unified(self) -> bool:
        return not self.v1 and self.v2 is not None


def parse(mountinfo: str, v2_controllers: str) -> Layout:
    """The layout from the text of /proc/self/mountinfo and of the v2 root's cgroup.controllers."""
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or fields[3] != "/":
            continue
        if kind[0] == "cgroup2":
            v2 = Path(fields[4])
        elif kind[0] == "cgroup":
            for name in kind[2].split(","):
                if name in _V1:
                    v1[name] = Path(fields[4])
    unified = frozenset(v2_controllers.split()) & USED if v2 is not None else frozenset()
    v1 = {name: mount for name, mount in v1.items() if name not in unified}
    # hugetlb alone on the v2 tree of a hybrid machine is not worth enabling controllers there for.
    if v1 and not unified & {"cpu", "memory", "pids"}:
        unified = frozenset()
    return Layout(v1=v1, v2=v2, v2_controllers=unified)


def detect() -> Layout:
    mountinfo = Path("/proc/self/mountinfo").read_text()
    layout = parse(mountinfo, "")
    if layout.v2 is None:
        return layout
    try:
        names = (layout.v2 / "cgroup.controllers").read_text()
    except OSError:
        names = ""
    return parse(mountinfo, names)


class Spanning:
    """One group in several trees. Killing and freezing is done where it is best: in the v2 tree."""

    def __init__(self, v1: V1Cgroup, v2: V2Cgroup) -> None:
        self._v1 = v1
        self._v2 = v2

    @property
    def path(self) -> str:
        return self._v1.path

    def create(self) -> None:
        self._v1.create()
        self._v2.create()

    def apply(self, resources: Resources) -> None:
        self._v1.apply(resources)

    def entry(self) -> Entry:
        first, second = self._v1.entry(), self._v2.entry()
        return Entry(procs=first.procs, clone=second.clone, oom=first.oom, kill=second.kill)

    def processes(self) -> list[int]:
        return list(dict.fromkeys(self._v1.processes() + self._v2.processes()))

    def freeze(self, frozen: bool) -> None:
        self._v2.freeze(frozen)

    def kill(self) -> None:
        try:
            self._v2.kill()
        except CgroupError:
            pass
        # A spare waits in the v1 hierarchies only; so would a process that somebody moved.
        if self._v1.processes():
            self._v1.kill()

    def usage(self) -> Usage:
        return self._v1.usage()

    def rename(self, name: str) -> Spanning:
        """v1 renames; the group in the v2 tree, empty until now, is made anew."""
        self._v2.remove()
        renamed = self._v1.rename(name)
        v2 = self._v2.sibling(name)
        v2.create()
        return Spanning(renamed, v2)

    def remove(self) -> None:
        self._v1.remove()
        self._v2.remove()


class Tree:
    """Makes groups by path; paths are absolute and the same in every hierarchy."""

    def __init__(self, kernel: Kernel, layout: Layout) -> None:
        self._kernel = kernel
        self.layout = layout
        self._own_procs = _own_procs(layout) if layout.v1 else None
        if not layout.v1 and layout.v2 is None:
            raise CgroupError("no cgroup file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")

    def group(self, path: str) -> Cgroup:
        path = posixpath.normpath("/" + path.strip("/"))
        if path == "/" or ".." in path.split("/"):
            raise CgroupError(f"{path!r} is not a path for a cgroup of ours")
        layout = self.layout
        if layout.v2 is None:
            return V1Cgroup(layout.v1, path)
        v2 = V2Cgroup(self._kernel, layout.v2, set(layout.v2_controllers), path)
        return Spanning(V1Cgroup(layout.v1, path), v2) if layout.v1 else v2

    def children(self, path: str) -> list[str]:
        """Names of the groups right below `path`, in any hierarchy."""
        roots = [*self.layout.v1.values(), *([self.layout.v2] if self.layout.v2 else [])]
        found: dict[str, None] = {}
        for root in dict.fromkeys(roots):
            directory = root / path.lstrip("/")
            if directory.is_dir():
                found.update(dict.fromkeys(entry.name for entry in directory.iterdir() if entry.is_dir()))
        return list(found)

    @property
    def joins_by_writing(self) -> bool:
        """Whether a child has to write itself into cgroup.procs, the dear way that spares prepare for."""
        return bool(self.layout.v1)

    async def warm_up(self) -> None:
        """Have the kernel wait now for what the next write to a cgroup.procs would wait for, up to 8 ms.

        It is done by moving ourselves to where we are. The wait is in a thread, and holds up whoever makes or renames
        groups meanwhile.
        """
        if self._own_procs is not None:
            await asyncio.to_thread(_write_zero, self._own_procs)

    def container_mounts(self) -> list[dict[str, object]]:
        """What a container sees below /sys/fs/cgroup, as the shim's mount orders."""
        if self.layout.unified:
            return [{"name": "", "type": "cgroup2", "options": []}]
        together: dict[Path, list[str]] = {}
        for controller, mount in self.layout.v1.items():
            together.setdefault(mount, []).append(controller)
        mounts: list[dict[str, object]] = [
            {"name": ",".join(names), "type": "cgroup", "options": [[name, None] for name in names]}
            for names in together.values()
        ]
        if self.layout.v2 is not None:
            mounts.append({"name": "unified", "type": "cgroup2", "options": []})
        return mounts

    def slice_path(self, parent: str) -> str:
        """A cgroup parent in either syntax as a path: a-b.slice lies in a.slice."""
        name = os.path.basename(parent.rstrip("/"))
        if not name.endswith(".slice") or "/" in parent.strip("/"):
            return parent
        parts = name.removesuffix(".slice").split("-")
        return "/" + "/".join("-".join(parts[: i + 1]) + ".slice" for i in range(len(parts)))


def _own_procs(layout: Layout) -> Path | None:
    """cgroup.procs of the group that this process is in, in some hierarchy where that is the root or ours to write."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in layout.v1:
            procs = layout.v1[controllers] / path.lstrip("/") / "cgroup.procs"
            if path == "/" and os.access(procs, os.W_OK):
                return procs
    return None


def _write_zero(path: Path) -> None:
    try:
        path.write_text("0")
    except OSError:
        # Only the time would have been saved.
        pass
