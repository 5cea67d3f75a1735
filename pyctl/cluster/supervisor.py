"""The parent of all components: forks them from one process that has imported everything once, and restarts what dies.

It owns the children and `supervisor.json`, where each start and end is written at once. It has one thread, no event
loop and no TLS context, so that a fork is always safe; it sleeps until a child ends (pidfd), a signal arrives or
somebody asks it to stop components (a line of JSON on `supervisor.sock`). If it is killed, the components go on
serving, and the next supervisor adopts those whose configuration is still right and replaces the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pyctl.cluster.layout import write_file
from pyctl.cluster.processes import Identity, end
from pyctl.cluster.state import SOCKET_NAME, STATE_NAME, read_state

BACKOFF_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
# One who ran this long starts again with a clean slate.
STEADY_SECONDS = 20.0
STOP_SECONDS = 8.0
LOG_LIMIT_BYTES = 10 << 20

Main = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the cluster. `prepare` runs in the parent, once, and imports what the part needs; what it returns is
    the part's `main`, which runs in the child. Two supervisors agree on a running part if its fingerprints agree."""

    name: str
    prepare: Callable[[], Main]
    fingerprint: str = ""
    # Lowered where the host allows it; never for one whose children are other people's programs.
    oom_score: int = 0


@dataclass(slots=True)
class Child:
    """What the supervisor knows of a component now."""

    component: Component
    main: Main | None = None
    identity: Identity | None = None
    descriptor: int = -1
    ours: bool = True
    wanted: bool = True
    started_at: float = 0.0  # unix seconds
    steady_at: float = 0.0  # monotonic seconds
    due: float | None = None  # monotonic seconds
    failures: int = 0
    restarts: int = 0
    last_exit: str = ""
    kill_at: float | None = None  # monotonic seconds

    @property
    def state(self) -> str:
        if self.identity is not None:
            return "running" if self.wanted else "stopping"
        if not self.wanted:
            return "stopped"
        return "starting" if self.due is None else "waiting to restart"


