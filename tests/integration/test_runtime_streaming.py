"""Exec and attach over WebSocket, v5 and v4, against the runtime's streaming server."""

import asyncio
import contextlib
import hashlib
import json
import pathlib
import urllib.parse

import grpc
import pytest

from componentbase import websocket
from componentbase.http import Headers
from componentbase.websocket import REMOTECOMMAND_V4, REMOTECOMMAND_V5, WebSocket
from pb.cri.v1 import api_pb2 as cri

from .runtime_daemon import PATIENCE, Daemon, eventually

pytestmark = pytest.mark.root

BUSYBOX = "/usr/bin/busybox"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("streaming"), share_network=True)
    try:
        daemon.start()
        daemon.build_image("busybox")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def sandbox(daemon):
    identifier = daemon.run_sandbox("streams")
    yield identifier
    daemon.remove_sandbox(identifier)


@pytest.fixture(scope="module")
def container(daemon, sandbox):
    return daemon.run(sandbox, BUSYBOX, "sleep", "100000", name="target")


class Socket:
    """A Duplex on a socket of this test."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def read(self):
        return await self.reader.read(65536)

    async def write(self, data):
        self.writer.write(data)
        await self.writer.drain()

    def close(self):
        self.writer.close()


async def request(url, headers, method="GET"):
    """(status, headers, duplex) of one request."""
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = [f"{method} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    answered = Headers(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), answered, Socket(reader, writer)


class Client:
    """A remotecommand client that collects what it is sent."""

    def __init__(self, socket):
        self.socket = socket
        self.received = dict.fromkeys((STDOUT, STDERR, ERROR), b"")
        self.changed = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url, protocol=REMOTECOMMAND_V5):
        status, headers, duplex = await request(url, websocket.request_headers((protocol,)))
        assert (status, headers["sec-websocket-protocol"]) == (101, protocol)
        client = cls(WebSocket(duplex, client=True))
        pumping = asyncio.create_task(client.pump())
        try:
            yield client
        finally:
            pumping.cancel()
            duplex.close()
            with contextlib.suppress(asyncio.CancelledError):
                await pumping

    async def pump(self):
        while (message := await self.socket.receive()) is not None:
            self.received[message[0]] += message[1:]
            self.changed.set()
        self.ended = True
        self.changed.set()

    async def until(self, holds):
        async with asyncio.timeout(20 * PATIENCE):
            while not holds(self):
                await self.changed.wait()
                self.changed.clear()

    async def status(self):
        await self.until(lambda client: client.received[ERROR])
        return json.loads(self.received[ERROR])

    async def send(self, channel, data):
        await self.socket.send(bytes((channel,)) + data)

    async def end_stdin(self):
        await self.socket.send(bytes((websocket.CLOSE, STDIN)))


def exec_url(daemon, container, *command, **streams):
    streams = streams or {"stdout": True, "stderr": True}
    answer = daemon.runtime.Exec(cri.ExecRequest(container_id=container, cmd=command, **streams))
    return answer.url


def sh(script):
    return (BUSYBOX, "sh", "-c", script)


@pytest.mark.parametrize("protocol", [REMOTECOMMAND_V5, REMOTECOMMAND_V4])
@pytest.mark.parametrize("code", [0, 1, 137])
async def test_output_and_exit_code(daemon, container, protocol, code):
    async with Client.connect(exec_url(daemon, container, *sh(f"echo o; echo e >&2; exit {code}")), protocol) as client:
        status = await client.status()
        assert (client.received[STDOUT], client.received[STDERR]) == (b"o\n", b"e\n")
    if code == 0:
        assert status["status"] == "Success"
    else:
        assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
        assert status["details"]["causes"] == [{"reason": "ExitCode", "message": str(code)}]


async def test_stdin_and_its_end(daemon, container):
    url = exec_url(daemon, container, BUSYBOX, "sha256sum", stdin=True, stdout=True)
    async with Client.connect(url) as client:
        digest = hashlib.sha256()
        for number in range(200):
            chunk = bytes([number]) * 20000
            digest.update(chunk)
            await client.send(STDIN, chunk)
        await client.end_stdin()
        assert (await client.status())["status"] == "Success"
        assert client.received[STDOUT].decode().split()[0] == digest.hexdigest()


async def test_much_output(daemon, container):
    async with Client.connect(exec_url(daemon, container, *sh("head -c 20000000 /dev/zero"))) as client:
        assert (await client.status())["status"] == "Success"
        assert len(client.received[STDOUT]) == 20_000_000


async def test_a_command_that_ends_without_reading_its_stdin(daemon, container):
    url = exec_url(daemon, container, *sh("exec 0<&-; echo x; exit 5"), stdin=True, stdout=True)
    async with Client.connect(url) as client:
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                await client.send(STDIN, b"y" * 50000)
        status = await client.status()
    assert status["details"]["causes"][0]["message"] == "5"


async def test_a_terminal_is_resized_and_interrupted(daemon, container):
    script = "stty size; trap 'stty size; exit 3' INT; echo ready; while true; do usleep 10000; done"
    url = exec_url(daemon, container, *sh(script), stdin=True, stdout=True, tty=True)
    async with Client.connect(url) as client:
        await client.until(lambda c: b"ready" in c.received[STDOUT])
        await client.send(RESIZE, json.dumps({"Width": 123, "Height": 45}).encode())
        await client.send(STDIN, b"\x03")
        status = await client.status()
        assert b"45 123" in client.received[STDOUT]
    assert status["details"]["causes"][0]["message"] == "3"


async def test_a_command_that_does_not_exist(daemon, container):
    async with Client.connect(exec_url(daemon, container, "nosuch")) as client:
        status = await client.status()
    assert status["status"] == "Failure"
    assert 'exec: "nosuch": executable file not found in $PATH' in status["message"]


async def test_a_client_that_goes_away_ends_the_command(daemon, container):
    def alive():
        paths = pathlib.Path("/proc").glob("[0-9]*/cmdline")
        with contextlib.suppress(OSError):
            return any(b"77153" in path.read_bytes() for path in paths)
        return True

    async with Client.connect(exec_url(daemon, container, *sh("echo up; sleep 77153 & sleep 77153"))) as client:
        await client.until(lambda c: c.received[STDOUT])
        assert alive()
    await asyncio.to_thread(eventually, lambda: not alive())


async def test_a_url_works_once_and_only_for_its_verb(daemon, container):
    async def code(url):
        status, _, duplex = await request(url, websocket.request_headers((REMOTECOMMAND_V5,)))
        duplex.close()
        return status

    url = exec_url(daemon, container, *sh("echo x"))
    assert await code(url.replace("/exec/", "/attach/")) == 404
    async with Client.connect(url) as client:
        await client.status()
    assert await code(url) == 404
    assert await code(url + "x") == 404


async def test_spdy_is_refused_with_what_we_speak(daemon, container):
    url = exec_url(daemon, container, *sh("echo x"))
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
    status, answered, duplex = await request(url, headers, "POST")
    duplex.close()
    assert status == 403
    assert "v5.channel.k8s.io" in answered["x-accepted-stream-protocol-versions"]


@pytest.mark.parametrize(
    ("streams", "text"), [({"tty": True, "stderr": True}, "tty and stderr"), ({"tty": False}, "at least one of")]
)
def test_streams_that_contradict_themselves(daemon, container, streams, text):
    with pytest.raises(grpc.RpcError) as caught:
        exec_url(daemon, container, BUSYBOX, "true", **streams)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert text in caught.value.details()


async def test_attach(daemon, sandbox):
    script = "while read line; do echo got $line; done; echo over; exit 4"
    container = daemon.shell(sandbox, script, name="attached", stdin=True, stdin_once=True)
    answer = daemon.runtime.Attach(cri.AttachRequest(container_id=container, stdin=True, stdout=True, stderr=True))
    async with Client.connect(answer.url) as client:
        await client.send(STDIN, b"one\n")
        await client.until(lambda c: c.received[STDOUT] == b"got one\n")
    # The first attach that ends closes stdin, and with it this container.
    status = await asyncio.to_thread(daemon.wait_exit, container)
    assert status.exit_code == 4
    assert [content for _, _, content in daemon.read_log(container)] == ["got one", "over"]


async def test_a_slow_reader_that_is_attached_loses_nothing_and_holds_up_nobody(daemon, sandbox):
    script = "read x; head -c 1500000 /dev/zero | tr '\\0' a; echo; echo end"
    container = daemon.shell(sandbox, script, name="flood", stdin=True, stdin_once=True)
    answer = daemon.runtime.Attach(cri.AttachRequest(container_id=container, stdin=True, stdout=True))
    async with Client.connect(answer.url) as client:
        await client.send(STDIN, b"go\n")
        status = await client.status()
        assert len(client.received[STDOUT]) == 1_500_000 + len("\nend\n")
    assert status["status"] == "Success"


async def test_attach_to_a_terminal_until_the_end(daemon, sandbox):
    container = daemon.shell(sandbox, "read x; echo got $x; exit 2", name="tty", stdin=True, tty=True)
    answer = daemon.runtime.Attach(cri.AttachRequest(container_id=container, stdin=True, stdout=True, tty=True))
    async with Client.connect(answer.url) as client:
        await client.send(STDIN, b"word\n")
        status = await client.status()
        assert b"got word" in client.received[STDOUT]
    assert status["details"]["causes"][0]["message"] == "2"
