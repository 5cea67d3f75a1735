"""Frames between daemon, zygote, shim and child: a length, a count of descriptors, then JSON.

A frame's descriptors travel with its first byte (SCM_RIGHTS). The protocol is versioned because shims outlive daemons:
a shim opens every connection with `{"event": "hello", "version": VERSION, ...}`, requests carry `id` and `op`, answers
carry the same `id` and either `error` or their fields, and everything with `event` comes unasked. A new daemon must
speak every version a living shim may have; fields may be added without a new version, never change their meaning.
"""

from __future__ import annotations

import json
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]

VERSION = 1
MAX_FRAME = 16 * 1024 * 1024
MAX_DESCRIPTORS = 250

_HEADER = struct.Struct("!II")
_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


def encode(message: Message, descriptors: int = 0) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"frame of {len(body)} bytes is above {MAX_FRAME}")
    return _HEADER.pack(len(body), descriptors) + body


def rights(fds: list[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data of a `sendmsg` that carries `fds`."""
    if not fds:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]


def receive(sock: socket.socket, size: int = 65536) -> tuple[bytes, list[int]]:
    """One recvmsg: its bytes (b"" at the end) and the descriptors that came along, close-on-exec."""
    data, ancillary, flags, _ = sock.recvmsg(size, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"{len(payload) // 4}i", payload[: len(payload) // 4 * 4]))
    if flags & socket.MSG_CTRUNC:
        raise ProtocolError("descriptors were lost on the way: too many open files")
    return data, fds


class Frames:
    """Bytes and descriptors in, whole messages out; pure."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> list[tuple[Message, list[int]]]:
        self._data += data
        self._fds += fds
        whole: list[tuple[Message, list[int]]] = []
        while len(self._data) >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._data)
            if length > MAX_FRAME:
                raise ProtocolError(f"frame of {length} bytes is above {MAX_FRAME}")
            end = _HEADER.size + length
            if len(self._data) < end or len(self._fds) < count:
                break
            message = json.loads(bytes(self._data[_HEADER.size : end]))
            whole.append((message, self._fds[:count]))
            del self._data[:end]
            del self._fds[:count]
        return whole

    def abandoned(self) -> list[int]:
        """Descriptors that belong to no whole message, to be closed at the end of a connection."""
        fds, self._fds = self._fds, []
        return fds


def send(sock: socket.socket, message: Message, fds: list[int] | None = None) -> None:
    """Send one frame on a blocking socket."""
    data = encode(message, len(fds or []))
    sent = sock.sendmsg([data], rights(fds or []))
    if sent < len(data):
        sock.sendall(data[sent:])


class Receiver:
    """Whole frames from a blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = Frames()
        self._ready: list[tuple[Message, list[int]]] = []

    def next(self) -> tuple[Message, list[int]] | None:
        """The next message, or None when the other side is gone."""
        while not self._ready:
            data, fds = receive(self._sock)
            if not data:
                return None
            self._ready = self._frames.feed(data, fds)
        return self._ready.pop(0)
