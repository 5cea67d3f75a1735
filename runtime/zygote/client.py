"""The daemon's side: starting a zygote, having it fork shims, talking to shims. asyncio; never imported by a child.

`start` may be called before gRPC is imported and from a process that has threads: it executes a new interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.zygote import protocol

if TYPE_CHECKING:
    from runtime.zygote.protocol import Message

# Generous: a shim answers within milliseconds, on an emulated machine within seconds.
REQUEST_SECONDS = 60.0

_ENTRY = Path(__file__).with_name("__main__.py")


class PeerError(Exception):
    """The zygote or a shim answered with an error, in its words."""

    def __init__(self, message: str, answer: Message) -> None:
        super().__init__(message)
        self.answer = answer


class PeerLost(Exception):
    """The zygote or shim is gone, or never was."""


def start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Execute a zygote. It ends when the socket closes."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_ENTRY), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            cwd="/",
        )
    return process, ours


class Peer:
    """Requests and answers over one framed socket, many at a time.

    `on_event(message)` gets what comes unasked; `on_lost()` the end. Descriptors of an answer belong to the caller.
    """

    def __init__(self, sock: socket.socket, on_event: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._frames = protocol.Frames()
        self._on_event = on_event
        self._on_lost = on_lost
        self._pending: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._next_id = 0
        self._unsent: list[tuple[bytes, list[int]]] = []
        self._hello: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self.alive = True
        self._loop.add_reader(sock.fileno(), self._readable)

    async def hello(self, timeout: float = 10.0) -> tuple[Message, list[int]]:
        """The peer's first message; raises PeerError if it failed to set itself up."""
        message, fds = await asyncio.wait_for(asyncio.shield(self._hello), timeout)
        if message.get("error"):
            raise PeerError(message["error"], message)
        if message["version"] != protocol.VERSION:
            raise PeerError(f"protocol version {message['version']} is not {protocol.VERSION}", message)
        return message, fds

    async def request(self, op: str, passed: Sequence[int] = (), **fields: Any) -> Message:
        """One request; descriptors that the answer carries are closed."""
        answer, received = await self.request_fds(op, passed, **fields)
        for fd in received:
            os.close(fd)
        return answer

    async def request_fds(self, op: str, passed: Sequence[int] = (), **fields: Any) -> tuple[Message, list[int]]:
        """One request. `passed` stay the caller's and may be closed when this returns.

        Raises PeerError, also without an answer within REQUEST_SECONDS: a peer that hangs holds up nobody for ever.
        """
        if not self.alive:
            raise PeerLost(f"{op}: the other side is gone")
        self._next_id += 1
        number = self._next_id
        answered: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._pending[number] = answered
        data = protocol.encode({"id": number, "op": op, **fields}, len(passed))
        self._unsent.append((data, [os.dup(fd) for fd in passed]))
        if len(self._unsent) == 1:
            self._writable()
        try:
            answer, received = await asyncio.wait_for(answered, REQUEST_SECONDS)
        except TimeoutError:
            raise PeerError(f"{op}: no answer within {REQUEST_SECONDS:.0f} s", {}) from None
        finally:
            self._pending.pop(number, None)
        if answer.get("error"):
            for fd in received:
                os.close(fd)
            raise PeerError(answer["error"], answer)
        return answer, received

    def _writable(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            try:
                sent = self._sock.sendmsg([data], protocol.rights(fds))
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self.close()
                return
            for fd in fds:
                os.close(fd)
            if sent < len(data):
                self._unsent[0] = (data[sent:], [])
            else:
                self._unsent.pop(0)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, fds = protocol.receive(self._sock)
            messages = self._frames.feed(data, fds) if data else []
        except BlockingIOError:
            return
        except (OSError, ValueError, protocol.ProtocolError):
            data, messages = b"", []
        for message, received in messages:
            self._dispatch(message, received)
        if not data:
            self.close()

    def _dispatch(self, message: Message, fds: list[int]) -> None:
        if message.get("event") == "hello":
            if not self._hello.done():
                self._hello.set_result((message, fds))
            return
        if "event" in message:
            self._on_event(message)
        else:
            waiting = self._pending.get(message["id"])
            if waiting is not None and not waiting.done():
                waiting.set_result((message, fds))
                return
        for fd in fds:
            os.close(fd)

    def close(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._unsent:
            for fd in fds:
                os.close(fd)
        self._unsent.clear()
        for fd in self._frames.abandoned():
            os.close(fd)
        lost = PeerLost("the other side is gone")
        for waiting in [self._hello, *self._pending.values()]:
            if not waiting.done():
                waiting.set_exception(lost)
                waiting.exception()
        self._on_lost()


def listen(directory_fd: int) -> socket.socket:
    """A listening shim socket in a sandbox's directory; the path of the directory may be of any length."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("shim.sock", dir_fd=directory_fd)
    listener.bind(f"/proc/self/fd/{directory_fd}/shim.sock")
    os.chmod(f"/proc/self/fd/{directory_fd}/shim.sock", 0o600)
    listener.listen(16)
    return listener


def connect(directory: Path) -> socket.socket:
    """Connect to the shim of a sandbox; PeerLost if nobody listens."""
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory_fd}/shim.sock")
    except OSError as error:
        sock.close()
        raise PeerLost(f"{directory}/shim.sock: {error.strerror}") from None
    finally:
        os.close(directory_fd)
    return sock


def kill_shim(pid: int, directory: Path) -> None:
    """Kill the shim of a sandbox if `pid` still is it, which its log file tells; pids are used again."""
    if pid <= 0:
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if os.readlink(f"/proc/{pid}/fd/2") == f"{os.path.realpath(directory)}/shim.log":
            signal.pidfd_send_signal(process, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        pass
    finally:
        os.close(process)


class Zygote:
    """The running fork server. It is started again when it has died; the shims do not notice."""

    def __init__(self, started: tuple[subprocess.Popen[bytes], socket.socket]) -> None:
        self._process, sock = started
        self._peer = Peer(sock, lambda _: None, lambda: None)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def spawn(self, directory: Path, order: Message) -> tuple[int, socket.socket]:
        """Fork a shim with its home in `directory`; returns its pid and the first connection to it."""
        try:
            return await self._spawn(directory, order)
        except PeerLost:
            self._peer.close()
            self._process.wait()
            self._process, sock = start()
            self._peer = Peer(sock, lambda _: None, lambda: None)
            return await self._spawn(directory, order)

    async def _spawn(self, directory: Path, order: Message) -> tuple[int, socket.socket]:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        ours, theirs = socket.socketpair()
        try:
            with listen(directory_fd) as listener, theirs:
                fds = [directory_fd, listener.fileno(), theirs.fileno()]
                answer = await self._peer.request("spawn", fds, **order)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(directory_fd)
        return answer["pid"], ours

    def close(self) -> None:
        self._peer.close()
        self._process.wait()
