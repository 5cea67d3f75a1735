"""Namespaces kept by bind mounts at `<root>/ns/<sandbox>/{net,ipc,uts}`, so that no process has to keep them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from runtime.linux import constants as c
from runtime.linux.interface import Kernel

NAMES = {"network": "net", "ipc": "ipc", "uts": "uts"}


def make_directory(kernel: Kernel, home: Path) -> None:
    """Pins must not propagate into other mount namespaces, where they would keep namespaces alive."""
    home.mkdir(mode=0o711, exist_ok=True)
    if not is_mounted(home):
        kernel.mount(str(home), str(home), "", c.MS_BIND)
        kernel.mount_setattr(c.AT_FDCWD, str(home), 0, propagation=c.MS_PRIVATE)


def remove_directory(kernel: Kernel, home: Path) -> None:
    while is_mounted(home):
        kernel.umount(str(home), c.MNT_DETACH)


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there; os.path.ismount does not see a bind of a directory on itself."""
    text = os.path.realpath(path).replace(" ", "\\040")
    return any(line.split(" ")[4] == text for line in Path("/proc/self/mountinfo").read_text().splitlines())


def pin(kernel: Kernel, home: Path, pid: int, spaces: list[str]) -> None:
    """Keep the namespaces of process `pid`."""
    home.mkdir(mode=0o711)
    for space in spaces:
        target = home / NAMES[space]
        target.touch(0o600)
        tree = kernel.open_tree(c.AT_FDCWD, f"/proc/{pid}/ns/{NAMES[space]}", c.OPEN_TREE_CLONE)
        try:
            kernel.move_mount(tree, c.AT_FDCWD, str(target))
        finally:
            os.close(tree)


def unpin(kernel: Kernel, home: Path) -> None:
    """Let go; may be repeated."""
    if not home.is_dir():
        return
    for target in home.iterdir():
        with contextlib.suppress(OSError):
            kernel.umount(str(target), c.MNT_DETACH)
        target.unlink(missing_ok=True)
    home.rmdir()
