"""Volumes on this node's disk: where they lie, how they are made, mounted and cleared away.

Layout, as the kubelet's: `<root>/<uid>/volumes/kubernetes.io~<kind>/<name>`, beside it `volume-subpaths/` and
`containers/<name>/`. Owns everything below root. What it does not know it refuses, naming the volume; nothing is
skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from apimachinery.errors import StatusError
from apimachinery.kinds.pod import Container, Pod, Volume
from apimachinery.kinds.pod_container import VolumeMount
from apimachinery.kinds.pod_volumes import SOURCES
from apimachinery.quantity import value
from componentbase.clock import Clock
from kubeclient.transport import TransportError
from nodeagent.environment import ConfigError, Objects, Place, expand
from nodeagent.hosts import hosts_file
from nodeagent.sources import Sources
from nodeagent.volumes import atomic, hostpath, payload, subpath
from nodeagent.volumes.interface import Mount, VolumeError

MESSAGE_LIMIT_BYTES = 4096
PAYLOAD_KINDS = ("configMap", "secret", "downwardAPI", "projected")
PLUGINS = {
    "emptyDir": "kubernetes.io~empty-dir",
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
}


class DiskVolumes:
    """The volumes of all pods of this node, below `root`."""

    def __init__(self, root: Path, sources: Sources, clock: Clock, memory_bytes: Callable[[], int]) -> None:
        # Without links: mounts are found again by their paths, and the kernel lists real ones.
        self._root = root.resolve()
        self._sources = sources
        self._clock = clock
        self._memory_bytes = memory_bytes

    async def prepare(self, pod: Pod, place: Place) -> None:
        used = {mount.name for each in _containers(pod) for mount in each.volumeMounts}
        for volume in pod.spec.volumes:
            try:
                kind_of(volume)  # one that could not be mounted is refused even if nobody mounts it
                if volume.name in used:
                    await self._prepare_one(volume, pod, place)
            except (VolumeError, OSError, ValueError, StatusError, TransportError) as error:
                permanent = isinstance(error, VolumeError) and error.permanent
                text = f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
                raise VolumeError(text, permanent=permanent) from error

    async def _prepare_one(self, volume: Volume, pod: Pod, place: Place) -> None:
        kind = kind_of(volume)
        if kind == "hostPath":
            assert volume.hostPath is not None
            hostpath.check(volume.hostPath.path, volume.hostPath.type or "")
            return
        directory = self.directory(pod.metadata.uid, volume)
        group = pod.spec.securityContext.fsGroup if pod.spec.securityContext is not None else None
        if kind in PAYLOAD_KINDS:
            configmaps, secrets = payload.referenced(volume)
            objects: Objects = await self._sources.objects(pod.metadata.namespace, configmaps, secrets)
            files = payload.files(volume, pod, objects, place)
            atomic.write(directory, files, f"{self._clock.now():.6f}", gid=group)
            return
        assert kind == "emptyDir"
        _make_empty_dir(directory, group)
        medium = volume.emptyDir.medium if volume.emptyDir is not None else ""
        if medium not in ("", "Memory"):
            raise VolumeError(f"emptyDir medium {medium!r} is not supported", permanent=True)
        if medium == "Memory" and not subpath.is_mounted(directory):
            limit = value(volume.emptyDir.sizeLimit or "") if volume.emptyDir is not None else 0
            size = min(limit, self._memory_bytes()) if limit else self._memory_bytes()
            mode = "2777" if group is not None else "1777"
            gid = f",gid={group}" if group is not None else ""
            await subpath.mount(
                "-t", "tmpfs", "-o", f"size={size},mode={mode}{gid},nosuid,nodev", "tmpfs", str(directory)
            )

    def directory(self, uid: str, volume: Volume) -> Path:
        """Where a volume lies that the agent makes itself."""
        return self._root / uid / "volumes" / PLUGINS[kind_of(volume)] / volume.name

    async def mounts(self, pod: Pod, container: Container, env: Mapping[str, str]) -> list[Mount]:
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        found = []
        for index, each in enumerate(container.volumeMounts):
            volume = volumes.get(each.name)
            if volume is None:
                raise ConfigError(f'volume mount {each.mountPath}: the pod has no volume "{each.name}"')
            if volume.hostPath is not None:
                source = Path(volume.hostPath.path)
            else:
                source = self.directory(pod.metadata.uid, volume)
            inside = _sub_path(each, env)
            if inside:
                source = await self._sub_path(pod, container, volume, index, source, inside)
            readonly = bool(each.readOnly) or kind_of(volume) in PAYLOAD_KINDS
            found.append(
                Mount(
                    host_path=str(source),
                    container_path=each.mountPath,
                    readonly=readonly,
                    propagation=each.mountPropagation or "None",
                    recursive_read_only=readonly and each.recursiveReadOnly in ("Enabled", "IfPossible"),
                )
            )
        return found

    async def _sub_path(
        self, pod: Pod, container: Container, volume: Volume, index: int, root: Path, inside: str
    ) -> Path:
        target = self._root / pod.metadata.uid / "volume-subpaths" / volume.name / container.name / str(index)
        try:
            descriptor = subpath.open_inside(root, inside, make=kind_of(volume) not in PAYLOAD_KINDS)
            try:
                if subpath.is_mounted(target):  # of an earlier attempt; the content may have been replaced since
                    await subpath.unmount(target)
                await subpath.bind(descriptor, target)
            finally:
                os.close(descriptor)
        except (subpath.SubPathError, OSError) as error:
            raise ConfigError(f'failed to prepare subPath for volumeMount "{volume.name}": {error}') from error
        return target

    def container_files(self, pod: Pod, container: Container, attempt: int, place: Place) -> list[Mount]:
        found = []
        if container.terminationMessagePath:
            message = self._message(pod.metadata.uid, container.name, attempt)
            message.parent.mkdir(parents=True, exist_ok=True)
            message.touch()
            # Whatever user the container runs as must be able to write it.
            message.chmod(0o666)
            found.append(Mount(str(message), container.terminationMessagePath))
        own = any(os.path.normpath(mount.mountPath) == "/etc/hosts" for mount in container.volumeMounts)
        if not own and not pod.spec.hostNetwork:
            hosts = self._root / pod.metadata.uid / "etc-hosts"
            hosts.parent.mkdir(parents=True, exist_ok=True)
            text = hosts_file(pod, place.pod_ips)
            if not hosts.exists() or hosts.read_text() != text:
                hosts.write_text(text)
                hosts.chmod(0o644)
            found.append(Mount(str(hosts), "/etc/hosts"))
        return found

    def _message(self, uid: str, container: str, attempt: int) -> Path:
        return self._root / uid / "containers" / container / f"{attempt}.message"

    def termination_message(self, pod_uid: str, container: str, attempt: int) -> bytes:
        with contextlib.suppress(OSError), self._message(pod_uid, container, attempt).open("rb") as file:
            return file.read(MESSAGE_LIMIT_BYTES)
        return b""

    async def teardown(self, pod_uid: str) -> None:
        directory = self._root / pod_uid
        for point in subpath.mounts_below(directory):
            await subpath.unmount(Path(point))
        if left := subpath.mounts_below(directory):
            raise OSError(errno.EBUSY, "still mounted, so nothing is deleted", left[0])
        for name in ("volumes", "volume-subpaths"):
            # Users' files may be many: not on the event loop.
            await asyncio.to_thread(_remove_tree, directory / name)

    async def remove(self, pod_uid: str) -> None:
        await self.teardown(pod_uid)
        await asyncio.to_thread(_remove_tree, self._root / pod_uid)

    def pod_uids(self) -> set[str]:
        try:
            return set(os.listdir(self._root))
        except FileNotFoundError:
            return set()


def kind_of(volume: Volume) -> str:
    """The volume's source. Raises VolumeError for one that is not supported here."""
    kind = next((name for name in SOURCES if getattr(volume, name) is not None), "emptyDir")
    if kind not in PLUGINS and kind != "hostPath":
        raise VolumeError(f"volumes of type {kind} are not supported", permanent=True)
    return kind


def _containers(pod: Pod) -> list[Container]:
    return [*pod.spec.initContainers, *pod.spec.containers]


def _sub_path(mount: VolumeMount, env: Mapping[str, str]) -> str:
    if not mount.subPathExpr:
        return mount.subPath

    def missing(name: str) -> str:
        raise ConfigError(f"missing value for {name!r} in subPathExpr {mount.subPathExpr!r}")

    return expand(mount.subPathExpr, env, missing)


def _make_empty_dir(directory: Path, group: int | None) -> None:
    if directory.exists():
        return
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    if group is not None:
        os.chown(directory, -1, group)
        directory.chmod(0o2777)


def _remove_tree(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
