"""This terminal's end of `exec`: standard streams, window size and exit code over one WebSocket.

The terminal is put into raw mode for as long as the command runs, and back again however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from componentbase import websocket
from componentbase.http import Headers, Query, Request
from componentbase.websocket import WebSocket
from kubeclient.config import ClusterAccess
from kubeclient.transport import TransportError
from kubeclient.upgrade import UpgradeTransport
from pyctl.api import ApiError, unreachable
from pyctl.failure import Failure

PROTOCOLS = (websocket.REMOTECOMMAND_V5, websocket.REMOTECOMMAND_V4)
READ_BYTES = 1 << 15


@dataclass(frozen=True, slots=True)
class Session:
    """One command to run: the path and query of its `exec`, and which ends of this terminal it gets."""

    path: str
    query: dict[str, str | list[str]]
    stdin: bool
    tty: bool


async def run(access: ClusterAccess, session: Session) -> int:
    """Run the command; its exit code. Raises ApiError when refused, Failure when it could not be run or was cut off."""
    transport = UpgradeTransport(access)
    try:
        headers = websocket.request_headers(PROTOCOLS)
        request = Request("GET", session.path, Query.of(session.query), Headers(headers))
        try:
            answer = await transport.request(request)
        except TransportError as error:
            raise unreachable(access.server, error) from error
        if answer.connection is None:
            raise ApiError(refusal(answer.status, await answer.read()))
        socket = WebSocket(answer.connection, client=True)
        half_close = answer.headers.get("sec-websocket-protocol", "") == websocket.REMOTECOMMAND_V5
        try:
            with _raw_terminal() if session.tty else contextlib.nullcontext():
                return await _converse(socket, session, half_close)
        finally:
            await socket.close()
            socket.abort()
    finally:
        await transport.close()


async def _converse(socket: WebSocket, session: Session, half_close: bool) -> int:
    feeders = []
    if session.stdin:
        feeders.append(asyncio.create_task(_feed(socket, half_close), name="standard input"))
    if session.tty:
        feeders.append(asyncio.create_task(_resize(socket), name="window size"))
    try:
        while (message := await socket.receive()) is not None:
            channel, data = message[0] if message else -1, message[1:]
            if channel == websocket.STDOUT:
                _put(sys.stdout.buffer.fileno(), data)
            elif channel == websocket.STDERR:
                _put(sys.stderr.buffer.fileno(), data)
            elif channel == websocket.ERROR:
                return exit_code(data)
    finally:
        for feeder in feeders:
            feeder.cancel()
        await asyncio.gather(*feeders, return_exceptions=True)
    raise Failure("the connection ended before the command did", hint="`pyctl get pods` tells how the pod is")


async def _feed(socket: WebSocket, half_close: bool) -> None:
    async for data in _standard_input():
        await socket.send(bytes([websocket.STDIN]) + data)
    if half_close:
        await socket.send(bytes([websocket.CLOSE, websocket.STDIN]))


async def _standard_input() -> AsyncIterator[bytes]:
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # a regular file: never makes anyone wait, and cannot be polled
        while data := os.read(descriptor, READ_BYTES):
            yield data
        return
    try:
        while True:
            await readable.wait()
            data = os.read(descriptor, READ_BYTES)
            readable.clear()
            if not data:
                return
            yield data
    finally:
        loop.remove_reader(descriptor)


async def _resize(socket: WebSocket) -> None:
    changed = asyncio.Event()
    changed.set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while True:
            await changed.wait()
            changed.clear()
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(sys.stdin.fileno())
                document = json.dumps({"Width": size.columns, "Height": size.lines}).encode()
                await socket.send(bytes([websocket.RESIZE]) + document)
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


def exit_code(data: bytes) -> int:
    """The code in the `Status` of the error channel. Raises Failure when the command could not be run at all."""
    try:
        status = json.loads(data)
    except ValueError as error:
        raise Failure(data.decode("utf-8", "replace").strip()) from error
    if status.get("status") == "Success":
        return 0
    if status.get("reason") == "NonZeroExitCode":
        for cause in (status.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
    raise Failure(str(status.get("message") or status.get("reason") or "the command could not be run"))


def _put(descriptor: int, data: bytes) -> None:
    # Blocking on purpose: who reads slowly slows the command down, and not our memory.
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            import select

            select.select([], [descriptor], [])


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def refusal(code: int, body: bytes) -> dict[str, object]:
    """The `Status` of a refused request, made up where the server sent none."""
    try:
        document = json.loads(body)
        if isinstance(document, dict):
            return {"code": code, **document}
    except ValueError:
        pass
    return {"code": code, "message": body.decode("utf-8", "replace").strip() or f"the server answered {code}"}
