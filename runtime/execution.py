"""One exec in a running container, seen from the daemon: its streams are our descriptors, its end a future."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from runtime.cgroups.interface import Entry
from runtime.errors import Failed, FailedPrecondition
from runtime.zygote.client import Peer, PeerError, PeerLost


class Execution:
    """`ended` is the exit code to come. `start` returns the terminal's descriptor, or None without a terminal."""

    def __init__(
        self, peer: Peer, container: str, identifier: str, order: dict[str, Any], entry: Callable[[], Entry]
    ) -> None:
        self.id = identifier
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._peer = peer
        self._container = container
        self._order = order
        self._entry = entry

    async def start(self, streams: dict[str, int]) -> int | None:
        """Run it with `streams` (stdin, stdout, stderr: descriptors, which stay the caller's)."""
        entry = self._entry()
        names = [*streams, *["procs"] * len(entry.procs)]
        fds = [*streams.values(), *entry.procs]
        if entry.clone >= 0:
            names.append("cgroup2")
            fds.append(entry.clone)
        try:
            _, received = await self._peer.request_fds(
                "exec", fds, container=self._container, exec=self.id, spec=self._order, fds=names
            )
        except PeerError as error:
            self.ended.cancel()
            raise Failed(str(error)) from None
        except PeerLost:
            self.ended.cancel()
            raise FailedPrecondition(f"container {self._container} is not running") from None
        finally:
            for fd in (*entry.procs, entry.clone, entry.oom, entry.kill):
                if fd >= 0:
                    os.close(fd)
        return received[0] if received else None

    async def kill(self) -> None:
        """End its whole process group."""
        with contextlib.suppress(PeerError, PeerLost):
            await self._peer.request("signal", exec=self.id, signal=int(signal.SIGKILL))

    def finish(self, code: int) -> None:
        if not self.ended.done():
            self.ended.set_result(code)


async def run_to_end(
    execution: Execution, timeout_seconds: float | None, limit_bytes: int
) -> tuple[int, bytes, bytes] | None:
    """Exit code, stdout, stderr (each cut off at the limit); None when it was killed because the time was over."""
    loop = asyncio.get_running_loop()
    outputs = (bytearray(), bytearray())
    closed = [loop.create_future(), loop.create_future()]
    readers = []
    writers = {}
    for number, name in enumerate(("stdout", "stderr")):
        reader, writers[name] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writers[name], True)
        readers.append(reader)
        _collect(loop, reader, outputs[number], closed[number], limit_bytes)
    try:
        try:
            await execution.start(writers)
        finally:
            for fd in writers.values():
                os.close(fd)
        try:
            code = await asyncio.wait_for(asyncio.shield(execution.ended), timeout_seconds)
        except TimeoutError:
            await execution.kill()
            return None
        # A grandchild may keep the pipes open; what the command itself wrote is in them already.
        await asyncio.wait(closed, timeout=0.2)
        return code, bytes(outputs[0]), bytes(outputs[1])
    finally:
        for reader in readers:
            loop.remove_reader(reader)
            os.close(reader)


def _collect(
    loop: asyncio.AbstractEventLoop, fd: int, into: bytearray, closed: asyncio.Future[None], limit_bytes: int
) -> None:
    def readable() -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        into.extend(data[: max(limit_bytes - len(into), 0)])
        if not data:
            loop.remove_reader(fd)
            if not closed.done():
                closed.set_result(None)

    loop.add_reader(fd, readable)
