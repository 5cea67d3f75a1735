"""The cgroup of a sandbox: where it lies, and the spares that wait in it for the first containers.

With cgroup v1 joining a group may cost 8 ms and more, so children join ahead of time and their groups are renamed when
a container takes them. A group made before its pod was known lies at `<our root>/pod-<id>/<id>`; v1 can rename that
outer directory to what the caller wants, as long as its parent stays the same.
"""

from __future__ import annotations

import contextlib
import os
import posixpath

from runtime.cgroups.interface import Cgroup, CgroupError
from runtime.parts import Parts
from runtime.zygote.client import Peer

# Most pods have one or two containers; the second spare costs next to nothing once the first has joined.
SLOTS = ("spare-0", "spare-1")


class PodGroup:
    """`path` is the sandbox's group, "" before `make`."""

    def __init__(self, parts: Parts, sandbox: str, path: str = "") -> None:
        self._parts = parts
        self._sandbox = sandbox
        self._slots: list[str] = []
        self.path = path

    def group(self) -> Cgroup:
        return self._parts.cgroups.group(self.path)

    def wanted(self, parent: str) -> str:
        """Where the group belongs for a pod whose caller asked for this cgroup parent."""
        parent = self._parts.cgroups.slice_path(parent) or self._parts.config.cgroup_root
        return posixpath.normpath(f"/{parent.strip('/')}/{self._sandbox}")

    def ahead(self) -> str:
        """Where it lies while nobody knows whose it will be."""
        return f"{self._parts.config.cgroup_root}/pod-{self._sandbox[:16]}/{self._sandbox}"

    def make(self, path: str) -> None:
        self.path = path
        self.group().create()
        if self._parts.cgroups.joins_by_writing:
            for slot in SLOTS:
                self._parts.cgroups.group(f"{path}/{slot}").create()

    async def send_spares(self, peer: Peer, *, keep: bool) -> None:
        """Have the shim fork the spares. With `keep` they stay however long nothing happens."""
        if not self._parts.cgroups.joins_by_writing:
            return
        for slot in SLOTS:
            entry = self._parts.cgroups.group(f"{self.path}/{slot}").entry()
            try:
                await peer.request("prepare", entry.procs, slot=slot, keep=keep)
            finally:
                for fd in (*entry.procs, entry.clone, entry.oom, entry.kill):
                    if fd >= 0:
                        os.close(fd)
            self._slots.append(slot)

    def take_slot(self) -> str:
        """A slot whose group the caller has now, "" if none is left."""
        return self._slots.pop(0) if self._slots else ""

    def move_to(self, path: str) -> bool:
        """Bring a group made ahead of time to where it belongs. False if it cannot be moved there."""
        outer, wanted_outer = posixpath.dirname(self.path), posixpath.dirname(path)
        root = self._parts.config.cgroup_root
        if wanted_outer == root:
            # For a caller without wishes it may as well stay.
            return True
        if not self._parts.cgroups.joins_by_writing or posixpath.dirname(wanted_outer) != root:
            return False
        name = posixpath.basename(wanted_outer)
        if name in self._parts.cgroups.children(root):
            return False
        try:
            self._parts.cgroups.group(outer).rename(name)
        except (CgroupError, OSError):
            return False
        self.path = path
        self.group().create()
        return True

    def kill(self) -> None:
        if self.path:
            with contextlib.suppress(CgroupError, OSError):
                self.group().kill()

    async def remove(self) -> None:
        """Remove the group, and the one around it if that is ours and empty."""
        if not self.path:
            return
        await remove_cgroup(self._parts, self.path)
        outer = posixpath.dirname(self.path)
        if outer.startswith(self._parts.config.cgroup_root + "/") and not self._parts.cgroups.children(outer):
            with contextlib.suppress(OSError):
                self._parts.cgroups.group(outer).remove()


async def remove_cgroup(parts: Parts, path: str) -> None:
    """Remove a group, waiting for the kernel to let go of what has just ended. CgroupError if it does not."""
    if not path:
        return
    group = parts.cgroups.group(path)
    for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        if delay:
            await parts.clock.sleep(delay)
        try:
            group.remove()
            return
        except OSError:
            with contextlib.suppress(CgroupError, OSError):
                group.kill()
    raise CgroupError(f"cgroup {path} cannot be removed: it still holds processes {group.processes()}")
