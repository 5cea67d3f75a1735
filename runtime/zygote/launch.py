"""The conversation between a shim and one child, from its order to its program and its end.

A `Starter` is a forked child that has joined cgroups. A `Launch` gives it an order; it clones the real process (a child
of the shim) and ends. The clone's pid, its report, the end of its socket and its exit may come in any order; a Launch
passes them on in one order: ready, running (or the error), exit.
"""

from __future__ import annotations

import os
import socket

from runtime.zygote import init
from runtime.zygote.loop import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.linux.interface import Kernel
    from runtime.zygote.loop import Loop
    from runtime.zygote.protocol import Message


class Shared:
    """What all workloads of a shim use together."""

    def __init__(self, kernel: Kernel, loop: Loop, directory: int, announce: Callable[[Message], None]) -> None:
        self.kernel = kernel
        self.loop = loop
        self.directory = directory
        self.announce = announce
        self.launching = 0
        self._unclaimed: dict[int, int] = {}

    def keep(self, pid: int, code: int) -> None:
        """Remember the exit of a process that no launch knows yet; orphans of the pod are forgotten."""
        if self.launching:
            self._unclaimed[pid] = code

    def claim(self, pid: int) -> int | None:
        return self._unclaimed.pop(pid, None)

    def settled(self) -> None:
        self.launching -= 1
        if not self.launching:
            self._unclaimed.clear()


class Starter:
    """A child that joins the cgroups behind `procs` and waits for its one order."""

    def __init__(self, shared: Shared, procs: list[int]) -> None:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            init.starter(shared.kernel, theirs, procs)
        theirs.close()
        self._channel: socket.socket | None = ours

    def take(self) -> socket.socket:
        assert self._channel is not None, "a starter takes one order"
        channel, self._channel = self._channel, None
        return channel

    def drop(self) -> None:
        """The child ends when it sees its socket close."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


class Launch:
    """`on_ready(report, fds)`, then `on_running(error)` with "" for success, then `on_exit(code)`, once each at most.

    A child that fails before it is ready skips `on_ready`; one that fails before it is cloned skips `on_exit`.
    `on_ready` may take descriptors out of the list; the rest is closed.
    """

    def __init__(
        self,
        shared: Shared,
        on_ready: Callable[[Message, list[int]], None],
        on_running: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self._shared = shared
        self._on_ready = on_ready
        self._on_running = on_running
        self._on_exit = on_exit
        self._channel: Connection | None = None
        self._report: tuple[Message, list[int]] | None = None
        self._was_ready = False
        self._error = ""
        self._code: int | None = None
        self.pid = 0

    def start(self, starter: Starter, order: Message, fds: list[int]) -> None:
        """Give the order; takes over `fds`."""
        self._shared.launching += 1
        self._channel = Connection(self._shared.loop, starter.take(), self._told, self._ended)
        self._channel.send(order, fds)

    def go(self) -> None:
        """Open the gate."""
        if self._channel is not None:
            self._channel.send({"go": True})

    def abandon(self) -> None:
        """Close the gate for good: a child that waits there ends."""
        if self._channel is not None:
            self._channel.close()

    def exited(self, code: int) -> None:
        self._code = code
        self._settle()

    def _told(self, channel: Connection, message: Message, fds: list[int]) -> None:
        if "pid" in message:
            self.pid = message["pid"]
            self._code = self._shared.claim(self.pid)
        if "created" in message:
            self._report = (message["created"], list(fds))
            fds.clear()
        if "error" in message:
            self._error = message["error"]
        for fd in fds:
            os.close(fd)
        if self.pid and self._report is not None:
            report, kept = self._report
            self._report = None
            self._was_ready = True
            self._on_ready(report, kept)
            for fd in kept:
                os.close(fd)

    def _ended(self, channel: Connection) -> None:
        self._channel = None
        self._shared.settled()
        error = self._error
        if not error and not self._was_ready:
            error = "the child ended before it was ready"
        self._on_running(error)
        self._settle()

    def _settle(self) -> None:
        if self._channel is None and self._code is not None:
            code, self._code = self._code, None
            self._on_exit(code)
