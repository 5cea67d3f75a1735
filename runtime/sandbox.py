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
from runtime import pins, podfiles, records, spec
from runtime.cgroups.interface import CgroupError
from runtime.errors import Failed, FailedPrecondition, Unavailable
from runtime.events import Event, EventKind
from runtime.linux.netlink import Route
from runtime.network.interface import NetworkError
from runtime.parts import Parts
from runtime.podgroup import PodGroup
from runtime.records import SandboxRecord, SandboxState
from runtime.zygote.client import Peer, PeerError, PeerLost, connect, kill_shim

if TYPE_CHECKING:
    from runtime.container import Container

log = logging.getLogger(__name__)

_SHM_BYTES = 64 * 1024 * 1024
_SHIM_SECONDS = 3.0


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
        self._cleaning: asyncio.Task[None] | None = None
        self.group = PodGroup(parts, record.id, record.cgroup)
        self._pins = parts.pins_directory / record.id

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

    @property
    def connected(self) -> bool:
        return self._peer is not None and self._peer.alive

    # Running

    async def prepare(self, own: list[str], *, ahead: bool = False) -> None:
        """All that can be done before the pod is known: shim, namespaces, pins, network, cgroup and spares.

        `own` lists the namespaces that it has of its own. With `ahead` the cgroup lies where it can still be moved.
        """
        order = {"sandbox": self.id, "unshare": own, "shmBytes": _SHM_BYTES}
        self.record.unshare = own
        path = self.group.ahead() if ahead else self.group.wanted(self.config.linux.cgroup_parent)
        self.record.cgroup = path
        try:
            (self.directory / "containers").mkdir(parents=True, mode=0o700)
            self._save()
            spawned = asyncio.ensure_future(self.parts.zygote.spawn(self.directory, order))
            await asyncio.sleep(0)
            # While the zygote forks on the other core:
            try:
                self.group.make(path)
                warming = asyncio.ensure_future(self.parts.cgroups.warm_up())
            finally:
                pid, sock = await spawned
            await self._connect(pid, sock, own, keep=ahead)
            await warming
        except BaseException as error:
            await self.discard()
            raise _translated(error) from None

    async def _connect(self, pid: int, sock: socket.socket, own: list[str], *, keep: bool) -> None:
        self._peer = Peer(sock, self._event, self._lost)
        self.record.shim_pid = pid
        _, fds = await self._peer.hello()
        sending = asyncio.ensure_future(self.group.send_spares(self._peer, keep=keep))
        await asyncio.sleep(0)
        try:
            pins.pin(self.parts.kernel, self._pins, pid, own)
            if "network" in own:
                self._attach_network(socket.socket(fileno=fds.pop()))
        finally:
            for fd in fds:
                os.close(fd)
            await sending

    def _attach_network(self, sock: socket.socket) -> None:
        namespace = os.open(self._pins / pins.NAMES["network"], os.O_RDONLY | os.O_CLOEXEC)
        try:
            with Route(sock) as inside:
                attachment = self.parts.network.attach(self.id, namespace, inside)
        finally:
            os.close(namespace)
        self.record.address = attachment.address
        self.record.link = attachment.link

    async def run(self, config: cri.PodSandboxConfig, handler: str) -> None:
        """Make the prepared sandbox this pod's, with everything that RunPodSandbox promises; undone if it fails."""
        self.config = config
        self.record.handler = handler
        self.record.created_at = self.parts.now_ns()
        own = self.record.unshare
        try:
            podfiles.checked_hostname(self.hostname)
            sysctls = spec.sysctls(config, own)
            await self._place_group()
            await self.peer.request("configure", hostname=self.hostname if "uts" in own else "", sysctls=sysctls)
            (self.directory / "config.pb").write_bytes(config.SerializeToString())
            podfiles.write(
                self.directory, config, self.hostname, self.record.address, host_network="network" not in own
            )
            self.record.state = SandboxState.READY
            self._save()
        except BaseException as error:
            await self.discard()
            raise _translated(error) from None
        self._publish(EventKind.CREATED)
        self._publish(EventKind.STARTED)

    async def _place_group(self) -> None:
        """Have the cgroup where the caller wants it; if it cannot be moved there, make another."""
        wanted = self.group.wanted(self.config.linux.cgroup_parent)
        if wanted != self.group.path and not self.group.move_to(wanted):
            await self.peer.request("drop-spares")
            made_ahead, self.group = self.group, PodGroup(self.parts, self.id)
            await made_ahead.remove()
            self.group.make(wanted)
            await self.group.send_spares(self.peer, keep=False)
        self.record.cgroup = self.group.path
        if self.config.linux.HasField("resources"):
            self.group.group().apply(spec.resources(self.config.linux.resources))

    async def discard(self) -> None:
        """Take back what was made; for one that never became a pod, or of which only traces are left."""
        self._stopping = True
        if self._peer is None:
            with contextlib.suppress(PeerLost, PeerError, TimeoutError, OSError):
                self._peer = Peer(connect(self.directory), self._event, self._lost)
                await self._peer.hello()
        try:
            await self._teardown()
            await self._delete()
        except CgroupError as error:
            log.warning("sandbox %s: %s", self.id, error)

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
        self.group.kill()
        if self.connected and running:
            # The shim still has to take their last words and exit codes.
            await asyncio.gather(*(container.wait_ended(_SHIM_SECONDS) for container in running))
        await self._end_shim()
        self._mark_all_dead()
        pins.unpin(self.parts.kernel, self._pins)
        with contextlib.suppress(NetworkError):
            self.parts.network.detach(self.id)
        self.record.address = self.record.link = ""

    async def _end_shim(self) -> None:
        """Ask it; if it does not answer, kill it."""
        if self._peer is not None:
            try:
                await asyncio.wait_for(self._peer.request("shutdown"), _SHIM_SECONDS)
            except (PeerLost, PeerError, TimeoutError) as error:
                log.warning("the shim of sandbox %s did not end when asked: %s", self.id, error or "no answer")
            self._peer.close()
            self._peer = None
        kill_shim(self.record.shim_pid, self.directory)

    def give_up_shim(self) -> None:
        """Kill a shim that does not tell of the end of processes that are gone; its loss is then cleaned up after."""
        log.error("the shim of sandbox %s does not answer: killing it", self.id)
        kill_shim(self.record.shim_pid, self.directory)

    async def remove(self) -> None:
        await self.stop()
        for container in list(self.containers.values()):
            await container.remove()
        await self._delete()
        self._publish(EventKind.DELETED)

    async def _delete(self) -> None:
        await self.group.remove()
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
        self._cleaning = asyncio.create_task(self._after_loss(), name=f"clean up sandbox {self.id}")

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

    def disconnect(self) -> None:
        """Leave the sandbox alone, running; the daemon ends."""
        self._stopping = True
        if self._peer is not None:
            self._peer.close()

    def _save(self) -> None:
        records.save(self.directory, self.record)

    def _publish(self, kind: EventKind) -> None:
        self.parts.events.publish(Event(kind, self.id, self.id, self.parts.now_ns()))


def _translated(error: BaseException) -> BaseException:
    """What went wrong in the words of the runtime; what is nobody's fault but ours stays as it is."""
    if isinstance(error, CgroupError):
        return Unavailable(str(error))
    if isinstance(error, PermissionError):
        return Unavailable(f"{error}: the runtime must run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN")
    if isinstance(error, (NetworkError, PeerError, PeerLost, OSError)):
        return Failed(str(error))
    return error


def leftovers(directory: Path) -> list[Path]:
    """Directories of sandboxes that were never finished."""
    found = [] if not directory.is_dir() else sorted(directory.iterdir())
    return [path for path in found if (records.load(path, SandboxRecord) or _CREATING).state is SandboxState.CREATING]


_CREATING = SandboxRecord(id="", created_at=0)
