import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from componentbase.http import Headers, Request, duplex_pair
from componentbase.websocket import HandshakeError, ProtocolError, WebSocket, accept, accept_value, request_headers


def sockets(max_message=1 << 20):
    left, right = duplex_pair()
    return WebSocket(left, client=True, max_message=max_message), WebSocket(right, max_message=max_message)


def test_accept_value_of_the_rfc():
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_handshake_chooses_our_first():
    request = Request("GET", "/", headers=request_headers(("v4.channel.k8s.io", "v5.channel.k8s.io")))
    headers, chosen = accept(request, ("v5.channel.k8s.io", "v4.channel.k8s.io"))
    assert chosen == "v5.channel.k8s.io" == headers["sec-websocket-protocol"]


@pytest.mark.parametrize(
    "change, text",
    [
        ({"upgrade": "SPDY/3.1"}, "Upgrade: websocket"),
        ({"sec-websocket-version": "8"}, "must be 13"),
        ({"sec-websocket-key": ""}, "Sec-WebSocket-Key"),
        ({"sec-websocket-protocol": "chat"}, "no common websocket protocol"),
    ],
)
def test_bad_handshakes_say_why(change, text):
    headers = Headers(request_headers(("v5.channel.k8s.io",)))
    headers.update(change)
    with pytest.raises(HandshakeError, match=text):
        accept(Request("GET", "/", headers=headers), ("v5.channel.k8s.io",))


@given(st.lists(st.binary(max_size=70_000), max_size=4))
def test_messages_arrive_as_sent(messages):
    async def main():
        client, server = sockets()
        for message in messages:
            await client.send(message)
            assert await server.receive() == message
            await server.send(message)
            assert await client.receive() == message
        await client.close()
        assert await server.receive() is None
        assert await client.receive() is None

    asyncio.run(main())


async def test_pings_are_answered_between_fragments():
    left, right = duplex_pair()
    server = WebSocket(right)
    await left.write(bytes([0x02, 2]) + b"ab" + bytes([0x89, 1]) + b"!" + bytes([0x80, 1]) + b"c")
    assert await server.receive() == b"abc"
    assert await left.read() == bytes([0x8A, 1]) + b"!"


async def test_too_large_is_refused():
    client, server = sockets(max_message=10)
    await client.send(b"x" * 11)
    with pytest.raises(ProtocolError, match="11 bytes"):
        await server.receive()
