"""hostPath volumes: a path of the node, checked or made as its type says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from nodeagent.volumes.interface import VolumeError

CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def check(path: str, kind: str) -> None:
    """Make it where the type says so, then see that it is what the type says. Raises VolumeError and OSError."""
    target = Path(path)
    if kind == "DirectoryOrCreate" and not target.exists():
        target.mkdir(parents=True)
        target.chmod(0o755)
    elif kind == "FileOrCreate" and not target.exists():
        target.touch(0o644)
    if not kind:
        if not os.path.lexists(path):
            # As in Kubernetes, the runtime then makes a directory there.
            target.mkdir(parents=True)
        return
    if kind not in CHECKS:
        raise VolumeError(f"hostPath type {kind!r} is not known", permanent=True)
    matches, name = CHECKS[kind]
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        raise VolumeError(f"hostPath type check failed: {path} does not exist") from None
    if not matches(found):
        raise VolumeError(f"hostPath type check failed: {path} is not {name}")
