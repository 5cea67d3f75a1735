"""`Snapshotter`: a container's writable root over the layers of an image.

Life cycle: `prepare` makes the directories of a snapshot and returns its root as a detached mount, which the caller
owns and gives to the container; it lives as long as the container's mount namespace. `remove` deletes what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class SnapshotError(Exception):
    """No root can be made of these layers; the text says why."""


class Snapshotter(Protocol):
    @property
    def name(self) -> str: ...
    def prepare(self, key: str, layers: Sequence[Path]) -> int: ...
    def usage(self, key: str) -> tuple[int, int]: ...
    def known(self) -> list[str]: ...
    def remove(self, key: str) -> None: ...
