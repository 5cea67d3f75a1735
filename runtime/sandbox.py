"""A pod sandbox: its namespaces, cgroup, network and shim, from RunPodSandbox to RemovePodSandbox.

There is no pause process: the shim makes the namespaces, a bind mount pins each, and containers inherit them. Owns its
containers. State changes are written to the record before they are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pb.cri.v1 import api_pb2 as cri
from runtime import podfiles, records, spec
from runtime.cgroups.interface import Cgroup, CgroupError
from runtime.errors import Failed, FailedPrecondition, Unavailable
from runtime.events import Event, EventKind
from runtime.linux import constants as c
from runtime.linux.netlink import Route
from runtime.network.interface import NetworkError
from runtime.parts import Parts
from runtime.records import SandboxRecord, SandboxState
from runtime.zygote.client import Peer, PeerError, PeerLost, connect

if TYPE_CHECKING:
    from runtime.container import Container

log = logging.getLogger(__name__)

_PIN_NAMES = {"network": "net", "ipc": "ipc", "uts": "uts"}
_SHM_BYTES = 64 * 1024 * 1024
SPARE = "spare"


class Sandbox:
    def __init__(self, parts: Parts, record: SandboxRecord, config: cri.PodSandboxConfig) -> None:
        self.parts = parts
        self.record = record
        self.config = config
        self.directory = parts.sandboxes_directory / record.id
        self.containers: dict[str, Container] = {}
        self.lock = asyncio.Lock()
        self._peer: Peer | None = None
        self._stopping = False
        self._spare = False

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def hostname(self) -> str:
        return self.config.hostname or socket.gethostname()

    @property
    def ready(self) -> bool:
        return self.record.state is SandboxState.READY

    @property
    def peer(self) -> Peer:
        """The connection to the shim; FailedPrecondition when there is none."""
        if self._peer is None or not self._peer.alive:
            raise FailedPrecondition(f"sandbox {self.id} is not running")
        return self._peer

    def cgroup(self) -> Cgroup:
        return self.parts.cgroups.group(self.record.cgroup)

    # Running

    async def run(self) -> None:
        """Everything that RunPodSandbox promises; undone if any of it fails."""
        own = spec.namespaces(self.config)
        spec.refuse_unsupported_sandbox(self.config)
        podfiles.checked_hostname(self.hostname)
        order = {
            "sandbox": self.id,
            "unshare": own,
            "hostname": self.hostname,
            "shmBytes": _SHM_BYTES,
            "sysctls": spec.sysctls(self.config, own),
        }
        self.record.unshare = own
        parent = self.parts.cgroups.slice_path(self.config.linux.cgroup_parent) or self.parts.config.cgroup_root
        self.record.cgroup = f"{parent.rstrip('/')}/{self.id}"
        (self.directory / "containers").mkdir(parents=True, mode=0o700)
        (self.directory / "config.pb").write_bytes(self.config.SerializeToString())
        self._save()
        try:
            spawned = asyncio.ensure_future(self.parts.zygote.spawn(self.directory, order))
            await asyncio.sleep(0)
            # While the zygote forks on the other core:
            try:
                self._make_cgroups()
                warming = asyncio.ensure_future(self.parts.cgroups.warm_up())
            finally:
                pid, sock = await spawned
            await self._connect(pid, sock, own)
            await warming
            self.record.state = SandboxState.READY
            self._save()
        except BaseException as error:
            await self._undo()
            if isinstance(error, (CgroupError, NetworkError, PeerError, PeerLost, OSError)):
                raise _translated(error) from None
            raise
        self._publish(EventKind.CREATED)
        self._publish(EventKind.STARTED)

    def _make_cgroups(self) -> None:
        group = self.cgroup()
        group.create()
        linux = self.config.linux
        if linux.HasField("resources"):
            group.apply(spec.resources(linux.resources))
        if self.parts.cgroups.joins_by_writing:
            self.parts.cgroups.group(f"{self.record.cgroup}/{SPARE}").create()

    async def _connect(self, pid: int, sock: socket.socket, own: list[str]) -> None:
        self._peer = Peer(sock, self._event, self._lost)
        self.record.shim_pid = pid
        _, fds = await self._peer.hello()
        preparing = asyncio.ensure_future(self._prepare_spare())
        await asyncio.sleep(0)
        try:
            self._pin(pid, own)
            if "network" in own:
                self._attach_network(socket.socket(fileno=fds.pop()))
        finally:
            for fd in fds:
                os.close(fd)
            await preparing
        podfiles.write(
            self.directory, self.config, self.hostname, self.record.address, host_network="network" not in own
        )

    async def _prepare_spare(self) -> None:
        """Let a child join the first container's cgroups already now: that may take the kernel 8 ms."""
        if not self.parts.cgroups.joins_by_writing:
            return
        entry = self.parts.cgroups.group(f"{self.record.cgroup}/{SPARE}").entry()
        try:
            await self.peer.request("prepare", entry.procs, slot=SPARE)
            self._spare = True
        finally:
            for fd in (*entry.procs, entry.clone, entry.oom, entry.kill):
                if fd >= 0:
                    os.close(fd)

    def take_spare(self) -> bool:
        """Whether a spare waits; the caller has it then."""
        taken, self._spare = self._spare, False
        return taken

    def _pin(self, pid: int, own: list[str]) -> None:
        home = self.parts.pins_directory / self.id
        home.mkdir(mode=0o711)
        for space in own:
            target = home / _PIN_NAMES[space]
            target.touch(0o600)
            tree = self.parts.kernel.open_tree(c.AT_FDCWD, f"/proc/{pid}/ns/{_PIN_NAMES[space]}", c.OPEN_TREE_CLONE)
            try:
                self.parts.kernel.move_mount(tree, c.AT_FDCWD, str(target))
            finally:
                os.close(tree)

    def _unpin(self) -> None:
        home = self.parts.pins_directory / self.id
        if not home.is_dir():
            return
        for target in home.iterdir():
            with contextlib.suppress(OSError):
                self.parts.kernel.umount(str(target), c.MNT_DETACH)
            target.unlink(missing_ok=True)
        home.rmdir()

    def _attach_network(self, sock: socket.socket) -> None:
        namespace = os.open(self.parts.pins_directory / self.id / "net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Route(sock) as inside:
                attachment = self.parts.network.attach(self.id, namespace, inside)
        finally:
            os.close(namespace)
        self.record.address = attachment.address
        self.record.link = attachment.link

    async def _undo(self) -> None:
        """Take back a run that failed half way."""
        self._stopping = True
        await self._teardown()
        await self._delete()

    # Ending

    async def stop(self) -> None:
        """End every container and give the network back. May be repeated."""
        if self.record.state is SandboxState.NOT_READY and self._peer is None:
            return
        was_ready = self.ready
        self._stopping = True
        await self._teardown()
        self.record.state = SandboxState.NOT_READY
        self._save()
        if was_ready:
            self._publish(EventKind.STOPPED)

    async def _teardown(self) -> None:
        """No process, pin, link or lease of this sandbox is left after this."""
        running = [container for container in self.containers.values() if container.alive]
        with contextlib.suppress(CgroupError, OSError):
            self.cgroup().kill()
        for container in running:
            await container.wait_ended(5.0)
        if self._peer is not None:
            with contextlib.suppress(PeerLost, PeerError):
                await self._peer.request("shutdown")
            self._peer.close()
            self._peer = None
        self._mark_all_dead()
        self._unpin()
        with contextlib.suppress(NetworkError):
            self.parts.network.detach(self.id)
        self.record.address = self.record.link = ""

    async def remove(self) -> None:
        await self.stop()
        for container in list(self.containers.values()):
            await container.remove()
        await self._delete()
        self._publish(EventKind.DELETED)

    async def _delete(self) -> None:
        await remove_cgroup(self.parts, self.record.cgroup)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    def _mark_all_dead(self) -> None:
        for container in list(self.containers.values()):
            container.mark_dead()

    # What the shim tells

    def _event(self, message: dict[str, Any]) -> None:
        identifier = message.get("container", "")
        if "exec" in message:
            for container in self.containers.values():
                container.exec_ended(message["exec"], message["exitCode"])
        elif identifier in self.containers:
            self.containers[identifier].told(message)

    def _lost(self) -> None:
        """The shim is gone. Unless we asked for it, its containers have lost their logs and must not run on."""
        if self._stopping:
            return
        log.error("the shim of sandbox %s is gone: ending its containers", self.id)
        self._peer = None
        self._stopping = True
        task = asyncio.ensure_future(self._after_loss())
        task.set_name(f"clean up sandbox {self.id}")
        self._cleaning = task

    async def _after_loss(self) -> None:
        try:
            async with self.lock:
                await self._teardown()
                self.record.state = SandboxState.NOT_READY
                self._save()
            self._publish(EventKind.STOPPED)
        except Exception:
            log.exception("sandbox %s could not be cleaned up", self.id)

    async def reconnect(self) -> None:
        """After a restart of the daemon: find the shim again, or note that it is dead and clean up."""
        if self.record.state is not SandboxState.READY:
            await self._teardown()
            return
        try:
            self._peer = Peer(connect(self.directory), self._event, self._lost)
            await self._peer.hello()
            states = (await self._peer.request("status"))["containers"]
        except (PeerLost, PeerError, TimeoutError) as error:
            log.warning("sandbox %s did not survive: %s", self.id, error)
            self._stopping = True
            await self._teardown()
            self.record.state = SandboxState.NOT_READY
            self._save()
            return
        for identifier, state in states.items():
            if identifier in self.containers:
                self.containers[identifier].adopt(state)
            else:
                with contextlib.suppress(PeerError):
                    await self._peer.request("signal", container=identifier, signal=9)
                    await self._peer.request("remove", container=identifier)
        for container in list(self.containers.values()):
            if container.id not in states:
                container.mark_dead()

    async def sweep(self) -> None:
        """Remove a sandbox of which only traces are left: its shim may live, its record may not."""
        self._stopping = True
        with contextlib.suppress(PeerLost, PeerError, TimeoutError, OSError):
            self._peer = Peer(connect(self.directory), self._event, self._lost)
            await self._peer.hello()
        await self._teardown()
        await self._delete()

    def disconnect(self) -> None:
        """Leave the sandbox alone, running; the daemon ends."""
        self._stopping = True
        if self._peer is not None:
            self._peer.close()

    def _save(self) -> None:
        records.save(self.directory, self.record)

    def _publish(self, kind: EventKind) -> None:
        self.parts.events.publish(Event(kind, self.id, self.id, self.parts.now_ns()))


def _translated(error: Exception) -> Exception:
    if isinstance(error, CgroupError):
        return Unavailable(str(error))
    if isinstance(error, PermissionError):
        return Unavailable(f"{error}: the runtime must run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN")
    return Failed(str(error))


async def remove_cgroup(parts: Parts, path: str) -> None:
    """Remove a group, waiting for the kernel to let go of processes that have just ended."""
    if not path:
        return
    group = parts.cgroups.group(path)
    for delay in (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        await parts.clock.sleep(delay)
        try:
            group.remove()
            return
        except OSError:
            with contextlib.suppress(CgroupError, OSError):
                group.kill()
    log.warning("cgroup %s cannot be removed: processes %s", path, group.processes())


def leftovers(directory: Path) -> list[Path]:
    """Directories of sandboxes that were never finished."""
    found = [] if not directory.is_dir() else sorted(directory.iterdir())
    return [path for path in found if (records.load(path, SandboxRecord) or _CREATING).state is SandboxState.CREATING]


_CREATING = SandboxRecord(id="", created_at=0)
