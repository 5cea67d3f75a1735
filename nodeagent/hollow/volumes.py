"""Volumes of hollow nodes: always ready, holding nothing, and refusing what a real node refuses."""

from __future__ import annotations

from collections.abc import Mapping

from apimachinery.kinds.pod import Container, Pod
from nodeagent.environment import Place
from nodeagent.volumes.interface import Mount, VolumeError
from nodeagent.volumes.manager import kind_of


class HollowVolumes:
    """Checks kinds and makes nothing."""

    async def prepare(self, pod: Pod, place: Place) -> None:
        for volume in pod.spec.volumes:
            try:
                kind_of(volume)
            except VolumeError as error:
                text = f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
                raise VolumeError(text, permanent=error.permanent) from error

    async def mounts(self, pod: Pod, container: Container, env: Mapping[str, str]) -> list[Mount]:
        return []

    def container_files(self, pod: Pod, container: Container, attempt: int, place: Place) -> list[Mount]:
        return []

    def termination_message(self, pod_uid: str, container: str, attempt: int) -> bytes:
        return b""

    async def teardown(self, pod_uid: str) -> None:
        return

    async def remove(self, pod_uid: str) -> None:
        return

    def pod_uids(self) -> set[str]:
        return set()
