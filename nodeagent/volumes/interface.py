"""What the pod worker asks of volumes. Engines: `manager.DiskVolumes` (real directories) and the hollow one
(nothing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from apimachinery.kinds.pod import Container, Pod
from nodeagent.environment import Place


class VolumeError(Exception):
    """A volume cannot be set up. permanent: trying again cannot help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container. propagation: None, HostToContainer or Bidirectional."""

    host_path: str
    container_path: str
    readonly: bool = False
    propagation: str = "None"
    recursive_read_only: bool = False


class Volumes(Protocol):
    """A pod's volumes: prepared before its sandbox is used, torn down when nothing runs, removed with the pod."""

    async def prepare(self, pod: Pod, place: Place) -> None:
        """Make every volume of the pod, or bring it up to date. Raises VolumeError naming the volume."""
        ...

    async def mounts(self, pod: Pod, container: Container, env: Mapping[str, str]) -> list[Mount]:
        """The mounts of one container. Raises ConfigError."""
        ...

    def container_files(self, pod: Pod, container: Container, attempt: int, place: Place) -> list[Mount]:
        """The files that the agent itself keeps for a container: termination message and /etc/hosts."""
        ...

    def termination_message(self, pod_uid: str, container: str, attempt: int) -> bytes:
        """What the container left as its termination message; b"" for nothing."""
        ...

    async def teardown(self, pod_uid: str) -> None:
        """Unmount and empty what the pod no longer needs once nothing of it runs."""
        ...

    async def remove(self, pod_uid: str) -> None:
        """Remove everything of the pod."""
        ...

    def pod_uids(self) -> set[str]:
        """The pods of which something is there."""
        ...
