"""The streaming server: URLs with single-use tokens, and WebSocket sessions (v5, v4) behind them.

It listens on loopback; whoever holds a token may use it once within a minute. SPDY is answered 403 with the list of
protocols that we speak.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Awaitable, Callable

from componentbase import websocket
from componentbase.clock import Clock
from componentbase.http import Duplex, Headers, Request, Response
from componentbase.httpserver import HttpServer
from componentbase.websocket import HandshakeError, WebSocket
from pb.cri.v1 import api_pb2 as cri
from runtime.container import Container
from runtime.errors import FailedPrecondition, InvalidArgument, RuntimeFault, Unavailable
from runtime.streaming.pipes import FdReader, FdWriter
from runtime.streaming.session import Session, failure

log = logging.getLogger(__name__)

TOKEN_SECONDS = 60.0
MAX_TOKENS = 1000
PROTOCOLS = (websocket.REMOTECOMMAND_V5, websocket.REMOTECOMMAND_V4)

Serve = Callable[[WebSocket], Awaitable[None]]


class StreamingServer:
    def __init__(self, clock: Clock, address: str, port: int) -> None:
        self._clock = clock
        self._address = address
        self._http = HttpServer(self._handle, host=address, port=port)
        self._tokens: dict[str, tuple[float, str, Serve]] = {}

    async def start(self) -> None:
        await self._http.start()

    async def stop(self) -> None:
        await self._http.stop(grace_seconds=0.5)

    def exec_url(self, container: Container, request: cri.ExecRequest) -> str:
        """Validate, then a URL that runs the command once."""
        _check_streams(request)
        if not container.running:
            raise FailedPrecondition(f"container {container.id} is not running")
        return self._url("exec", lambda socket: _exec(socket, container, request))

    def attach_url(self, container: Container, request: cri.AttachRequest) -> str:
        _check_streams(request)
        if request.tty != container.config.tty:
            raise InvalidArgument(f"container {container.id} was made with tty={container.config.tty}")
        if not container.running:
            raise FailedPrecondition(f"container {container.id} is not running")
        return self._url("attach", lambda socket: _attach(socket, container, request))

    def _url(self, verb: str, serve: Serve) -> str:
        now = self._clock.monotonic()
        self._tokens = {token: entry for token, entry in self._tokens.items() if entry[0] > now}
        if len(self._tokens) >= MAX_TOKENS:
            raise Unavailable(f"{MAX_TOKENS} streaming requests are waiting for their clients")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (now + TOKEN_SECONDS, verb, serve)
        return f"http://{self._address}:{self._http.port}/{verb}/{token}"

    async def _handle(self, request: Request) -> Response:
        _, _, rest = request.path.partition("/")
        verb, _, token = rest.partition("/")
        entry = self._tokens.get(token)
        if entry is None or entry[1] != verb or entry[0] <= self._clock.monotonic():
            return _plain(404, f"no such {verb} request: a URL works once and for {TOKEN_SECONDS:.0f} s\n")
        try:
            headers, _ = websocket.accept(request, PROTOCOLS)
        except HandshakeError as error:
            response = _plain(403, f"{error}; this server speaks websocket with {', '.join(PROTOCOLS)}\n")
            for protocol in PROTOCOLS:
                response.headers.add("X-Accepted-Stream-Protocol-Versions", protocol)
            return response
        del self._tokens[token]

        async def tunnel(duplex: Duplex) -> None:
            try:
                await entry[2](WebSocket(duplex))
            finally:
                duplex.close()

        return Response(101, headers, tunnel=tunnel)


def _plain(code: int, text: str) -> Response:
    return Response(code, Headers({"content-type": "text/plain"}), text.encode())


def _check_streams(request: cri.ExecRequest | cri.AttachRequest) -> None:
    if request.tty and request.stderr:
        raise InvalidArgument("tty and stderr cannot both be asked for: a terminal has one output")
    if not (request.stdin or request.stdout or request.stderr):
        raise InvalidArgument("at least one of stdin, stdout and stderr must be asked for")


async def _exec(socket: WebSocket, container: Container, request: cri.ExecRequest) -> None:
    try:
        execution = container.execution(list(request.cmd), tty=request.tty)
    except RuntimeFault as error:
        return await _refuse(socket, str(error))
    theirs: dict[str, int] = {}
    outputs: dict[int, FdReader] = {}
    stdin: FdWriter | None = None
    if not request.tty:
        for name, channel, wanted in (
            ("stdout", websocket.STDOUT, request.stdout),
            ("stderr", websocket.STDERR, request.stderr),
        ):
            if wanted:
                reader, theirs[name] = os.pipe2(os.O_CLOEXEC)
                outputs[channel] = FdReader(reader)
        if request.stdin:
            theirs["stdin"], writer = os.pipe2(os.O_CLOEXEC)
            stdin = FdWriter(writer)
    try:
        terminal = await execution.start(theirs)
    except RuntimeFault as error:
        for end in (*outputs.values(), stdin):
            if end is not None:
                end.close()
        return await _refuse(socket, str(error))
    finally:
        for fd in theirs.values():
            os.close(fd)
    if terminal is not None:
        if request.stdin:
            stdin = FdWriter(os.dup(terminal))
        outputs[websocket.STDOUT] = FdReader(os.dup(terminal))
    try:
        await socket.send(bytes((websocket.STDOUT,)))
        await Session(socket, outputs, stdin, -1 if terminal is None else terminal).run(execution.ended, execution.kill)
    except ConnectionError:
        await execution.kill()
    finally:
        if terminal is not None:
            os.close(terminal)


async def _attach(socket: WebSocket, container: Container, request: cri.AttachRequest) -> None:
    names: list[str] = []
    theirs: list[int] = []
    outputs: dict[int, FdReader] = {}
    for name, channel, wanted in (
        ("stdout", websocket.STDOUT, request.stdout),
        ("stderr", websocket.STDERR, request.stderr and not request.tty),
    ):
        if wanted:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            names.append(name)
            theirs.append(writer)
            outputs[channel] = FdReader(reader)
    try:
        received = await container.attach(names, theirs, stdin=request.stdin or request.tty)
    except RuntimeFault as error:
        for reader_end in outputs.values():
            reader_end.close()
        return await _refuse(socket, str(error))
    finally:
        for fd in theirs:
            os.close(fd)
    stdin = FdWriter(os.dup(received)) if received is not None and request.stdin else None
    terminal = received if received is not None and request.tty else -1

    async def detach() -> None:
        if stdin is not None and container.config.stdin_once:
            await container.close_stdin()

    try:
        await socket.send(bytes((websocket.STDOUT,)))
        await Session(socket, outputs, stdin, terminal).run(container.exit_code(), detach)
    finally:
        if received is not None:
            os.close(received)


async def _refuse(socket: WebSocket, message: str) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send(bytes((websocket.ERROR,)) + failure(message))
        await socket.close()
