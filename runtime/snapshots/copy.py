"""`Snapshotter` by copying: for file systems on which overlay does not work. Slow and simple.

Whiteouts (character devices 0:0) and opaque directories are honoured, so that the result is what overlay would show.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from runtime.linux import constants as c
from runtime.linux.interface import Kernel
from runtime.snapshots.overlay import _measure

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


class CopySnapshotter:
    def __init__(self, kernel: Kernel, directory: Path) -> None:
        self._kernel = kernel
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        return "copy"

    def prepare(self, key: str, layers: Sequence[Path]) -> int:
        root = self._directory / key / "root"
        root.mkdir(mode=0o755, parents=True)
        for layer in layers:
            merge(layer, root)
        tree = self._kernel.open_tree(c.AT_FDCWD, str(root), c.OPEN_TREE_CLONE)
        # A clone of a shared mount is shared: what the container mounts would appear on the host.
        self._kernel.mount_setattr(tree, "", c.AT_EMPTY_PATH, propagation=c.MS_PRIVATE)
        return tree

    def usage(self, key: str) -> tuple[int, int]:
        return _measure(self._directory / key / "root")

    def known(self) -> list[str]:
        return [entry.name for entry in self._directory.iterdir()]

    def remove(self, key: str) -> None:
        if (self._directory / key).is_dir():
            shutil.rmtree(self._directory / key)


def merge(layer: Path, root: Path) -> None:
    """Lay one layer over what is in `root`."""
    for entry in os.scandir(layer):
        target = root / entry.name
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            _delete(target)
        elif stat.S_ISDIR(status.st_mode):
            if target.is_symlink() or not target.is_dir() or _is_opaque(entry.path):
                _delete(target)
                target.mkdir()
            merge(Path(entry.path), target)
            os.chown(target, status.st_uid, status.st_gid)
            shutil.copystat(entry.path, target)
        else:
            _delete(target)
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                shutil.copy2(entry.path, target, follow_symlinks=False)
            else:
                os.mknod(target, status.st_mode, status.st_rdev)
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                os.chmod(target, stat.S_IMODE(status.st_mode))


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
