"""What a shim keeps of each container and exec: streams, log, state on disk, and whom to answer.

A container's state goes to `containers/ID/state.json` before anyone hears of it; its fields are the protocol's too:
state (creating, created, running, exited), pid, createdAt, startedAt, finishedAt (ns), exitCode, oomKilled, reason,
message, user.
"""

from __future__ import annotations

import json
import os
import signal
import time

from runtime.linux import constants as c
from runtime.zygote.launch import Launch, Starter
from runtime.zygote.logs import LogFile
from runtime.zygote.loop import MAX_BACKLOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.zygote.launch import Shared
    from runtime.zygote.loop import Connection, Loop
    from runtime.zygote.protocol import Message

    Answer = Callable[[Message], None]

_CHUNK = 65536
# Four times the largest pipe that an ordinary user may make.
_DRAIN_CHUNKS = 64
_JOIN = c.CLONE_NEWNS | c.CLONE_NEWPID
START_ERROR_CODE = 128


class Listener:
    """The writing end of somebody who is attached. One who is gone or too slow is let go; nobody waits for it."""

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._fd = fd
        self._waiting = b""
        self._last = False
        # Nothing is ever read from it: being readable means that the other end is closed.
        loop.watch(fd, self.close)

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def tell(self, data: bytes) -> None:
        self._waiting += data
        if len(self._waiting) > MAX_BACKLOG:
            self.close()
        elif self.open:
            self._flush()

    def finish(self) -> None:
        """No more will come: close as soon as the rest is written."""
        self._last = True
        if self.open:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._fd, self._waiting) :]
        except BlockingIOError:
            self._loop.want_write(self._fd, self._flush)
            return
        except OSError:
            self.close()
            return
        self._loop.want_write(self._fd, None)
        if self._last:
            self.close()

    def close(self) -> None:
        if self.open:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._waiting = b""


class Outputs:
    """The reading ends of a container's streams: copied into its log and to whoever is attached."""

    def __init__(self, shared: Shared, log: LogFile) -> None:
        self._shared = shared
        self._log = log
        self._sources: dict[bytes, int] = {}
        self._listeners: list[tuple[bytes, Listener]] = []

    def add(self, stream: bytes, fd: int) -> None:
        os.set_blocking(fd, False)
        self._sources[stream] = fd
        self._shared.loop.watch(fd, lambda: self._pump_once(stream))

    def listen(self, stream: bytes, fd: int) -> None:
        self._listeners = [known for known in self._listeners if known[1].open]
        self._listeners.append((stream, Listener(self._shared.loop, fd)))

    def _pump_once(self, stream: bytes) -> None:
        self._pump(stream)

    def _pump(self, stream: bytes) -> bool:
        """Move one chunk; False when there is nothing more for now or ever."""
        fd = self._sources.get(stream)
        if fd is None:
            return False
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            # A terminal reports its end as EIO.
            data = b""
        self._log.write(stream, data, end=not data)
        if not data:
            self._shared.loop.unwatch(fd)
            os.close(fd)
            del self._sources[stream]
            return False
        for wanted, listener in self._listeners:
            if wanted == stream:
                listener.tell(data)
        return True

    def finish(self) -> None:
        """Take what is still in the pipes, then close all: whoever holds the writing ends writes to nobody."""
        for stream in list(self._sources):
            # What the pipe can hold, and no more: another process of the pod may go on writing for ever.
            for _ in range(_DRAIN_CHUNKS):
                if not self._pump(stream):
                    break
        for stream, fd in list(self._sources.items()):
            self._log.write(stream, b"", end=True)
            self._shared.loop.unwatch(fd)
            os.close(fd)
        self._sources.clear()
        for _, listener in self._listeners:
            listener.finish()
        self._listeners.clear()


