"""A container: made up to the last gate by create, let through it by start, ended by stop, forgotten by remove.

The shim holds the processes; this is what the daemon knows and prepares. `state` mirrors the shim's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from pb.cri.v1 import api_pb2 as cri
from runtime import mounts, records, spec
from runtime.cgroups.interface import Cgroup, CgroupError, Entry
from runtime.errors import Failed, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from runtime.events import Event, EventKind
from runtime.execution import Execution
from runtime.linux import constants as c
from runtime.parts import Image, Parts
from runtime.podgroup import remove_cgroup
from runtime.records import ContainerRecord
from runtime.sandbox import Sandbox
from runtime.snapshots.interface import SnapshotError
from runtime.zygote.client import PeerError, PeerLost

log = logging.getLogger(__name__)

_LOST_CODE = 255
# In which a shim that works answers, and tells of the end of a process that is dead.
_ANSWER_SECONDS = 3.0


class Container:
    def __init__(self, sandbox: Sandbox, record: ContainerRecord, config: cri.ContainerConfig) -> None:
        self.sandbox = sandbox
        self.parts: Parts = sandbox.parts
        self.record = record
        self.config = config
        self.directory: Path = sandbox.directory / "containers" / record.id
        self.state: dict[str, Any] = {"state": "creating"}
        self._ended = asyncio.Event()
        self._lock = asyncio.Lock()
        self._executions: dict[str, Execution] = {}

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def alive(self) -> bool:
        return self.state["state"] in ("creating", "created", "running")

    @property
    def running(self) -> bool:
        return bool(self.state["state"] == "running")

    def cgroup(self) -> Cgroup:
        return self.parts.cgroups.group(self.record.cgroup)

    # Creating

    async def create(self) -> None:
        """Everything up to the gate: snapshot, cgroups, mounts, the waiting child. Undone if any of it fails."""
        spec.refuse_unsupported(self.config)
        for gap in spec.gaps(self.config):
            log.warning("container %s: %s", self.id[:12], gap)
        wanted = self.config.image.image
        image = self.parts.images.resolve(wanted)
        if image is None:
            raise NotFound(f"image {wanted!r} is not on this node")
        self.record.image_id = image.id
        self.record.image_ref = wanted
        self.record.cgroup = f"{self.sandbox.record.cgroup}/{self.id}"
        self.directory.mkdir(mode=0o700)
        try:
            self.parts.images.pin(image.id, self.id)
            await self._create(image)
        except BaseException as error:
            await self._undo()
            if isinstance(error, (CgroupError, SnapshotError)):
                raise Unavailable(str(error)) from None
            if isinstance(error, (PeerError, OSError)):
                raise Failed(str(error)) from None
            if isinstance(error, PeerLost):
                raise FailedPrecondition(f"sandbox {self.sandbox.id} is not running") from None
            raise
        self._publish(EventKind.CREATED)

    async def _create(self, image: Image) -> None:
        order = self._order(image.config.get("config") or {})
        self.record.stop_signal = str((image.config.get("config") or {}).get("StopSignal") or "")
        (self.directory / "config.pb").write_bytes(self.config.SerializeToString())
        security = self.config.linux.security_context
        slot = self._make_cgroup(spec.device_rules(security.privileged, order["devices"]))
        passed: list[tuple[str, int]] = []
        opened = mounts.open_all(
            self.parts.kernel,
            self.config.mounts,
            self.sandbox.directory,
            read_only_root=security.readonly_rootfs,
            privileged=security.privileged,
        )
        with opened:
            order["mounts"] = opened.orders
            passed += [("mount", os.dup(fd)) for fd in opened.fds]
        try:
            passed.append(("rootfs", self.parts.snapshots.prepare(self.id, image.layers)))
            passed.append(("log", self._open_log()))
            passed.append(("shm", self._host_shm()))
            passed += _named_entry(self.cgroup().entry())
            names = [name for name, fd in passed if fd >= 0]
            fds = [fd for _, fd in passed if fd >= 0]
            target = self.config.linux.security_context.namespace_options.target_id
            answer = await self.sandbox.peer.request(
                "create", fds, container=self.id, spec=order, fds=names, slot=slot, target=target
            )
        finally:
            for _, fd in passed:
                if fd >= 0:
                    os.close(fd)
        self.state = answer["state"]
        records.save(self.directory, self.record)

    def _order(self, image: dict[str, Any]) -> dict[str, Any]:
        """What the shim and the child are told, and what later execs need to know again."""
        config = self.config
        security = config.linux.security_context
        self.record.args = spec.arguments(config, image)
        self.record.env = spec.environment(config, image, self.sandbox.hostname)
        self.record.cwd = config.working_dir or image.get("WorkingDir") or "/"
        if not self.record.cwd.startswith("/"):
            raise InvalidArgument(f"working directory {self.record.cwd!r} is not an absolute path")
        order = {
            "id": self.id,
            "args": self.record.args,
            "env": self.record.env,
            "cwd": self.record.cwd,
            "pid": spec.pid_mode(security),
            "tty": config.tty,
            "stdin": config.stdin,
            "user": spec.user(security, image),
            "newKeyring": True,
            "rlimits": [],
            "oomScoreAdj": config.linux.resources.oom_score_adj,
            "devices": mounts.devices(config.devices, privileged=security.privileged),
            "cgroupMounts": self.parts.cgroups.container_mounts(),
            **spec.privileges(security, self.parts.held_capabilities),
        }
        self.record.capabilities = order["capabilities"]
        return order

    def _make_cgroup(self, devices: tuple[Any, ...]) -> str:
        """Take the spare's group if there is one, else make one. Returns the spare's slot or ""."""
        slot = self.sandbox.group.take_slot()
        if slot:
            self.parts.cgroups.group(f"{self.sandbox.record.cgroup}/{slot}").rename(self.id)
        else:
            self.cgroup().create()
        self.cgroup().apply(spec.resources(self.config.linux.resources, devices))
        return slot

    def _open_log(self) -> int:
        """The log file of the request, -1 for none. Never follows a link that somebody put there."""
        if not self.sandbox.config.log_directory or not self.config.log_path:
            return -1
        path = Path(self.sandbox.config.log_directory) / self.config.log_path
        self.record.log_path = str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(path, flags, 0o640)

    def _host_shm(self) -> int:
        """The node's /dev/shm for a pod that shares its IPC namespace with the node."""
        if "ipc" in self.sandbox.record.unshare:
            return -1
        tree = self.parts.kernel.open_tree(c.AT_FDCWD, "/dev/shm", c.OPEN_TREE_CLONE)
        self.parts.kernel.mount_setattr(tree, "", c.AT_EMPTY_PATH, propagation=c.MS_PRIVATE)
        return tree

    async def _undo(self) -> None:
        with contextlib.suppress(PeerError, PeerLost, FailedPrecondition):
            await self.sandbox.peer.request("remove", container=self.id)
        await self._delete()

    # Running

    async def start(self) -> None:
        async with self._lock:
            if self.state["state"] != "created":
                raise FailedPrecondition(f"container {self.id} is {self.state['state']}, not created")
            try:
                answer = await self.sandbox.peer.request("start", container=self.id)
            except PeerError as error:
                self.adopt(error.answer.get("state") or self.state)
                raise Failed(f"failed to start container {self.id}: {error}") from None
            except PeerLost:
                raise FailedPrecondition(f"sandbox {self.sandbox.id} is not running") from None
            if self.state["state"] != "exited":
                self.state = answer["state"]

    async def stop(self, grace_seconds: float) -> None:
        """The stop signal, then after `grace_seconds` SIGKILL. Returns when it has ended; may be repeated."""
        if not self.alive:
            return
        if grace_seconds > 0 and self.running:
            await self._signal(self.stop_signal())
            if await self.wait_ended(grace_seconds):
                return
        await self._signal(signal.SIGKILL)
        with contextlib.suppress(CgroupError, OSError):
            self.cgroup().kill()
        if await self.wait_ended(_ANSWER_SECONDS):
            return
        if not self.cgroup().processes():
            self.sandbox.give_up_shim()
        if not await self.wait_ended(30.0):
            raise Failed(f"container {self.id} does not end: is it stuck in the kernel? (state D in ps)")

    def stop_signal(self) -> int:
        if self.config.stop_signal:
            name = cri.Signal.Name(self.config.stop_signal)
        else:
            name = self.record.stop_signal or "SIGTERM"
        return signal_number(name)

    async def _signal(self, number: int) -> None:
        with contextlib.suppress(PeerError, PeerLost, FailedPrecondition, TimeoutError):
            asking = self.sandbox.peer.request("signal", container=self.id, signal=number)
            await asyncio.wait_for(asking, _ANSWER_SECONDS)

    async def wait_ended(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def remove(self) -> None:
        """Stop it at once if it runs, then delete all that is left of it."""
        async with self._lock:
            await self.stop(0)
            with contextlib.suppress(PeerError, PeerLost, FailedPrecondition):
                await self.sandbox.peer.request("remove", container=self.id)
            await self._delete()
        self._publish(EventKind.DELETED)

    async def _delete(self) -> None:
        await remove_cgroup(self.parts, self.record.cgroup)
        await asyncio.to_thread(self.parts.snapshots.remove, self.id)
        self.parts.images.unpin(self.id)
        self.sandbox.containers.pop(self.id, None)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    def update(self, asked: cri.LinuxContainerResources) -> None:
        """Change limits of a living container and remember them."""
        if not self.alive:
            raise FailedPrecondition(f"container {self.id} is {self.state['state']}: no limits to change")
        try:
            self.cgroup().apply(spec.resources(asked))
        except CgroupError as error:
            raise Unavailable(str(error)) from None
        merged = self.config.linux.resources
        merged.MergeFrom(asked)
        (self.directory / "config.pb").write_bytes(self.config.SerializeToString())

    async def reopen_log(self) -> None:
        if not self.running:
            raise FailedPrecondition(f"container {self.id} is not running")
        log_fd = self._open_log()
        if log_fd >= 0:
            try:
                await self.sandbox.peer.request("reopen-log", [log_fd], container=self.id)
            finally:
                os.close(log_fd)

    # Attaching

    async def attach(self, names: list[str], fds: list[int], *, stdin: bool) -> int | None:
        """Copy output to `fds` as well; returns a descriptor of its stdin or terminal, which the caller owns."""
        try:
            _, received = await self.sandbox.peer.request_fds("attach", fds, container=self.id, fds=names, stdin=stdin)
        except PeerError as error:
            raise Failed(str(error)) from None
        except PeerLost:
            raise FailedPrecondition(f"sandbox {self.sandbox.id} is not running") from None
        return received[0] if received else None

    async def close_stdin(self) -> None:
        with contextlib.suppress(PeerError, PeerLost, FailedPrecondition):
            await self.sandbox.peer.request("close-stdin", container=self.id)

    async def exit_code(self) -> int:
        """Waits for the end of the container."""
        await self._ended.wait()
        return int(self.state.get("exitCode", 0))

    # Execs

    def execution(self, args: list[str], *, tty: bool = False) -> Execution:
        """One more process, not started yet."""
        if not self.running:
            raise FailedPrecondition(f"container {self.id} is not running")
        if not args:
            raise InvalidArgument("no command to execute")
        env = self.record.env
        if tty and not any(line.startswith("TERM=") for line in env):
            env = [*env, "TERM=xterm"]
        order = {
            "id": self.id,
            "args": args,
            "env": env,
            "cwd": self.record.cwd,
            "tty": tty,
            "user": self.state["user"],
            "newKeyring": True,
            "rlimits": [],
            "oomScoreAdj": self.config.linux.resources.oom_score_adj,
            "capabilities": self.record.capabilities,
            "noNewPrivs": self.config.linux.security_context.no_new_privs,
        }
        execution = Execution(self.sandbox.peer, self.id, self.parts.new_id(), order, self.cgroup().entry)
        self._executions[execution.id] = execution
        execution.ended.add_done_callback(lambda _: self._executions.pop(execution.id, None))
        return execution

    def exec_ended(self, identifier: str, code: int) -> None:
        execution = self._executions.get(identifier)
        if execution is not None:
            execution.finish(code)

    # What the shim tells

    def told(self, message: dict[str, Any]) -> None:
        was_ended = self._ended.is_set()
        self.adopt(message["state"])
        if message["event"] == "started":
            self._publish(EventKind.STARTED)
        elif message["event"] == "exited" and not was_ended:
            self._publish(EventKind.STOPPED)

    def adopt(self, state: dict[str, Any]) -> None:
        """Take over what the shim or the disk says."""
        if self._ended.is_set():
            return
        self.state = state
        if state["state"] == "exited":
            self._ended.set()
            for execution in list(self._executions.values()):
                execution.finish(128 + signal.SIGKILL)

    def mark_dead(self) -> None:
        """Nobody holds its processes any more; what the disk does not know is lost."""
        if self._ended.is_set():
            return
        state = records.load_state(self.directory) or dict(self.state)
        if state.get("state") != "exited":
            state.update(
                state="exited",
                finishedAt=self.parts.now_ns(),
                exitCode=_LOST_CODE,
                reason="Unknown",
                message="the container's shim was lost, and its exit code with it",
            )
        self.adopt(state)
        self._publish(EventKind.STOPPED)

    def _publish(self, kind: EventKind) -> None:
        self.parts.events.publish(Event(kind, self.id, self.sandbox.id, self.parts.now_ns()))


def _named_entry(entry: Entry) -> list[tuple[str, int]]:
    return [
        *(("procs", fd) for fd in entry.procs),
        ("cgroup2", entry.clone),
        ("oom", entry.oom),
        ("kill", entry.kill),
    ]


def signal_number(name: str) -> int:
    """A signal by number or name, with the CRI's spelling of real-time signals too."""
    if name.isdigit():
        return int(name)
    text = name.upper().replace("PLUS", "+").replace("MINUS", "-")
    text = text if text.startswith("SIG") else f"SIG{text}"
    for base in ("SIGRTMIN", "SIGRTMAX"):
        if text.startswith(base) and text != base:
            return int(getattr(signal, base)) + int(text[len(base) :])
    try:
        return int(signal.Signals[text])
    except KeyError:
        raise InvalidArgument(f"unknown signal {name!r}") from None
