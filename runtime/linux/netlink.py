"""Links, addresses and routes over rtnetlink: message builders, and `Route`, which exchanges them on one socket.

pyroute2 does the same and more, but costs 12 MB, 150 to 300 ms of import and a millisecond a call here; a pod needs
eight calls within a budget of one. A socket acts in the network namespace that it was made in, so one from a pod's shim
configures the pod without anybody entering it. Failures are OSError with the kernel's errno. Sources: rtnetlink(7),
include/uapi/linux/{rtnetlink,if_link,veth}.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400

IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTO_STATIC, _SCOPE_UNIVERSE, _TYPE_UNICAST = 254, 4, 0, 1


@dataclass(frozen=True, kw_only=True)
class Link:
    index: int
    name: str
    kind: str
    master: int
    mtu: int
    up: bool


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    return struct.pack("=HH", len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


class Route:
    """Owns its socket. Calls block for as long as the kernel takes, tens of microseconds."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self._sock = sock or socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sock.setblocking(True)
        self._sequence = 0

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Route:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, self._sequence, 0)
        self._sock.send(header + body)

    def _do(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self._send(kind, flags | _ACK, body)
        for _ in self._answers(what):
            pass

    def _answers(self, what: str) -> list[bytes]:
        """Payloads up to the acknowledgement or the end of the dump."""
        found: list[bytes] = []
        while True:
            data = self._sock.recv(262144)
            while data:
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
                payload, data = data[16:length], data[(length + 3) & ~3 :]
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    if number:
                        raise OSError(number, f"{what}: {os.strerror(number)}")
                    return found
                found.append(payload)

    def links(self) -> list[Link]:
        self._send(RTM_GETLINK, _DUMP, _link_header())
        return [_parse_link(payload) for payload in self._answers("list links")]

    def link(self, name: str) -> Link | None:
        self._send(RTM_GETLINK, _ACK, _link_header() + attribute(_IFLA_IFNAME, _text(name)))
        try:
            return _parse_link(self._answers(name)[0])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def add_bridge(self, name: str, mtu: int) -> None:
        info = attribute(_INFO_KIND, _text("bridge"))
        body = _link_header() + attribute(_IFLA_IFNAME, _text(name)) + attribute(_IFLA_MTU, _number(mtu))
        self._do(RTM_NEWLINK, _CREATE | _EXCL, body + attribute(_IFLA_LINKINFO, info), f"add bridge {name}")

    def add_veth(self, name: str, peer: str, peer_namespace_fd: int, master: int, mtu: int) -> None:
        """A pair, both ends down: `name` here on the bridge with index `master`, `peer` in the other namespace."""
        size = attribute(_IFLA_MTU, _number(mtu))
        other = _link_header() + attribute(_IFLA_IFNAME, _text(peer)) + size
        other += attribute(_IFLA_NET_NS_FD, _number(peer_namespace_fd))
        data = attribute(_INFO_DATA, attribute(_VETH_PEER, other))
        info = attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, _text("veth")) + data)
        body = _link_header() + attribute(_IFLA_IFNAME, _text(name)) + size + attribute(_IFLA_MASTER, _number(master))
        self._do(RTM_NEWLINK, _CREATE | _EXCL, body + info, f"add veth {name}")

    def set_up(self, index: int) -> None:
        self._do(RTM_NEWLINK, 0, _link_header(index, IFF_UP, IFF_UP), f"set link {index} up")

    def set_up_name(self, name: str) -> None:
        body = _link_header(0, IFF_UP, IFF_UP) + attribute(_IFLA_IFNAME, _text(name))
        self._do(RTM_NEWLINK, 0, body, f"set {name} up")

    def delete(self, name: str) -> None:
        """Delete a link; one that is not there is fine."""
        try:
            self._do(RTM_DELLINK, 0, _link_header() + attribute(_IFLA_IFNAME, _text(name)), f"delete {name}")
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def add_address(self, index: int, address: IPv4Interface) -> None:
        header = struct.pack("=BBBBI", socket.AF_INET, address.network.prefixlen, 0, 0, index)
        body = header + attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed)
        body += attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
        self._do(RTM_NEWADDR, _CREATE | _EXCL, body, f"add address {address}")

    def addresses(self) -> list[tuple[int, IPv4Interface]]:
        """(link index, address) of every IPv4 address."""
        self._send(RTM_GETADDR, _DUMP, struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0))
        found = []
        for payload in self._answers("list addresses"):
            _, prefix, _, _, index = struct.unpack_from("=BBBBI", payload)
            inner = attributes(payload[8:])
            local = inner.get(_IFA_LOCAL, inner.get(_IFA_ADDRESS))
            if local is not None:
                found.append((index, IPv4Interface((local, prefix))))
        return found

    def add_default_route(self, gateway: IPv4Address, index: int) -> None:
        header = struct.pack(
            "=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTO_STATIC, _SCOPE_UNIVERSE, _TYPE_UNICAST, 0
        )
        body = header + attribute(_RTA_GATEWAY, gateway.packed) + attribute(_RTA_OIF, _number(index))
        self._do(RTM_NEWROUTE, _CREATE | _EXCL, body, f"add default route via {gateway}")

    def routes(self) -> list[tuple[IPv4Network, int]]:
        """(destination, link index) of the IPv4 routes in the main table; the default route is 0.0.0.0/0."""
        self._send(RTM_GETROUTE, _DUMP, struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0))
        found = []
        for payload in self._answers("list routes"):
            _, prefix, _, _, table, _, _, _, _ = struct.unpack_from("=BBBBBBBBI", payload)
            inner = attributes(payload[12:])
            if table == _TABLE_MAIN:
                out = struct.unpack("=I", inner[_RTA_OIF])[0] if _RTA_OIF in inner else 0
                found.append((IPv4Network((inner.get(_RTA_DST, bytes(4)), prefix)), out))
        return found


def _parse_link(payload: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", payload)
    inner = attributes(payload[16:])
    info = attributes(inner.get(_IFLA_LINKINFO, b""))
    master = inner.get(_IFLA_MASTER)
    return Link(
        index=index,
        name=inner.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
        master=struct.unpack("=I", master)[0] if master else 0,
        mtu=struct.unpack("=I", inner[_IFLA_MTU])[0] if _IFLA_MTU in inner else 0,
        up=bool(flags & IFF_UP),
    )
