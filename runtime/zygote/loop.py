"""A small event loop on epoll, and connections that never block it. For the shim, which has one thread and few imports.

A connection whose peer does not read is dropped once MAX_BACKLOG bytes wait for it: a stuck daemon must not stop the
logs of a pod.
"""

from __future__ import annotations

import os
import select
import socket

from runtime.zygote import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.zygote.protocol import Message

MAX_BACKLOG = 4 * 1024 * 1024


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self.running = True
        self.idle_seconds = -1.0
        self.on_idle: Callable[[], None] = lambda: None

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def want_write(self, fd: int, callback: Callable[[], None] | None) -> None:
        """Also (or no longer) call back when `fd`, which is watched, can be written."""
        if callback is None:
            self._writers.pop(fd, None)
            self._epoll.modify(fd, select.EPOLLIN)
        else:
            self._writers[fd] = callback
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def unwatch(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._writers.pop(fd, None)
            self._epoll.unregister(fd)

    def run(self) -> None:
        while self.running:
            events = self._epoll.poll(self.idle_seconds)
            if not events:
                self.on_idle()
            for fd, mask in events:
                writer = self._writers.get(fd)
                if writer is not None and mask & select.EPOLLOUT:
                    writer()
                reader = self._callbacks.get(fd)
                if reader is not None and mask & ~select.EPOLLOUT:
                    reader()


class Connection:
    """One framed peer of the shim: a daemon, or a child that is being set up. Owns its socket."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_message: Callable[[Connection, Message, list[int]], None],
        on_end: Callable[[Connection], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self.sock = sock
        self._frames = protocol.Frames()
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: list[tuple[bytes, list[int]]] = []
        self._waiting_bytes = 0
        self.open = True
        loop.watch(sock.fileno(), self._readable)

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Queue one message; takes over its descriptors and closes them once they are sent."""
        fds = fds or []
        if not self.open:
            _close_all(fds)
            return
        data = protocol.encode(message, len(fds))
        self._waiting.append((data, fds))
        self._waiting_bytes += len(data)
        self._writable()
        if self._waiting_bytes > MAX_BACKLOG:
            self.close()

    def _writable(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            try:
                sent = self.sock.sendmsg([data], protocol.rights(fds))
            except BlockingIOError:
                self._loop.want_write(self.sock.fileno(), self._writable)
                return
            except OSError:
                self.close()
                return
            _close_all(fds)
            self._waiting_bytes -= sent
            if sent < len(data):
                self._waiting[0] = (data[sent:], [])
            else:
                self._waiting.pop(0)
        self._loop.want_write(self.sock.fileno(), None)

    def _readable(self) -> None:
        try:
            data, fds = protocol.receive(self.sock)
            messages = self._frames.feed(data, fds) if data else []
        except BlockingIOError:
            return
        except (OSError, protocol.ProtocolError, ValueError):
            data, messages = b"", []
        for message, message_fds in messages:
            self._on_message(self, message, message_fds)
        if not data:
            self.close()

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._loop.unwatch(self.sock.fileno())
        self.sock.close()
        for _, fds in self._waiting:
            _close_all(fds)
        self._waiting.clear()
        _close_all(self._frames.abandoned())
        self._on_end(self)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()
