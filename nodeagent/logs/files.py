"""Where the logs of pods lie, and clearing them away. Without a root (hollow nodes) there are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from apimachinery.kinds.pod import Pod
from nodeagent.logs.tail import last_lines


class PodLogs:
    """`<root>/<namespace>_<pod>_<uid>/<container>/<attempt>.log`, the kubelet's layout; the runtime writes them."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    @property
    def kept(self) -> bool:
        """Are there logs at all?"""
        return self._root is not None

    def directory(self, pod: Pod) -> str:
        """The log directory of a pod."""
        meta = pod.metadata
        return self._directory(meta.namespace, meta.name, meta.uid)

    def _directory(self, namespace: str, name: str, uid: str) -> str:
        return f"{self._root or ''}/{namespace}_{name}_{uid}"

    def path(self, pod: Pod, container: str, attempt: int) -> str:
        """The log of one attempt of a container."""
        return f"{self.directory(pod)}/{container}/{attempt}.log"

    def end_of(self, path: str, *, lines: int, limit_bytes: int) -> str:
        """The last lines of a log as text, "" when there are none."""
        return last_lines(path, lines, limit_bytes) if self._root is not None and path else ""

    def remove(self, pod: Pod, container: str, attempt: int) -> None:
        """One attempt's log and its rotated parts."""
        if self._root is None:
            return
        path = self.path(pod, container, attempt)
        directory, name = os.path.split(path)
        with contextlib.suppress(FileNotFoundError):
            for each in os.listdir(directory):
                if each == name or each.startswith(name + "."):
                    os.unlink(os.path.join(directory, each))

    async def remove_all(self, pod: Pod) -> None:
        """All logs of a pod."""
        await self.remove_of(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)

    async def remove_of(self, namespace: str, name: str, uid: str) -> None:
        """All logs of a pod of which only this is known."""
        if self._root is not None and uid:
            await asyncio.to_thread(shutil.rmtree, self._directory(namespace, name, uid), True)
