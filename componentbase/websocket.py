"""WebSocket (RFC 6455) on a `Duplex`, for both ends, and the channels of Kubernetes' remotecommand protocols on it.

A remotecommand message is one channel byte and data; v5 adds CLOSE, whose data byte names the channel that has ended.
Extensions are never negotiated. Pings are answered while somebody receives.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct

from componentbase.http import Duplex, Headers, Request

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
REMOTECOMMAND_V5, REMOTECOMMAND_V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"

MAX_MESSAGE_BYTES = 1 << 20

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class HandshakeError(Exception):
    """The request cannot become a WebSocket; the text says why."""


class ProtocolError(ConnectionError):
    """The peer broke RFC 6455."""


def accept(request: Request, protocols: tuple[str, ...]) -> tuple[Headers, str]:
    """The headers of the 101 answer and the sub-protocol: the first of ours that the client offers.

    Raises HandshakeError when it is no WebSocket handshake or no sub-protocol is shared.
    """
    if not request.wants_upgrade or request.headers.get("upgrade", "").lower() != "websocket":
        raise HandshakeError("not a websocket handshake: no 'Upgrade: websocket'")
    if request.headers.get("sec-websocket-version") != "13":
        raise HandshakeError(f"websocket version {request.headers.get('sec-websocket-version')!r}: must be 13")
    key = request.headers.get("sec-websocket-key", "")
    if not key:
        raise HandshakeError("not a websocket handshake: no 'Sec-WebSocket-Key'")
    offered = [each.strip() for each in request.headers.get("sec-websocket-protocol", "").split(",")]
    chosen = next((each for each in protocols if each in offered), None)
    if chosen is None:
        raise HandshakeError(f"no common websocket protocol: offered {offered}, known {list(protocols)}")
    headers = Headers({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_value(key)})
    headers["sec-websocket-protocol"] = chosen
    return headers, chosen


def accept_value(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def request_headers(protocols: tuple[str, ...]) -> Headers:
    """What a client sends to open a WebSocket."""
    return Headers(
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Protocol": ", ".join(protocols),
        }
    )


class WebSocket:
    """One end of an open WebSocket; owns the Duplex. One task receives and one at a time sends."""

    def __init__(self, duplex: Duplex, *, client: bool = False, max_message: int = MAX_MESSAGE_BYTES) -> None:
        self._duplex = duplex
        self._client = client
        self._max_message = max_message
        self._buffer = bytearray()
        self._close_sent = False

    async def receive(self) -> bytes | None:
        """The next message's payload; None when the peer closed or is gone. Raises ProtocolError."""
        message = bytearray()
        while True:
            frame = await self._frame()
            if frame is None:
                return None
            final, opcode, payload = frame
            if opcode == _PING:
                await self._send_frame(_PONG, payload)
            elif opcode == _CLOSE:
                await self.close()
                return None
            elif opcode in (_TEXT, _BINARY, _CONTINUATION):
                message += payload
                if len(message) > self._max_message:
                    raise ProtocolError(f"websocket message is larger than {self._max_message} bytes")
                if final:
                    return bytes(message)
            elif opcode != _PONG:
                raise ProtocolError(f"unknown websocket opcode {opcode:#x}")

    async def send(self, payload: bytes) -> None:
        """Send one binary message. Raises ConnectionError when the peer is gone."""
        await self._send_frame(_BINARY, payload)

    async def close(self, code: int = 1000) -> None:
        """Send the closing frame once; the peer's own is not waited for."""
        if not self._close_sent:
            self._close_sent = True
            try:
                await self._send_frame(_CLOSE, struct.pack("!H", code))
            except ConnectionError:
                pass

    def abort(self) -> None:
        """Close the connection under it."""
        self._duplex.close()

    async def _send_frame(self, opcode: int, payload: bytes) -> None:
        mask_bit = 0x80 if self._client else 0
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, mask_bit | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, mask_bit | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, mask_bit | 127, size)
        if self._client:
            mask = os.urandom(4)
            head, payload = head + mask, _masked(payload, mask)
        await self._duplex.write(head + payload)

    async def _frame(self) -> tuple[bool, int, bytes] | None:
        if not await self._fill(2):
            return None
        first, second = self._buffer[0], self._buffer[1]
        if first & 0x70:
            raise ProtocolError("reserved websocket bits are set")
        size, offset = second & 0x7F, 2
        if size == 126:
            if not await self._fill(4):
                return None
            size, offset = struct.unpack_from("!H", self._buffer, 2)[0], 4
        elif size == 127:
            if not await self._fill(10):
                return None
            size, offset = struct.unpack_from("!Q", self._buffer, 2)[0], 10
        if size > self._max_message:
            raise ProtocolError(f"websocket frame of {size} bytes is larger than {self._max_message}")
        mask = b""
        masked = bool(second & 0x80)
        end = offset + (4 if masked else 0) + size
        if not await self._fill(end):
            return None
        if masked:
            mask = bytes(self._buffer[offset : offset + 4])
            offset += 4
        payload = bytes(self._buffer[offset:end])
        del self._buffer[:end]
        return bool(first & 0x80), first & 0x0F, _masked(payload, mask) if masked else payload

    async def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            data = await self._duplex.read()
            if not data:
                return False
            self._buffer += data
        return True


def _masked(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one big integer: the fast way without a loop."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
