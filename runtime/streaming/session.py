"""One remotecommand session: channels of a WebSocket on one side, the descriptors of a process on the other.

After the process has ended its output is sent to the end, then the Status on the error channel, then the connection is
closed. A client that goes away ends an exec'ed process, never an attached container.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import struct
import termios
from collections.abc import Awaitable, Callable

from componentbase import websocket
from componentbase.websocket import WebSocket
from runtime.streaming.pipes import FdReader, FdWriter

_DRAIN_SECONDS = 1.0
# Two pipes of the largest usual size, and what is on its way from each.
_DRAIN_BYTES = 2 * (65536 + 32768)


def status(code: int) -> bytes:
    """The v4 Status of an exit code."""
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    return json.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "message": "command terminated with non-zero exit code",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    ).encode()


def failure(message: str) -> bytes:
    """The Status of something that could not be started."""
    document = {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500}
    return json.dumps(document).encode()


class Session:
    """`outputs` by channel; `stdin` for channel 0; `terminal` a descriptor to resize, -1 for none."""

    def __init__(
        self, socket: WebSocket, outputs: dict[int, FdReader], stdin: FdWriter | None, terminal: int = -1
    ) -> None:
        self._socket = socket
        self._outputs = outputs
        self._stdin = stdin
        self._terminal = terminal
        self._sending = asyncio.Lock()
        self._carried = 0

    async def run(self, ended: Awaitable[int], on_client_gone: Callable[[], Awaitable[None]]) -> None:
        """Carry bytes until the process has ended or the client is gone."""
        carrying = [asyncio.ensure_future(self._carry(channel, reader)) for channel, reader in self._outputs.items()]
        listening = asyncio.ensure_future(self._listen())
        ending = asyncio.ensure_future(ended)
        try:
            await asyncio.wait({ending, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                return
            await self._drain(carrying, listening)
            with contextlib.suppress(ConnectionError):
                code = 137 if ending.cancelled() else ending.result()
                await self._send(websocket.ERROR, status(code))
                await self._socket.close()
        finally:
            # Also when the server cancels us because the connection broke.
            if not ending.done():
                await on_client_gone()
            for task in (*carrying, listening, ending):
                task.cancel()
            await asyncio.gather(*carrying, listening, ending, return_exceptions=True)
            for end in (*self._outputs.values(), self._stdin):
                if end is not None:
                    end.close()

    async def _drain(self, carrying: list[asyncio.Task[None]], listening: asyncio.Task[None]) -> None:
        """Send what the process has left in its pipes, however slowly the client reads. Other processes may hold the
        streams open for ever: they are waited for no longer than they write nothing, and for no more than pipes hold.
        """
        end = self._carried + _DRAIN_BYTES
        while (pending := [task for task in carrying if not task.done()]) and self._carried < end:
            before = self._carried
            await asyncio.wait({*pending, listening}, timeout=_DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            silent = self._carried == before and not self._sending.locked() and not any(t.done() for t in pending)
            if silent or listening.done():
                return

    async def _send(self, channel: int, data: bytes) -> None:
        async with self._sending:
            await self._socket.send(bytes((channel,)) + data)

    async def _carry(self, channel: int, reader: FdReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read():
                await self._send(channel, data)
                self._carried += len(data)
                # Neither end need ever wait: a loud process must not keep the daemon from everybody else.
                await asyncio.sleep(0)

    async def _listen(self) -> None:
        """Until the client is gone."""
        with contextlib.suppress(ConnectionError):
            while (message := await self._socket.receive()) is not None:
                if message:
                    await self._received(message[0], message[1:])

    async def _received(self, channel: int, data: bytes) -> None:
        if channel == websocket.STDIN and self._stdin is not None and data:
            try:
                await self._stdin.write(data)
            except OSError:
                # The process reads no more; what it writes is still wanted.
                self._close_stdin()
        elif channel == websocket.CLOSE and data[:1] == bytes((websocket.STDIN,)):
            self._close_stdin()
        elif channel == websocket.RESIZE and self._terminal >= 0:
            with contextlib.suppress(ValueError, OSError):
                size = json.loads(data)
                cells = struct.pack("HHHH", size["Height"], size["Width"], 0, 0)
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, cells)

    def _close_stdin(self) -> None:
        """Half-close; a terminal has no half to close, its other end is the output."""
        if self._stdin is not None and self._terminal < 0:
            self._stdin.close()
            self._stdin = None
