"""The connection to a node's agent, against a real agent-like server over TLS on loopback."""

import asyncio
import socket

import pytest

from apiserver import nodeclient
from apiserver.nodeclient import TlsNodeConnector
from componentbase import tls
from componentbase.http import Headers, Query, Request, Response
from componentbase.httpserver import HttpServer


async def agent(request):
    if request.wants_upgrade:
        if request.path == "/refused":
            return Response(403, Headers({"content-type": "text/plain"}), b"no")

        async def tunnel(client):
            while data := await client.read():
                await client.write(data.upper())

        return Response(101, Headers({"upgrade": "websocket", "connection": "Upgrade"}), tunnel=tunnel)
    if request.path == "/stream":
        return Response(200, Headers({"content-type": "text/plain"}), numbers())
    body = request.body if isinstance(request.body, bytes) else b"".join([chunk async for chunk in request.body])
    text = f"{request.user.name} {request.method} {request.target} {body.decode()}"
    return Response(200, Headers({"content-type": "text/plain"}), text.encode())


async def numbers():
    for i in range(3):
        yield f"{i}\n".encode()
        await asyncio.sleep(0)


@pytest.fixture
async def connection(tmp_path):
    authority = tls.Authority.load_or_create(tmp_path)
    server = authority.issue("node", common_name="system:node:n", hosts=("127.0.0.1",), server=True)
    client = authority.issue("client", common_name="kube-apiserver-kubelet-client", client=True)
    context = tls.server_context(server.certificate, server.key, authority.certificate_path, require_client=True)
    http = HttpServer(agent, ssl_context=context, streams=lambda method, path: path == "/import")
    await http.start()
    connector = TlsNodeConnector(tls.client_context(authority.certificate_path, client.certificate, client.key))
    yield connector, http.port
    await http.stop(0.1)


async def test_requests_and_answers(connection):
    connector, port = connection
    request = Request("POST", "/a b", Query([("x", "1"), ("x", "2")]), Headers(), b"hello")
    answer = await connector.forward("127.0.0.1", port, request)
    assert await answer.read() == b"kube-apiserver-kubelet-client POST /a%20b?x=1&x=2 hello"


async def test_streams_both_ways(connection):
    connector, port = connection
    answer = await connector.forward("127.0.0.1", port, Request("GET", "/stream"))
    assert [chunk async for chunk in answer.body] == [b"0\n", b"1\n", b"2\n"]
    answer = await connector.forward("127.0.0.1", port, Request("POST", "/import", body=numbers()))
    assert (await answer.read()).endswith(b"POST /import 0\n1\n2\n")


async def test_tunnels_and_refused_ones(connection):
    connector, port = connection
    upgrade = Headers({"connection": "Upgrade", "upgrade": "websocket"})
    answer = await connector.forward("127.0.0.1", port, Request("GET", "/exec", headers=upgrade))
    assert answer.status == 101
    await answer.connection.write(b"hello")
    async with asyncio.timeout(5):
        assert await answer.connection.read() == b"HELLO"
    answer.connection.close()
    refused = await connector.forward("127.0.0.1", port, Request("GET", "/refused", headers=upgrade))
    assert (refused.status, await refused.read()) == (403, b"no")


async def test_nobody_there(connection):
    connector, _ = connection
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError):
        await connector.forward("127.0.0.1", port, Request("GET", "/"))


async def test_somebody_who_never_says_hello_is_named_with_the_time(connection, monkeypatch):
    connector, _ = connection
    monkeypatch.setattr(nodeclient, "CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionError, match=r"within 0\.05 s"):
        await connector.forward("127.0.0.1", silent.getsockname()[1], Request("GET", "/"))