class Container:
    def __init__(self, shared: Shared, identifier: str, answer: Answer) -> None:
        self._shared = shared
        self.identifier = identifier
        self._answer: Answer | None = answer
        self._launch = Launch(shared, self._ready, self._running, self._exited)
        self.log = LogFile(-1)
        self._outputs = Outputs(shared, self.log)
        self._input = -1
        self._terminal = -1
        self._oom = -1
        self._kill = -1
        self._kill_rest = False
        self.state: Message = {"state": "creating", "pid": 0, "createdAt": 0, "startedAt": 0, "finishedAt": 0}

    @property
    def pid(self) -> int:
        return self._launch.pid

    def create(self, message: Message, fds: list[int], spare: Starter | None, target: int) -> None:
        """Order the child. Named descriptors: rootfs, mount..., shm, procs..., cgroup2, log, oom, kill."""
        spec = message["spec"]
        named: list[str] = message["fds"]
        passed_names: list[str] = []
        passed: list[int] = []
        procs: list[int] = []
        for name, fd in zip(named, fds, strict=True):
            if name == "procs":
                procs.append(fd)
            elif name == "log":
                self.log.reopen(os.dup(fd))
            elif name == "oom":
                self._oom = os.dup(fd)
            elif name == "kill":
                self._kill = os.dup(fd)
            else:
                passed_names.append(name)
                passed.append(os.dup(fd))
        self._kill_rest = spec["pid"] != "container"
        if not spec["tty"]:
            self._open_pipes(spec["stdin"], passed_names, passed)
        if target >= 0:
            passed_names.append("target")
            passed.append(target)
        order = {**spec, "op": "container", "fds": passed_names, "join": c.CLONE_NEWPID}
        self._launch.start(spare or Starter(self._shared, procs), order, passed)

    def _open_pipes(self, stdin: bool, names: list[str], fds: list[int]) -> None:
        for name in ("stdout", "stderr"):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self._outputs.add(name.encode(), reader)
            names.append(name)
            fds.append(writer)
        if stdin:
            reader, self._input = os.pipe2(os.O_CLOEXEC)
            names.append("stdin")
            fds.append(reader)

    def start(self, answer: Answer) -> None:
        if self.state["state"] != "created":
            raise ValueError(f"container {self.identifier} is {self.state['state']}, not created")
        self._answer = answer
        self.state["state"] = "starting"
        self._launch.go()

    def signal(self, number: int) -> None:
        if self.pid and self.state["state"] != "exited":
            os.kill(self.pid, number)

    def attach(self, names: list[str], fds: list[int], *, stdin: bool) -> list[int]:
        """Listen with the descriptors given, which become ours; returns a new one of stdin if it is wanted."""
        for name, fd in zip(names, fds, strict=True):
            self._outputs.listen(name.encode(), fd)
        source = self._terminal if self._terminal >= 0 else self._input
        return [os.dup(source)] if stdin and source >= 0 else []

    def close_stdin(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def exited(self, code: int) -> None:
        self._launch.exited(code)

    def abandon(self) -> None:
        """Forget a container that does not run."""
        self._launch.abandon()
        self._close()

    def _ready(self, report: Message, fds: list[int]) -> None:
        if fds:
            self._terminal = fds.pop()
            self._outputs.add(b"stdout", os.dup(self._terminal))
        self.state.update(state="created", pid=self.pid, createdAt=time.time_ns(), user=report)
        self._save()
        self._reply({"state": self.state})

    def _running(self, error: str) -> None:
        now = time.time_ns()
        if self.state["state"] == "starting" and not error:
            self.state.update(state="running", startedAt=now)
            self._save()
            self._reply({"state": self.state})
            self._shared.announce({"event": "started", "container": self.identifier, "state": self.state})
        elif self.state["state"] == "starting":
            self._end(START_ERROR_CODE, reason="StartError", message=error)
            self._reply({"error": error, "state": self.state})
        elif self.state["state"] == "creating":
            self.state.update(state="exited", reason="CreateError", message=error, exitCode=START_ERROR_CODE)
            self._close()
            self._reply({"error": error})

    def _exited(self, code: int) -> None:
        if self.state["state"] == "exited":
            return
        if self._kill_rest and self._kill >= 0:
            # Its PID namespace is not its own, so the kernel does not end its other processes.
            os.write(self._kill, b"1")
        self._end(code)

    def _end(self, code: int, *, reason: str = "", message: str = "") -> None:
        self._outputs.finish()
        killed = self._oom_kills() > 0 and code == 128 + signal.SIGKILL
        self.state.update(
            state="exited",
            finishedAt=time.time_ns(),
            exitCode=code,
            oomKilled=killed,
            reason=reason or ("OOMKilled" if killed else "Completed" if code == 0 else "Error"),
            message=message,
        )
        self._close()
        self._save()
        self._shared.announce({"event": "exited", "container": self.identifier, "state": self.state})

    def _oom_kills(self) -> int:
        """The cgroup's own count; `memory.events` and `memory.oom_control` both have a line `oom_kill N`."""
        if self._oom < 0:
            return 0
        for line in os.pread(self._oom, 4096, 0).decode().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def _reply(self, answer: Message) -> None:
        if self._answer is not None:
            waiting, self._answer = self._answer, None
            waiting(answer)

    def _save(self) -> None:
        path = f"containers/{self.identifier}/state.json"
        try:
            directory = self._shared.directory
            fd = os.open(path + ".new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600, dir_fd=directory)
            try:
                data = json.dumps(self.state).encode()
                if os.write(fd, data) < len(data):
                    return
            finally:
                os.close(fd)
            os.rename(path + ".new", path, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            # The container was removed by a daemon that did not wait for its end, or the disk is full: then the state
            # is known to us alone, and the pod must not die of it.
            pass

    def _close(self) -> None:
        self._outputs.finish()
        self.log.close()
        for fd in (self._input, self._terminal, self._oom, self._kill):
            if fd >= 0:
                os.close(fd)
        self._input = self._terminal = self._oom = self._kill = -1


class Execution:
    """One exec. Its standard streams are the daemon's own descriptors, so nothing is copied here."""

    def __init__(self, shared: Shared, identifier: str, connection: Connection, request: int) -> None:
        self._shared = shared
        self.identifier = identifier
        self._connection = connection
        self._request = request
        self._terminal: list[int] = []
        self._launch = Launch(shared, self._ready, self._running, self._exited)

    @property
    def pid(self) -> int:
        return self._launch.pid

    def create(self, message: Message, fds: list[int], target: int) -> None:
        """Order the child. Named descriptors: stdin, stdout, stderr, procs..., cgroup2."""
        named: list[str] = message["fds"]
        procs = [fd for name, fd in zip(named, fds, strict=True) if name == "procs"]
        passed = [(name, os.dup(fd)) for name, fd in zip(named, fds, strict=True) if name != "procs"]
        passed.append(("target", target))
        order = {**message["spec"], "op": "exec", "fds": [name for name, _ in passed], "join": _JOIN}
        self._launch.start(Starter(self._shared, procs), order, [fd for _, fd in passed])

    def signal(self, number: int) -> None:
        """To the whole process group, which `init.execution` made with setsid."""
        if self.pid:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def exited(self, code: int) -> None:
        self._launch.exited(code)

    def _ready(self, report: Message, fds: list[int]) -> None:
        self._terminal = list(fds)
        fds.clear()

    def _running(self, error: str) -> None:
        if error:
            for fd in self._terminal:
                os.close(fd)
            self._connection.send({"id": self._request, "error": error})
        else:
            self._connection.send({"id": self._request, "pid": self.pid}, self._terminal)

    def _exited(self, code: int) -> None:
        self._connection.send({"event": "exec-exited", "exec": self.identifier, "exitCode": code})
