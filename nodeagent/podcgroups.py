"""The cgroup that the agent names for a pod, `<parent>/pod<uid>`: the runtime makes it and what is in it, the agent
clears it away. Without a root (hollow nodes) there are none.
"""

from __future__ import annotations

import contextlib
from pathlib import Path


class PodCgroups:
    """Below `<root>/sys/fs/cgroup`, in every tree that is mounted there (v1: one a controller)."""

    def __init__(self, root: Path | None, parent: str) -> None:
        self._base = root / "sys/fs/cgroup" if root is not None and parent else None
        self._parent = parent.strip("/")

    def path(self, uid: str) -> str:
        """As the CRI is told; "" where the runtime decides."""
        return f"/{self._parent}/pod{uid}" if self._parent else ""

    def remove(self, uid: str) -> None:
        """Remove what is empty. What is not is still in use by the runtime, which then clears it away itself."""
        if self._base is None or not uid:
            return
        for tree in (self._base, *self._base.iterdir()):
            with contextlib.suppress(OSError):
                tree.joinpath(self._parent, f"pod{uid}").rmdir()
