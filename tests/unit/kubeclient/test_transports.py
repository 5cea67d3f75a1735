"""Every transport keeps the same promises: the asyncio one over TLS, the blocking one, the one in the same process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from componentbase.http import Duplex, Headers, Query, Request, Response, User
from componentbase.httpserver import HttpServer
from componentbase.tls import Authority, server_context
from kubeclient.blocking import BlockingTransport
from kubeclient.config import ClusterAccess
from kubeclient.http_transport import HttpTransport
from kubeclient.inprocess import HandlerTransport
from kubeclient.transport import Transport, TransportError

USER = User("admin", ("system:masters",))
UPGRADE = Headers({"connection": "Upgrade", "upgrade": "websocket"})


async def handler(request: Request) -> Response:
    match request.path:
        case "/echo":
            who = request.user.name if request.user else "nobody"
            text = f"{request.method} {request.target} {who} {request.headers.get('x-one', '')} "
            assert isinstance(request.body, bytes)
            return Response(201, Headers({"x-two": "2"}), text.encode() + request.body)
        case "/ticks":
            return Response(200, Headers({"content-type": "application/json"}), _ticks())
        case "/break":
            return Response(200, Headers({"content-type": "application/json"}), _break())
        case "/tunnel" if request.wants_upgrade:
            return Response(101, Headers({"Upgrade": "websocket", "Connection": "Upgrade"}), tunnel=_shout)
    return Response(404, Headers({"content-type": "text/plain"}), b"no such place")


async def _ticks() -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"tick %d\n" % number
        await asyncio.sleep(0.01)


async def _break() -> AsyncIterator[bytes]:
    yield b"so far"
    raise ConnectionResetError("the server dies here")


async def _shout(client: Duplex) -> None:
    while data := await client.read():
        await client.write(data.upper())
        if b"bye" in data:
            return


@contextlib.asynccontextmanager
async def over_tls(tmp_path: Path) -> AsyncIterator[ClusterAccess]:
    """The handler behind TLS, and the access of an admin."""
    authority = Authority.load_or_create(tmp_path)
    serving = authority.issue("server", common_name="s", hosts=("127.0.0.1",), server=True)
    asking = authority.issue("me", common_name="admin", organizations=("system:masters",), client=True)
    context = server_context(serving.certificate, serving.key, authority.certificate_path)
    server = HttpServer(handler, ssl_context=context)
    await server.start()
    try:
        yield ClusterAccess(
            server=f"https://127.0.0.1:{server.port}",
            ca=authority.certificate_path.read_bytes(),
            cert=asking.certificate.read_bytes(),
            key=asking.key.read_bytes(),
        )
    finally:
        await server.stop(0.1)


@pytest.fixture(params=["https", "in process"])
async def transport(request: Any, tmp_path: Path) -> AsyncIterator[Transport]:
    if request.param == "in process":
        made: Transport = HandlerTransport(handler, USER)
        yield made
        await made.close()
        return
    async with over_tls(tmp_path) as access:
        made = HttpTransport(access)
        yield made
        await made.close()


async def test_a_request_arrives_whole_and_so_does_its_answer(transport: Transport) -> None:
    query = Query([("a", "1"), ("a", "x y/&"), ("limit", "")])
    request = Request("POST", "/echo", query, Headers({"x-one": "eins"}), b"body")
    response = await transport.request(request)
    assert response.status == 201
    assert response.headers["x-two"] == "2"
    assert response.body == b"POST /echo?a=1&a=x+y%2F%26&limit= admin eins body"


async def test_a_refusal_is_an_answer(transport: Transport) -> None:
    response = await transport.request(Request("GET", "/nowhere"))
    assert (response.status, await response.read()) == (404, b"no such place")


async def test_a_stream_comes_in_pieces(transport: Transport) -> None:
    response = await transport.request(Request("GET", "/ticks", stream=True))
    assert not isinstance(response.body, bytes)
    assert b"".join([chunk async for chunk in response.body]) == b"tick 0\ntick 1\ntick 2\n"


async def test_a_stream_may_be_left_in_the_middle(transport: Transport) -> None:
    response = await transport.request(Request("GET", "/ticks", stream=True))
    assert not isinstance(response.body, bytes)
    async for chunk in response.body:
        assert chunk.startswith(b"tick 0")
        break
    await response.aclose()
    assert (await transport.request(Request("GET", "/echo"))).status == 201


async def test_a_stream_that_breaks_raises(transport: Transport) -> None:
    response = await transport.request(Request("GET", "/break", stream=True))
    assert not isinstance(response.body, bytes)
    with pytest.raises(ConnectionError):
        async for chunk in response.body:
            assert chunk == b"so far"


async def test_an_upgrade_hands_over_the_connection(transport: Transport) -> None:
    response = await transport.request(Request("GET", "/tunnel", headers=UPGRADE))
    assert response.status == 101
    assert response.headers["upgrade"] == "websocket"
    connection = response.connection
    assert connection is not None
    await connection.write(b"hello")
    assert await connection.read() == b"HELLO"
    await connection.write(b"bye")
    assert await connection.read() == b"BYE"
    assert await connection.read() == b""
    connection.close()


async def test_a_refused_upgrade_is_an_ordinary_answer(transport: Transport) -> None:
    response = await transport.request(Request("GET", "/nowhere", headers=UPGRADE))
    assert (response.status, response.connection) == (404, None)
    assert await response.read() == b"no such place"


async def test_a_closed_in_process_transport_ends_its_tunnels() -> None:
    made = HandlerTransport(handler, USER)
    connection = (await made.request(Request("GET", "/tunnel", headers=UPGRADE))).connection
    assert connection is not None
    await made.close()
    assert await connection.read() == b""
    with pytest.raises(TransportError):
        await made.request(Request("GET", "/echo"))


async def test_a_server_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    transport = HttpTransport(ClusterAccess(server=f"http://127.0.0.1:{unused_tcp_port}"))
    for headers in (Headers(), UPGRADE):
        with pytest.raises(TransportError, match=f"127.0.0.1:{unused_tcp_port}/echo"):
            await transport.request(Request("GET", "/echo", headers=headers))
    await transport.close()
    with pytest.raises(TransportError, match="refused"):
        BlockingTransport(ClusterAccess(server=f"http://127.0.0.1:{unused_tcp_port}")).request(Request("GET", "/echo"))


async def test_a_server_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    foreign = Authority.load_or_create(tmp_path / "other").certificate_path.read_bytes()
    async with over_tls(tmp_path) as access:
        transport = HttpTransport(ClusterAccess(server=access.server, ca=foreign))
        with pytest.raises(TransportError, match="certificate verify failed"):
            await transport.request(Request("GET", "/echo"))
        await transport.close()


async def test_the_blocking_transport_speaks_the_same(tmp_path: Path) -> None:
    def one_shot(access: ClusterAccess) -> None:
        with BlockingTransport(access) as transport:
            answer = transport.request(Request("POST", "/echo", Query([("a", "b")]), Headers({"x-one": "1"}), b"body"))
            assert (answer.status, answer.headers["x-two"]) == (201, "2")
            assert answer.read() == b"POST /echo?a=b admin 1 body"
            stream = transport.request(Request("GET", "/ticks", stream=True))
            assert not isinstance(stream.body, bytes)
            assert next(iter(stream.body)).startswith(b"tick 0")
            stream.body.close()
            assert transport.request(Request("GET", "/nowhere")).status == 404
            broken = transport.request(Request("GET", "/break", stream=True))
            with pytest.raises(TransportError):
                broken.read()
            with pytest.raises(ValueError, match="no upgrades"):
                transport.request(Request("GET", "/tunnel", headers=UPGRADE))

    async with over_tls(tmp_path) as access:
        await asyncio.to_thread(one_shot, access)


async def test_a_blocking_read_is_repeated_on_a_dead_kept_connection(tmp_path: Path) -> None:
    async def serve_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(serve_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def ask_twice() -> list[bytes]:
        with BlockingTransport(ClusterAccess(server=f"http://127.0.0.1:{port}")) as transport:
            return [transport.request(Request("GET", "/x")).read() for _ in range(2)]

    assert await asyncio.to_thread(ask_twice) == [b"ok", b"ok"]
    server.close()
    await server.wait_closed()


async def test_an_upload_may_take_longer_than_an_answer(tmp_path: Path) -> None:
    finished = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 10
            await asyncio.sleep(0.1)
        finished.set()

    async with over_tls(tmp_path) as access:
        transport = HttpTransport(access, answer_seconds=0.1)
        response = await transport.request(Request("POST", "/echo", body=slowly(), stream=True))
        assert finished.is_set()
        assert (await response.read()).endswith(b"x" * 30)
        await transport.close()
