"""All sandboxes and containers of one root: found, listed, recovered after a restart.

Knows nothing of gRPC. Owns the registry of what lives; each sandbox owns its containers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from pb.cri.v1 import api_pb2 as cri
from runtime import pins, records, spec
from runtime.cgroups.interface import CgroupError
from runtime.container import Container
from runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from runtime.parts import Parts
from runtime.podgroup import remove_cgroup
from runtime.pool import SandboxPool
from runtime.records import ContainerRecord, SandboxRecord
from runtime.sandbox import Sandbox, leftovers

log = logging.getLogger(__name__)


class Runtime:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._sandboxes: dict[str, Sandbox] = {}
        self._pool = SandboxPool(self._new_sandbox, enabled=parts.config.prepare_ahead)

    # Finding

    def sandboxes(self) -> list[Sandbox]:
        return list(self._sandboxes.values())

    def containers(self) -> Iterator[Container]:
        for sandbox in self.sandboxes():
            yield from list(sandbox.containers.values())

    def sandbox(self, identifier: str) -> Sandbox:
        """By id or a unique beginning of it."""
        found = self._sandboxes.get(identifier)
        if found is not None:
            return found
        matching = [sandbox for key, sandbox in self._sandboxes.items() if identifier and key.startswith(identifier)]
        if len(matching) != 1:
            raise NotFound(f"no sandbox {identifier!r}")
        return matching[0]

    def container(self, identifier: str) -> Container:
        matching = [container for container in self.containers() if container.id == identifier] or [
            container for container in self.containers() if identifier and container.id.startswith(identifier)
        ]
        if len(matching) != 1:
            raise NotFound(f"no container {identifier!r}")
        return matching[0]

    def written(self) -> tuple[int, int]:
        """(bytes, inodes) that all containers have written."""
        usages = [self.parts.snapshots.usage(container.id) for container in self.containers()]
        return sum(size for size, _ in usages), sum(inodes for _, inodes in usages)

    @property
    def prepared(self) -> str:
        """Id of the sandbox that waits for the next pod, "" if none does."""
        return self._pool.waiting

    # Sandboxes

    async def run_sandbox(self, config: cri.PodSandboxConfig, handler: str) -> Sandbox:
        if handler not in ("", "pyctl"):
            raise InvalidArgument(f"no runtime handler {handler!r}; there is only the default one")
        name = _name(config.metadata)
        for other in self.sandboxes():
            if _name(other.config.metadata) == name:
                raise FailedPrecondition(f"a sandbox {name} exists already: {other.id}")
        spec.refuse_unsupported_sandbox(config)
        own = spec.namespaces(config)
        sandbox = self._pool.take(own)
        prepared = sandbox is not None
        if sandbox is None:
            sandbox = self._new_sandbox()
            sandbox.config = config
        self._sandboxes[sandbox.id] = sandbox
        try:
            async with sandbox.lock:
                if not prepared:
                    await sandbox.prepare(own)
                await sandbox.run(config, handler)
        except BaseException:
            self._sandboxes.pop(sandbox.id, None)
            raise
        finally:
            self._pool.touch()
        return sandbox

    def _new_sandbox(self) -> Sandbox:
        record = SandboxRecord(id=self.parts.new_id(), created_at=self.parts.now_ns())
        return Sandbox(self.parts, record, cri.PodSandboxConfig())

    async def stop_sandbox(self, identifier: str) -> None:
        with contextlib.suppress(NotFound):
            sandbox = self.sandbox(identifier)
            async with sandbox.lock:
                await sandbox.stop()

    async def remove_sandbox(self, identifier: str) -> None:
        with contextlib.suppress(NotFound):
            sandbox = self.sandbox(identifier)
            async with sandbox.lock:
                await sandbox.remove()
                self._sandboxes.pop(sandbox.id, None)

    # Containers

    async def create_container(self, sandbox_id: str, config: cri.ContainerConfig) -> Container:
        sandbox = self.sandbox(sandbox_id)
        record = ContainerRecord(id=self.parts.new_id(), sandbox=sandbox.id, created_at=self.parts.now_ns())
        container = Container(sandbox, record, config)
        self._pool.touch()
        async with sandbox.lock:
            if not sandbox.ready:
                raise FailedPrecondition(f"sandbox {sandbox.id} is not ready")
            wanted = (config.metadata.name, config.metadata.attempt)
            for other in sandbox.containers.values():
                if (other.config.metadata.name, other.config.metadata.attempt) == wanted:
                    raise FailedPrecondition(f"a container {wanted[0]!r}, attempt {wanted[1]}, exists: {other.id}")
            sandbox.containers[record.id] = container
            try:
                await container.create()
            except BaseException:
                sandbox.containers.pop(record.id, None)
                raise
        return container

    # The daemon's own life

    async def recover(self) -> None:
        """Find again what a predecessor left: living sandboxes are adopted, dead ones cleaned up."""
        parts = self.parts
        parts.sandboxes_directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        pins.make_directory(parts.kernel, parts.pins_directory)
        for directory in leftovers(parts.sandboxes_directory):
            log.warning("removing %s: its creation was never finished", directory.name)
            await self._sweep(directory.name)
        for directory in sorted(parts.sandboxes_directory.iterdir()):
            try:
                await self._adopt(directory)
            except Exception:
                # A damaged directory must not keep the others from being served.
                log.exception("removing sandbox %s: it cannot be recovered", directory.name)
                self._sandboxes.pop(directory.name, None)
                await self._sweep(directory.name)
        living = [sandbox.id for sandbox in self.sandboxes() if sandbox.ready]
        parts.network.reconcile(living)
        known = {container.id for container in self.containers()}
        for key in parts.snapshots.known():
            if key not in known:
                await asyncio.to_thread(parts.snapshots.remove, key)
        await self._sweep_cgroups()
        log.info("recovered %d sandboxes, %d of them ready", len(self._sandboxes), len(living))

    async def _adopt(self, directory: Path) -> None:
        record = records.load(directory, SandboxRecord)
        if record is None:
            raise ValueError(f"{directory}/record.json cannot be read")
        sandbox = Sandbox(self.parts, record, records.load_sandbox_config(directory))
        self._sandboxes[record.id] = sandbox
        await self._recover_containers(sandbox)
        await sandbox.reconnect()

    async def _recover_containers(self, sandbox: Sandbox) -> None:
        for directory in sorted((sandbox.directory / "containers").iterdir()):
            record = records.load(directory, ContainerRecord)
            if record is None or not (directory / "config.pb").exists():
                log.warning("removing container %s: its creation was never finished", directory.name)
                await self._sweep_cgroup(f"{sandbox.record.cgroup}/{directory.name}")
                shutil.rmtree(directory, ignore_errors=True)
                continue
            container = Container(sandbox, record, records.load_container_config(directory))
            container.state = records.load_state(directory) or {"state": "created"}
            sandbox.containers[record.id] = container
            if container.state["state"] == "exited":
                container.adopt(container.state)

    async def _sweep(self, identifier: str) -> None:
        """Remove every trace of a sandbox that has no usable record."""
        record = records.load(self.parts.sandboxes_directory / identifier, SandboxRecord)
        if record is None:
            record = SandboxRecord(id=identifier, created_at=0, cgroup=f"{self.parts.config.cgroup_root}/{identifier}")
        await Sandbox(self.parts, record, cri.PodSandboxConfig()).discard()

    async def _sweep_cgroups(self) -> None:
        """Groups below our own that belong to nobody: a sandbox may lie deeper, in a group that its caller named."""
        root = self.parts.config.cgroup_root
        known = {sandbox.record.cgroup.removeprefix(root).lstrip("/").split("/")[0] for sandbox in self.sandboxes()}
        for name in self.parts.cgroups.children(root):
            if name not in known:
                await self._sweep_cgroup(f"{root}/{name}")

    async def _sweep_cgroup(self, path: str) -> None:
        try:
            await remove_cgroup(self.parts, path)
        except CgroupError as error:
            log.warning("%s", error)

    def begin(self) -> None:
        """From now on the next pod is prepared for."""
        self._pool.touch()

    async def disconnect(self) -> None:
        """Let everything run on without us."""
        await self._pool.close()
        for sandbox in self.sandboxes():
            sandbox.disconnect()

    async def destroy(self) -> None:
        """Remove every sandbox, and what we made on the host for all of them."""
        for sandbox in self.sandboxes():
            async with sandbox.lock:
                await sandbox.remove()
        self._sandboxes.clear()
        self.parts.network.destroy()
        await remove_cgroup(self.parts, self.parts.config.cgroup_root)
        pins.remove_directory(self.parts.kernel, self.parts.pins_directory)


def _name(metadata: cri.PodSandboxMetadata) -> str:
    return f"{metadata.namespace}/{metadata.name}, uid {metadata.uid}, attempt {metadata.attempt}"
