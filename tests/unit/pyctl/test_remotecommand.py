"""This end of exec, with the other end played by the test over an in-process connection."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from componentbase import websocket
from componentbase.http import Headers, Request, Response, duplex_pair
from componentbase.websocket import WebSocket
from kubeclient.config import ClusterAccess
from pyctl import remotecommand
from pyctl.api import ApiError
from pyctl.failure import Failure
from pyctl.remotecommand import Session, exit_code, run

SUCCESS = b'{"status":"Success"}'


def failed(code: int) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}).encode()


class FakeTransport:
    """Grants every upgrade; the server's end waits in `peer`."""

    protocol = websocket.REMOTECOMMAND_V5
    refuse: Response | None = None

    def __init__(self, access: ClusterAccess) -> None:
        type(self).last = self

    async def request(self, request: Request) -> Response:
        self.asked = request
        if self.refuse is not None:
            return self.refuse
        ours, theirs = duplex_pair()
        self.peer = WebSocket(theirs)
        task = asyncio.get_running_loop().create_task(type(self).play(self.peer))
        self.task = task
        return Response(101, Headers({"sec-websocket-protocol": self.protocol}), connection=ours)

    async def close(self) -> None: ...


@pytest.fixture
def stdin(tmp_path: Path) -> Iterator[Any]:
    """Replaces descriptor 0 by what the test gives."""
    kept = os.dup(0)

    def use(descriptor: int) -> None:
        os.dup2(descriptor, 0)
        os.close(descriptor)

    yield use
    os.dup2(kept, 0)
    os.close(kept)


async def converse(monkeypatch: pytest.MonkeyPatch, play: Any, *, stdin: bool = False, **attributes: Any) -> int:
    kind = type("Transport", (FakeTransport,), {"play": staticmethod(play), **attributes})
    monkeypatch.setattr(remotecommand, "UpgradeTransport", kind)
    monkeypatch.setattr("sys.stdin", os.fdopen(0, closefd=False))  # pytest has put its own there
    session = Session("/api/v1/namespaces/n/pods/p/exec", {"command": ["x"]}, stdin=stdin, tty=False)
    return await run(ClusterAccess("http://127.0.0.1:1"), session)


async def test_output_and_exit_code(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    async def play(peer: WebSocket) -> None:
        for channel, data in ((1, b"out"), (2, b"err"), (1, b"\xff\n"), (3, failed(7))):
            await peer.send(bytes([channel]) + data)

    assert await converse(monkeypatch, play) == 7
    assert capfdbinary.readouterr() == (b"out\xff\n", b"err")


@pytest.mark.parametrize("kind", ["pipe", "file"])
async def test_input_is_carried_to_its_end(
    monkeypatch: pytest.MonkeyPatch, stdin: Any, tmp_path: Path, capfd: Any, kind: str
) -> None:
    data = bytes(range(256)) * 1000
    (tmp_path / "in").write_bytes(data)
    if kind == "file":
        stdin(os.open(tmp_path / "in", os.O_RDONLY))
    else:
        reader, writer = os.pipe()
        os.write(writer, data[:60000])
        os.close(writer)
        stdin(reader)
        data = data[:60000]
    got = bytearray()

    async def play(peer: WebSocket) -> None:
        while (message := await peer.receive()) is not None:
            if message == bytes([websocket.CLOSE, websocket.STDIN]):
                await peer.send(bytes([3]) + SUCCESS)
                return
            assert message[0] == websocket.STDIN
            got.extend(message[1:])

    with capfd.disabled():
        assert await converse(monkeypatch, play, stdin=True) == 0
    assert got == data


async def test_a_connection_that_ends_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(peer: WebSocket) -> None:
        await peer.close()

    with pytest.raises(Failure, match="the connection ended before the command did"):
        await converse(monkeypatch, play)


async def test_a_refusal_is_the_servers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"kind": "Status", "message": 'pods "p" not found', "code": 404}).encode()
    with pytest.raises(ApiError, match='pods "p" not found'):
        await converse(monkeypatch, None, refuse=Response(404, Headers(), body))


def test_exit_codes() -> None:
    assert exit_code(SUCCESS) == 0
    assert exit_code(failed(137)) == 137
    with pytest.raises(Failure, match="no such file"):
        exit_code(b'{"status":"Failure","reason":"InternalError","message":"exec: no such file"}')
    with pytest.raises(Failure, match="plain words"):
        exit_code(b"plain words")
