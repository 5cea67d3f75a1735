import asyncio
import contextlib
import ssl

import pytest
import uvloop

from componentbase.http import Headers, Response
from componentbase.httpserver import HttpServer, PortTaken
from componentbase.tls import Authority, client_context, server_context


async def fetch(reader, writer, head, until=b""):
    writer.write(head)
    await writer.drain()
    return await (reader.readuntil(until) if until else reader.read())


async def echo_handler(request):
    if request.path == "/tunnel":

        async def tunnel(duplex):
            while data := await duplex.read():
                await duplex.write(data.upper())
                if b"bye" in data:
                    return

        return Response(101, Headers({"Upgrade": "websocket", "Connection": "Upgrade"}), tunnel=tunnel)
    if request.path == "/stream":

        async def chunks():
            for each in (b"one", b"two"):
                yield each

        return Response(body=chunks())
    name = f"{request.user.name}/{','.join(request.user.groups)}" if request.user else "nobody"
    return Response(body=f"{request.method} {request.target} {name} {len(request.body)}".encode())


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    def go(main):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main)

    return go


def test_over_tls(run, tmp_path):
    authority = Authority.load_or_create(tmp_path)
    serving = authority.issue("server", common_name="s", hosts=("127.0.0.1", "localhost"), server=True)
    asking = authority.issue("me", common_name="admin", organizations=("system:masters",), client=True)
    trusted = client_context(authority.certificate_path, asking.certificate, asking.key)
    anonymous = client_context(authority.certificate_path)

    async def main():
        context = server_context(serving.certificate, serving.key, authority.certificate_path)
        server = HttpServer(echo_handler, ssl_context=context, max_body=10)
        await server.start()

        async def ask(head, tls=trusted):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
            try:
                return (await fetch(reader, writer, head.encode() + b"Connection: close\r\n\r\n")).decode()
            finally:
                writer.close()

        assert "GET /a%20b?x=1 admin/system:masters 0" in await ask("GET /a%20b?x=1 HTTP/1.1\r\nHost: x\r\n")
        assert "nobody" in await ask("GET / HTTP/1.1\r\nHost: x\r\n", anonymous)
        assert "413" in await ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n")
        streamed = await ask("GET /stream HTTP/1.1\r\nHost: x\r\n")
        assert "chunked" in streamed and "one" in streamed and "two" in streamed

        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusted)
        head = (
            b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nhello"
        )
        assert b" 101 " in await fetch(reader, writer, head, b"\r\n\r\n")
        assert await reader.readexactly(5) == b"HELLO"
        writer.write(b"bye")
        assert await reader.readexactly(3) == b"BYE"
        assert await reader.read() == b""
        writer.close()

        with pytest.raises(PortTaken, match=f"port {server.port} on 127.0.0.1 is already in use"):
            await HttpServer(echo_handler, port=server.port).start()
        await server.stop(0.1)

    run(main())


def test_strangers_are_refused(run, tmp_path):
    ours = Authority.load_or_create(tmp_path / "ours")
    theirs = Authority.load_or_create(tmp_path / "theirs")
    serving = ours.issue("server", common_name="s", hosts=("127.0.0.1",), server=True)
    stranger = theirs.issue("me", common_name="admin", organizations=("system:masters",), client=True)

    async def main():
        context = server_context(serving.certificate, serving.key, ours.certificate_path, require_client=True)
        server = HttpServer(echo_handler, ssl_context=context)
        await server.start()
        tls = client_context(ours.certificate_path, stranger.certificate, stranger.key)
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
            with contextlib.closing(writer):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readexactly(1)
        await server.stop(0.1)

    run(main())


def test_certificates_are_kept_until_they_no_longer_serve(tmp_path):
    authority = Authority.load_or_create(tmp_path)
    first = authority.issue("server", common_name="s", hosts=("127.0.0.1",), server=True).certificate.read_bytes()
    again = Authority.load_or_create(tmp_path)
    assert again.issue("server", common_name="s", hosts=("127.0.0.1",), server=True).certificate.read_bytes() == first
    other = again.issue("server", common_name="s", hosts=("127.0.0.1", "n1"), server=True).certificate.read_bytes()
    assert other != first
    assert (tmp_path / "server.key").stat().st_mode & 0o777 == 0o600
    key = (tmp_path / "ca.key").read_bytes()
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ValueError, match=r"ca\.key is missing"):
        Authority.load_or_create(tmp_path)
    (tmp_path / "ca.key").write_bytes(key)
    (tmp_path / "ca.crt").write_text("nonsense")
    with pytest.raises(ValueError, match=r"ca\.crt"):
        Authority.load_or_create(tmp_path)
