"""A remotecommand session at its end: what the process wrote last, and a client that reads slowly."""

import asyncio
import json
import os

import pytest

from componentbase import websocket
from runtime.streaming import session
from runtime.streaming.pipes import FdReader
from runtime.streaming.session import Session


class Socket:
    """A client that takes nothing before `reads` is set."""

    def __init__(self):
        self.reads = asyncio.Event()
        self.gone = asyncio.Event()
        self.frames = []

    async def send(self, data):
        await self.reads.wait()
        self.frames.append(data)

    async def receive(self):
        await self.gone.wait()

    async def close(self):
        self.gone.set()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(session, "_DRAIN_SECONDS", 0.02)


async def run(socket, reader):
    ended = asyncio.get_running_loop().create_future()
    ended.set_result(0)

    async def client_gone():
        raise AssertionError("the process has ended already")

    async with asyncio.timeout(20):
        await Session(socket, {websocket.STDOUT: FdReader(reader)}, None).run(ended, client_gone)


def output(socket):
    return b"".join(frame[1:] for frame in socket.frames if frame[0] == websocket.STDOUT)


async def test_a_client_that_reads_slowly_gets_everything(impatient):
    socket = Socket()
    reader, writer = os.pipe()
    os.write(writer, b"x" * 65536)
    os.close(writer)
    running = asyncio.create_task(run(socket, reader))
    # Several times what a silent stream is given.
    _, pending = await asyncio.wait([running], timeout=0.2)
    assert pending
    socket.reads.set()
    await running
    assert output(socket) == b"x" * 65536
    assert json.loads(socket.frames[-1][1:])["status"] == "Success"


async def test_a_stream_that_somebody_keeps_open_is_given_up(impatient):
    socket = Socket()
    socket.reads.set()
    reader, writer = os.pipe()
    os.write(writer, b"last")
    await run(socket, reader)
    os.close(writer)
    assert output(socket) == b"last"


async def test_a_stream_that_somebody_goes_on_writing_to_is_given_up(impatient):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    socket = Socket()
    socket.reads.set()
    taken = socket.send

    async def send(data):
        await taken(data)
        try:
            os.write(writer, b"y" * 30000)
        except BlockingIOError:
            pass

    socket.send = send
    os.write(writer, b"y")
    await run(socket, reader)
    os.close(writer)
    assert output(socket).startswith(b"y")


async def test_a_client_that_is_gone_is_not_waited_for(impatient):
    socket = Socket()
    reader, writer = os.pipe()
    os.write(writer, b"x")
    running = asyncio.create_task(run(socket, reader))
    await asyncio.wait([running], timeout=0.05)
    socket.reads.set()
    socket.gone.set()
    await running
    os.close(writer)