@dataclass(slots=True)
class Supervisor:
    """Runs until SIGTERM or SIGINT; then stops all components and returns 0."""

    components: list[Component]
    run_directory: Path
    log_directory: Path
    version: str = ""
    children: dict[str, Child] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _waiting: list[tuple[socket.socket, list[str]]] = field(default_factory=list)
    _stopping: bool = False
    _listener: socket.socket | None = None
    _signals: tuple[socket.socket, socket.socket] | None = None

    def run(self) -> int:
        with self._doors():
            self.children = {each.name: Child(each) for each in self.components}
            self._adopt()
            # Import one, fork it, import the next: a part is already starting while the parent loads the one behind it.
            for child in self.children.values():
                self._prepare(child)
                if child.identity is None and not self._stopping:
                    self._fork(child)
                self._turn(0.0)
            while not (self._stopping and all(each.identity is None for each in self.children.values())):
                self._turn(self._patience())
        return 0

    # -- doors ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _doors(self) -> Iterator[None]:
        """The control socket, the signals, and the state file, for as long as we run."""
        path = self.run_directory / SOCKET_NAME
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(8)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._signals = socket.socketpair()
        for end_of_pair in self._signals:
            end_of_pair.setblocking(False)
        self._selector.register(self._signals[0], selectors.EVENT_READ, self._signalled)
        old_wakeup = signal.set_wakeup_fd(self._signals[1].fileno(), warn_on_full_buffer=False)
        old = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        gc.disable()  # until the fork: what the parent imports is frozen there, and nothing is garbage
        try:
            yield
        finally:
            gc.enable()
            signal.set_wakeup_fd(old_wakeup)
            for number, handler in old.items():
                signal.signal(number, handler)
            self._selector.close()
            for each in (self._listener, *self._signals):
                each.close()
            path.unlink(missing_ok=True)
            (self.run_directory / STATE_NAME).unlink(missing_ok=True)
            for connection, _ in self._waiting:
                with contextlib.suppress(OSError):
                    connection.sendall(b"{}\n")
                connection.close()

    def _signalled(self, _: int) -> None:
        assert self._signals is not None
        numbers = self._signals[0].recv(64)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._log("asked to stop")
            self._stopping = True
            self._stop(list(self.children))

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        connection, _address = self._listener.accept()
        connection.settimeout(1.0)
        try:
            names = [name for name in json.loads(connection.recv(4096))["stop"] if name in self.children]
        except (OSError, ValueError, KeyError, TypeError):
            connection.close()
            return
        self._log(f"asked to stop {', '.join(names) or 'nothing'}")
        self._stop(names)
        self._waiting.append((connection, names))
        self._answer()

    def _answer(self) -> None:
        """Tell those who wait that what they wanted stopped has stopped."""
        for entry in list(self._waiting):
            connection, names = entry
            if all(self.children[name].identity is None for name in names):
                with contextlib.suppress(OSError):
                    connection.sendall(b"{}\n")
                connection.close()
                self._waiting.remove(entry)

    # -- the life of a child -------------------------------------------------------------------------------------------

    def _prepare(self, child: Child) -> None:
        try:
            child.main = child.component.prepare()
        except Exception:
            # A part that cannot even be imported must not take the others along.
            self._log(f"{child.component.name} cannot be loaded:\n{traceback.format_exc()}")
            child.wanted = child.identity is not None
            child.last_exit = f"cannot be loaded: {sys.exc_info()[1]}"
            self._save()

    def _fork(self, child: Child) -> None:
        if child.main is None:
            child.due, child.wanted = None, False
            return
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            self._log(
                f"forking with {threads} threads: some import started one, and what it holds is lost in the child"
            )
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(child)
        child.identity = Identity.of(pid)
        child.descriptor = os.pidfd_open(pid)
        child.ours, child.due, child.kill_at = True, None, None
        child.started_at, child.steady_at = time.time(), time.monotonic() + STEADY_SECONDS
        if child.identity is None:  # ended before we could look: the pidfd tells
            child.identity = Identity(pid, -1, "")
        self._selector.register(child.descriptor, selectors.EVENT_READ, self._ended)
        self._log(f"{child.component.name} started (pid {pid})")
        self._save()

    def _become(self, child: Child) -> None:
        """In the child, and never back: a clean process of its own session whose output is the component's log."""
        code = 70
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            self._close_doors()
            name = child.component.name
            _redirect(self.log_directory / f"{name}.log")
            introduce(name, child.component.oom_score)
            gc.enable()
            assert child.main is not None
            code = child.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _close_doors(self) -> None:
        self._selector.close()
        assert self._listener is not None and self._signals is not None
        for each in (self._listener, *self._signals, *(connection for connection, _ in self._waiting)):
            each.close()
        for other in self.children.values():
            if other.descriptor >= 0:
                os.close(other.descriptor)

    def _ended(self, descriptor: int) -> None:
        child = next(each for each in self.children.values() if each.descriptor == descriptor)
        assert child.identity is not None
        self._selector.unregister(descriptor)
        os.close(descriptor)
        child.last_exit = (
            _exit_text(child.identity.pid) if child.ours else "ended (an earlier supervisor had started it)"
        )
        self._log(f"{child.component.name} (pid {child.identity.pid}) {child.last_exit}")
        child.identity, child.descriptor, child.kill_at = None, -1, None
        now = time.monotonic()
        if now >= child.steady_at:
            child.failures = 0
        if child.wanted:
            child.due = now + BACKOFF_SECONDS[min(child.failures, len(BACKOFF_SECONDS) - 1)]
            child.failures += 1
            child.restarts += 1
        self._save()
        self._answer()

    def _stop(self, names: list[str]) -> None:
        for name in names:
            child = self.children[name]
            child.wanted, child.due = False, None
            if child.identity is not None and child.kill_at is None:
                child.identity.send(signal.SIGTERM)
                child.kill_at = time.monotonic() + STOP_SECONDS
        self._save()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Seconds until something is due; None: nothing is."""
        times = [at for each in self.children.values() for at in (each.due, each.kill_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data(key.fd)
        now = time.monotonic()
        for child in self.children.values():
            if child.due is not None and child.due <= now and child.identity is None:
                self._fork(child)
            if child.kill_at is not None and child.kill_at <= now and child.identity is not None:
                self._log(f"{child.component.name} did not stop in {STOP_SECONDS:.0f} s: killed")
                child.identity.send(signal.SIGKILL)
                child.kill_at = None

    # -- what is known of it -------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take over what an earlier supervisor left running; replace what has another configuration."""
        foreign = []
        for name, record in read_state(self.run_directory).components.items():
            identity = record.process
            if identity is None or not identity.alive:
                continue
            child = self.children.get(name)
            if child is None or child.component.fingerprint != record.fingerprint:
                foreign.append(identity)
                continue
            descriptor = identity.open()
            if descriptor is None:
                continue
            child.identity, child.descriptor, child.ours = identity, descriptor, False
            child.started_at, child.restarts = record.started_at, record.restarts
            self._selector.register(descriptor, selectors.EVENT_READ, self._ended)
            self._log(f"{name} (pid {identity.pid}) adopted")
        if foreign:
            self._log(f"replacing {len(foreign)} running components of another configuration")
            end(foreign, grace_seconds=STOP_SECONDS)
        self._save()

    def _save(self) -> None:
        records = {
            name: {
                "process": dataclasses.asdict(child.identity) if child.identity else None,
                "state": child.state,
                "started_at": child.started_at,
                "restarts": child.restarts,
                "last_exit": child.last_exit,
                "fingerprint": child.component.fingerprint,
                "failures": child.failures,
            }
            for name, child in self.children.items()
        }
        me = Identity.of(os.getpid())
        document = {
            "version": self.version,
            "supervisor": dataclasses.asdict(me) if me else None,
            "components": records,
        }
        write_file(self.run_directory / STATE_NAME, json.dumps(document), mode=0o644)

    def _log(self, text: str) -> None:
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} supervisor: {text}", file=sys.stderr, flush=True)


def introduce(name: str, oom_score: int) -> None:
    """Say in the process table who this is, and how dear; a host that does not allow the latter is left alone."""
    for file, text in (("comm", f"pyctl-{name}"[:15]), ("oom_score_adj", str(oom_score))):
        with contextlib.suppress(OSError):
            Path("/proc/self", file).write_text(text)


def open_log(log: Path) -> int:
    """A descriptor that appends to a log, which is set aside first if it has grown too long."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_name(log.name + ".1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _redirect(log: Path) -> None:
    """Output to the log; no input."""
    descriptor = open_log(log)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (descriptor, 1), (descriptor, 2)):
        os.dup2(source, target)
    os.close(descriptor)
    os.close(nothing)


def _exit_text(pid: int) -> str:
    """How our child ended, in words; reaps it."""
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return "ended"
    if status >= 0:
        return f"exited with {status}"
    name = signal.Signals(-status).name
    return f"was killed by {name}" + (" (out of memory, if nobody sent it)" if name == "SIGKILL" else "")
