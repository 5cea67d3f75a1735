"""`Snapshotter` by overlayfs. Mounts are `volatile`: a container's root never outlives a reboot, so nothing is synced.

The mount is made detached, in no namespace: there is nothing to unmount on the host, whoever dies. Kernels before 6.5
know overlay only through mount(2); there it is mounted for a moment below `mnt` and taken off as a clone.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from runtime.linux import constants as c
from runtime.linux.interface import Kernel
from runtime.snapshots.interface import SnapshotError


class OverlaySnapshotter:
    def __init__(self, kernel: Kernel, directory: Path) -> None:
        self._kernel = kernel
        self._directory = directory
        self._modern = True
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        return "overlay"

    def prepare(self, key: str, layers: Sequence[Path]) -> int:
        """`layers` lowest first. Descriptor of the detached root mount."""
        home = self._directory / key
        home.mkdir(mode=0o700)
        for name in ("upper", "work"):
            (home / name).mkdir(mode=0o755)
        lower = [str(layer) for layer in reversed(layers)]
        if not lower:
            (home / "empty").mkdir(mode=0o755)
            lower = [str(home / "empty")]
        try:
            if self._modern:
                try:
                    return self._mount(home, lower)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    fd = self._mount_old(home, lower)
                    self._modern = False
                    return fd
            return self._mount_old(home, lower)
        except OSError as error:
            self.remove(key)
            hint = " (is overlay in this kernel? modprobe overlay)" if error.errno == errno.ENODEV else ""
            raise SnapshotError(f"overlay root: {error.strerror}{hint}") from None

    def _mount(self, home: Path, lower: list[str]) -> int:
        options: list[tuple[str, str | None]] = [("lowerdir+", path) for path in lower]
        options += [("upperdir", str(home / "upper")), ("workdir", str(home / "work")), ("volatile", None)]
        return self._kernel.new_mount("overlay", options)

    def _mount_old(self, home: Path, lower: list[str]) -> int:
        """mount(2) takes one page of options, so layers are named by short descriptors."""
        shutil.rmtree(home / "work")
        (home / "work").mkdir(mode=0o755)
        target = home / "mnt"
        target.mkdir()
        paths = [*lower, str(home / "upper"), str(home / "work")]
        opened = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in paths]
        try:
            paths = [f"/proc/self/fd/{fd}" for fd in opened]
            data = f"lowerdir={':'.join(paths[:-2])},upperdir={paths[-2]},workdir={paths[-1]},volatile"
            self._kernel.mount("overlay", str(target), "overlay", 0, data)
            try:
                # Where the host's mounts are shared this one is too, and its clone could not be pivoted into.
                self._kernel.mount_setattr(c.AT_FDCWD, str(target), 0, propagation=c.MS_PRIVATE)
                return self._kernel.open_tree(c.AT_FDCWD, str(target), c.OPEN_TREE_CLONE)
            finally:
                self._kernel.umount(str(target), c.MNT_DETACH)
        finally:
            for fd in opened:
                os.close(fd)

    def usage(self, key: str) -> tuple[int, int]:
        """(bytes, inodes) written by the container. Walks the directory."""
        return _measure(self._directory / key / "upper")

    def known(self) -> list[str]:
        return [entry.name for entry in self._directory.iterdir()]

    def remove(self, key: str) -> None:
        home = self._directory / key
        if (home / "mnt").is_dir() and os.path.ismount(home / "mnt"):
            self._kernel.umount(str(home / "mnt"), c.MNT_DETACH)
        if home.is_dir():
            shutil.rmtree(home)


def _measure(directory: Path) -> tuple[int, int]:
    size = inodes = 0
    for inner, directories, files in os.walk(directory):
        for name in [*directories, *files]:
            try:
                size += os.lstat(os.path.join(inner, name)).st_blocks * 512
                inodes += 1
            except FileNotFoundError:
                continue
    return size, inodes
