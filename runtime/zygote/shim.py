"""The shim: one per pod, parent of everything that runs in it.

It outlives the daemon. It owns the pod's namespaces while the pod lives, the ends of its containers' pipes, their logs
and their exit codes, which it writes to `containers/ID/state.json` in the sandbox's directory before it tells anyone.
It decides nothing: images, mounts, cgroups and addresses are prepared by the daemon and arrive as descriptors.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from runtime.linux import constants as c
from runtime.linux.kernel import RealKernel
from runtime.zygote import init, privileges, protocol
from runtime.zygote.launch import Shared, Starter
from runtime.zygote.loop import Connection, Loop
from runtime.zygote.workload import Container, Execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.linux.interface import Kernel
    from runtime.zygote.protocol import Message

SPARE_IDLE_SECONDS = 60.0


def main(order: Message, directory: int, listener_fd: int, connection_fd: int) -> int:
    """Become the shim of a new sandbox. The first message on the connection is the hello, or why there is none."""
    kernel = RealKernel()
    # The zygote has none to collect and froze what it has; a shim lives long and makes cycles.
    gc.enable()
    os.setsid()
    _detach_streams(directory)
    kernel.prctl(c.PR_SET_CHILD_SUBREAPER, 1)
    privileges.reset_all_signals()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    connection = socket.socket(fileno=connection_fd)
    try:
        netlink = _enter_namespaces(kernel, order)
    except OSError as error:
        protocol.send(connection, {"event": "hello", "error": f"sandbox namespaces: {init._text(error)}"})
        return 1
    shim = Shim(kernel, order["sandbox"], directory, socket.socket(fileno=listener_fd))
    hello = shim.hello()
    protocol.send(connection, hello, [] if netlink is None else [netlink.fileno()])
    if netlink is not None:
        netlink.close()
    shim.accept(connection)
    shim.run()
    return 0


def _detach_streams(directory: int) -> None:
    """Standard streams of the daemon must not be kept open by something that outlives it."""
    log = os.open("shim.log", os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    for number in (0, 1, 2):
        os.dup2(log, number)
    os.close(log)


def _note(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        # The disk is full. Nothing of the pod may depend on that.
        pass


def _enter_namespaces(kernel: Kernel, order: Message) -> socket.socket | None:
    """Unshare what the pod does not share with the node. Returns a netlink socket inside a new network namespace."""
    flags = {"network": c.CLONE_NEWNET, "ipc": c.CLONE_NEWIPC, "uts": c.CLONE_NEWUTS}
    wanted: list[str] = order["unshare"]
    kernel.unshare(c.CLONE_NEWNS | sum(flags[name] for name in wanted))
    if "ipc" in wanted:
        shm = kernel.new_mount(
            "tmpfs",
            [("mode", "1777"), ("size", str(order["shmBytes"]))],
            c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC,
        )
        kernel.move_mount(shm, c.AT_FDCWD, "/shm")
        os.close(shm)
    if "network" not in wanted:
        return None
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


class Shim:
    def __init__(self, kernel: Kernel, sandbox: str, directory: int, listener: socket.socket) -> None:
        self.loop = Loop()
        self.shared = Shared(kernel, self.loop, directory, self._announce)
        self._sandbox = sandbox
        self._listener = listener
        self._connections: list[Connection] = []
        self._containers: dict[str, Container] = {}
        self._executions: dict[str, Execution] = {}
        self._spares: dict[str, Starter] = {}
        self._pod_init = 0
        self._operations: dict[str, Callable[[Connection, Message, list[int]], None]] = {
            "status": self._status,
            "configure": self._configure,
            "prepare": self._prepare,
            "drop-spares": self._drop_all_spares,
            "create": self._create,
            "start": self._start,
            "exec": self._exec,
            "signal": self._signal,
            "remove": self._remove,
            "reopen-log": self._reopen_log,
            "attach": self._attach,
            "close-stdin": self._close_stdin,
            "shutdown": self._shutdown,
        }

    def hello(self) -> Message:
        return {
            "event": "hello",
            "version": protocol.VERSION,
            "pid": os.getpid(),
            "sandbox": self._sandbox,
            "error": None,
        }

    def run(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.loop.watch(reader, lambda: self._reap(reader))
        self._listener.setblocking(False)
        self.loop.watch(self._listener.fileno(), self._accept_next)
        self.loop.on_idle = self._drop_spares
        self.loop.run()

    def accept(self, sock: socket.socket) -> None:
        self._connections.append(Connection(self.loop, sock, self._receive, self._connections.remove))

    def _accept_next(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self.accept(sock)
        self._connections[-1].send(self.hello())

    def _announce(self, message: Message) -> None:
        for connection in list(self._connections):
            connection.send(message)

    def _receive(self, connection: Connection, message: Message, fds: list[int]) -> None:
        operation = self._operations.get(message["op"])
        try:
            if operation is None:
                raise KeyError(f"unknown operation {message['op']!r}")
            operation(connection, message, fds)
        except Exception as error:
            _note(f"{message['op']}: {type(error).__name__}: {error}")
            connection.send({"id": message["id"], "error": init._text(error)})
        finally:
            for fd in fds:
                os.close(fd)
            fds.clear()

    # Operations. Descriptors that an operation keeps are taken out of `fds`; the rest is closed after it.

    def _status(self, connection: Connection, message: Message, fds: list[int]) -> None:
        states = {identifier: container.state for identifier, container in self._containers.items()}
        connection.send({"id": message["id"], "containers": states})

    def _configure(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Make the namespaces those of a certain pod."""
        if message["hostname"]:
            socket.sethostname(message["hostname"])
        for name, value in message["sysctls"].items():
            try:
                fd = os.open("/proc/sys/" + name.replace(".", "/"), os.O_WRONLY | os.O_NOFOLLOW)
                os.write(fd, value.encode())
                os.close(fd)
            except OSError as error:
                raise OSError(error.errno, f"sysctl {name}={value}: {os.strerror(error.errno or 0)}") from None
        if self._spares:
            self.loop.idle_seconds = SPARE_IDLE_SECONDS
        connection.send({"id": message["id"]})

    def _prepare(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Fork a spare that joins the cgroups behind `fds` (v1), so that a later create finds it there."""
        self._spares[message["slot"]] = Starter(self.shared, fds)
        self.loop.idle_seconds = -1.0 if message["keep"] else SPARE_IDLE_SECONDS
        connection.send({"id": message["id"]})

    def _drop_all_spares(self, connection: Connection, message: Message, fds: list[int]) -> None:
        self._drop_spares()
        connection.send({"id": message["id"]})

    def _drop_spares(self) -> None:
        for spare in self._spares.values():
            spare.drop()
        self._spares.clear()
        self.loop.idle_seconds = -1.0

    def _create(self, connection: Connection, message: Message, fds: list[int]) -> None:
        identifier = message["container"]
        spare = self._spares.pop(message.get("slot", ""), None)
        target = -1
        if message["spec"]["pid"] == "pod":
            target = self.shared.kernel.pidfd_open(self._shared_init())
        elif message["spec"]["pid"] == "target":
            if message["target"] not in self._containers:
                raise ValueError(f"no container {message['target']!r} in this pod whose processes could be shared")
            target = self.shared.kernel.pidfd_open(self._containers[message["target"]].pid)
        container = Container(self.shared, identifier, lambda answer: connection.send({"id": message["id"], **answer}))
        self._containers[identifier] = container
        container.create(message, fds, spare, target)

    def _start(self, connection: Connection, message: Message, fds: list[int]) -> None:
        container = self._containers[message["container"]]
        container.start(lambda answer: connection.send({"id": message["id"], **answer}))

    def _exec(self, connection: Connection, message: Message, fds: list[int]) -> None:
        container = self._containers[message["container"]]
        if container.state["state"] != "running":
            raise ValueError(f"container {container.identifier} is not running")
        execution = Execution(self.shared, message["exec"], connection, message["id"])
        self._executions[message["exec"]] = execution
        execution.create(message, fds, self.shared.kernel.pidfd_open(container.pid))

    def _signal(self, connection: Connection, message: Message, fds: list[int]) -> None:
        if "exec" in message:
            execution = self._executions.get(message["exec"])
            if execution is not None:
                execution.signal(message["signal"])
        else:
            self._containers[message["container"]].signal(message["signal"])
        connection.send({"id": message["id"]})

    def _remove(self, connection: Connection, message: Message, fds: list[int]) -> None:
        container = self._containers.get(message["container"])
        if container is not None:
            if container.state["state"] == "running":
                raise ValueError(f"container {container.identifier} is running")
            container.abandon()
            del self._containers[message["container"]]
        connection.send({"id": message["id"]})

    def _reopen_log(self, connection: Connection, message: Message, fds: list[int]) -> None:
        self._containers[message["container"]].log.reopen(fds.pop())
        connection.send({"id": message["id"]})

    def _attach(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """Copy output to the descriptors given as well; answers with the writing end of stdin if it is wanted."""
        given = self._containers[message["container"]].attach(message["fds"], fds, stdin=message["stdin"])
        fds.clear()
        connection.send({"id": message["id"]}, given)

    def _close_stdin(self, connection: Connection, message: Message, fds: list[int]) -> None:
        self._containers[message["container"]].close_stdin()
        connection.send({"id": message["id"]})

    def _shutdown(self, connection: Connection, message: Message, fds: list[int]) -> None:
        """End at once, and everything that runs here with it."""
        self._drop_spares()
        for container in self._containers.values():
            container.signal(signal.SIGKILL)
            container.abandon()
        for execution in self._executions.values():
            execution.signal(signal.SIGKILL)
        if self._pod_init:
            os.kill(self._pod_init, signal.SIGKILL)
        self._listener.close()
        connection.send({"id": message["id"]})
        self.loop.running = False

    def _shared_init(self) -> int:
        """The first process of the PID namespace that this pod's containers share, started when first needed."""
        if not self._pod_init:
            ours, theirs = socket.socketpair()
            pid = self.shared.kernel.clone(c.CLONE_NEWPID)
            if pid == 0:
                try:
                    init.pod_init(self.shared.kernel, theirs)
                finally:
                    os._exit(1)
            ours.close()
            theirs.close()
            self._pod_init = pid
        return self._pod_init

    def _reap(self, reader: int) -> None:
        try:
            os.read(reader, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._exited(pid, os.waitstatus_to_exitcode(status))

    def _exited(self, pid: int, code: int) -> None:
        code = 128 - code if code < 0 else code
        if pid == self._pod_init:
            self._pod_init = 0
        for container in self._containers.values():
            # Pids are used again, and a container that has ended keeps its old one.
            if container.pid == pid and container.state["state"] != "exited":
                container.exited(code)
                return
        for execution in list(self._executions.values()):
            if execution.pid == pid:
                execution.exited(code)
                del self._executions[execution.identifier]
                return
        self.shared.keep(pid, code)
