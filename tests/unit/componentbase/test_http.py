import asyncio

import pytest

from componentbase.http import Headers, Query, Request, Response, duplex_pair, pump
from componentbase.httpserver import HttpServer


def test_headers_ignore_case_and_join():
    headers = Headers([("Accept", "a"), ("ACCEPT", "b"), ("Connection", "keep-alive, Upgrade")])
    assert headers["accept"] == "a, b"
    assert headers.tokens("connection") == ["keep-alive", "upgrade"]


def test_query_keeps_order_and_repeats():
    query = Query.parse("command=ls&command=-l&tty=")
    assert query.every("command") == ["ls", "-l"]
    assert query.has("tty") and query.first("tty", "x") == "" and query.first("stdin", "no") == "no"
    assert Query.parse(query.encode()) == query
    assert Query.of({"a": ["1", "2"], "b": "3"}) == (("a", "1"), ("a", "2"), ("b", "3"))


def test_target_is_encoded():
    assert Request("GET", "/a b/ü", Query.of({"q": "x&y"})).target == "/a%20b/%C3%BC?q=x%26y"


async def test_streamed_body_is_read_whole():
    async def chunks():
        yield b"a"
        yield b"b"

    assert await Response(body=chunks()).read() == b"ab"


async def test_pair_carries_both_ways_and_ends():
    left, right = duplex_pair()
    await left.write(b"to the right")
    await right.write(b"to the left")
    await left.write_eof()
    assert await right.read() == b"to the right"
    assert await right.read() == b""
    assert await left.read() == b"to the left"
    right.close()
    assert await left.read() == b""
    with pytest.raises(ConnectionError):
        await right.write(b"too late")


async def test_a_slow_reader_holds_the_writer():
    left, right = duplex_pair()

    async def fill():
        for _ in range(8):
            await left.write(b"x" * (1 << 19))

    writer = asyncio.create_task(fill())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not writer.done()
    total = 0
    while total < 8 << 19:
        total += len(await right.read())
    await writer


async def test_pump_ends_when_the_server_ends():
    client, client_side = duplex_pair()
    server_side, server = duplex_pair()
    pumping = asyncio.create_task(pump(client_side, server_side))
    await client.write(b"ping")
    assert await server.read() == b"ping"
    await server.write(b"pong")
    assert await client.read() == b"pong"
    server.close()
    assert await client.read() == b""
    await asyncio.wait_for(pumping, 5)


async def test_pump_ends_when_the_client_is_gone():
    client, client_side = duplex_pair()
    server_side, server = duplex_pair()
    pumping = asyncio.create_task(pump(client_side, server_side))
    client.close()
    assert await server.read() == b""
    server.close()
    await asyncio.wait_for(pumping, 5)


async def test_an_answer_whose_client_has_left_is_let_go(unused_tcp_port):
    begun, go, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Owned:
        async def aclose(self):
            closed.set()

    async def handler(request):
        begun.set()
        await go.wait()
        return Response(200, Headers(), Owned())

    server = HttpServer(handler, port=unused_tcp_port)
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    async with asyncio.timeout(5):
        await begun.wait()
        writer.transport.abort()
        while not server._leaving:  # noqa: ASYNC110 - the server tells nobody that a client has left
            await asyncio.sleep(0)
        go.set()
        await closed.wait()
    await server.stop(0.1)
