"""The parts that sandboxes and containers are made with, put together once by `runtime.app`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from componentbase.clock import Clock
from runtime.cgroups.tree import Tree
from runtime.config import Config
from runtime.events import Events
from runtime.linux.interface import Kernel
from runtime.network.interface import PodNetwork
from runtime.snapshots.interface import Snapshotter
from runtime.zygote.client import Zygote


class Image(Protocol):
    """What a container needs to know of an image; `runtime.images.store.Image` is one. `layers` lowest first."""

    @property
    def id(self) -> str: ...
    @property
    def references(self) -> list[str]: ...
    @property
    def digests(self) -> list[str]: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def layers(self) -> tuple[Path, ...]: ...


class Images(Protocol):
    """The images of this node, as containers use them. A pin keeps an image's layers while a container has them."""

    def resolve(self, name: str) -> Image | None: ...
    def pin(self, image_id: str, owner: str) -> None: ...
    def unpin(self, owner: str) -> None: ...


class NoImages:
    """For cleaning up, which needs none and must work even if the images' directory is damaged."""

    def resolve(self, name: str) -> Image | None:
        return None

    def pin(self, image_id: str, owner: str) -> None:
        pass

    def unpin(self, owner: str) -> None:
        pass


def _new_id() -> str:
    return secrets.token_hex(32)


@dataclass(kw_only=True)
class Parts:
    """`held_capabilities` is the mask of what this process may pass on. Ids and times can be replaced by tests."""

    config: Config
    kernel: Kernel
    clock: Clock
    cgroups: Tree
    network: PodNetwork
    snapshots: Snapshotter
    images: Images
    zygote: Zygote
    events: Events
    held_capabilities: int
    new_id: Callable[[], str] = _new_id
    now_ns: Callable[[], int] = field(default=time.time_ns)

    @property
    def sandboxes_directory(self) -> Path:
        return self.config.root / "sandboxes"

    @property
    def pins_directory(self) -> Path:
        return self.config.root / "ns"
