import asyncio

import pytest

from componentbase.http import Headers, Query, Request
from componentbase.httpclient import BadAnswer, Connection


async def exchange(answer, request):
    """What a scripted server gets and what the client makes of its answer: (sent, status, headers, body)."""
    got = bytearray()

    async def serve(reader, writer):
        got.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = await Connection.open("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            await connection.send(request, "node:1")
            status, headers = await connection.head()
            body = b"".join([part async for part in connection.body(headers)])
        finally:
            connection.close()
    return bytes(got), status, headers, body


@pytest.mark.parametrize(
    "answer, body",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b""),
    ],
    ids=["length", "chunks", "to the end", "none"],
)
async def test_bodies(answer, body):
    request = Request("GET", "/a b", Query.of({"x": "1"}), Headers({"Accept": "text/plain"}))
    sent, status, _, got = await exchange(answer, request)
    assert got == body and status in (200, 204)
    assert sent.startswith(b"GET /a%20b?x=1 HTTP/1.1\r\nhost: node:1\r\naccept: text/plain\r\nconnection: close\r\n")


@pytest.mark.parametrize(
    "answer, text",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "4 bytes before its end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", "broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "broke off"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP/1 answer: 'SSH-2.0-OpenSSH'"),
        (b"HTTP/1.1 200 OK\r\n", "no HTTP answer"),
    ],
    ids=["short", "short chunk", "no chunk size", "another protocol", "no end of head"],
)
async def test_half_an_answer_never_looks_whole(answer, text):
    with pytest.raises(BadAnswer, match=text):
        await exchange(answer, Request("GET", "/"))


async def test_a_streamed_request_body_goes_in_chunks():
    async def chunks():
        yield b"one"
        yield b""
        yield b"two"

    received = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        received.set_result(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        connection = await Connection.open("127.0.0.1", server.sockets[0].getsockname()[1])
        await connection.send(Request("POST", "/x", body=chunks()), "h")
        assert (await connection.head())[0] == 201
        connection.close()
    assert (await received).endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
