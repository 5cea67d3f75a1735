import errno
import os
import socket
import struct
import threading
from ipaddress import IPv4Interface

import pytest

from runtime.linux import netlink
from runtime.linux.netlink import Link, Route, attribute, attributes


def test_attributes_are_padded_and_found_again():
    data = attribute(3, b"abc\0") + attribute(5, b"x") + attribute(0x8000 | 6, b"nested")
    assert len(data) % 4 == 0
    assert attributes(data) == {3: b"abc\0", 5: b"x", 6: b"nested"}
    assert attributes(b"\1\0\0\0rubbish") == {}


class Kernel:
    """Answers on the other end of a socket pair as scripted: one list of messages for each request."""

    def __init__(self, *answers):
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.requests = []
        self.thread = threading.Thread(target=self.serve, args=(answers,))
        self.thread.start()

    def serve(self, answers):
        for answer in answers:
            data = self.theirs.recv(65536)
            _, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data)
            self.requests.append((kind, flags, data[16:]))
            for kind, payload in answer:
                self.theirs.send(struct.pack("=IHHII", 16 + len(payload), kind, 0, sequence, 0) + payload)

    def close(self):
        self.thread.join()
        self.theirs.close()


def acknowledged(number=0):
    return (2, struct.pack("=i", -number) + bytes(16))


def link_payload(index, name, kind):
    header = struct.pack("=BxHiII", 0, 0, index, netlink.IFF_UP, 0)
    info = attribute(1, kind.encode() + b"\0")
    mtu = attribute(4, struct.pack("=I", 1400))
    return header + attribute(3, name.encode() + b"\0") + mtu + attribute(18, info)


def test_a_dump_of_links():
    kernel = Kernel([(16, link_payload(7, "br0", "bridge")), (16, link_payload(8, "v1", "veth")), (3, bytes(4))])
    with Route(kernel.ours) as route:
        links = route.links()
    kernel.close()
    assert links[0] == Link(index=7, name="br0", kind="bridge", master=0, mtu=1400, up=True)
    assert [link.name for link in links] == ["br0", "v1"]


def test_a_link_that_is_not_there():
    kernel = Kernel([acknowledged(errno.ENODEV)], [acknowledged(errno.ENODEV)])
    with Route(kernel.ours) as route:
        assert route.link("nosuch") is None
        route.delete("nosuch")
    kernel.close()


def test_errors_carry_the_kernels_number_and_what_was_tried():
    kernel = Kernel([acknowledged(errno.EEXIST)])
    with Route(kernel.ours) as route, pytest.raises(FileExistsError, match=r"add address 10\.0\.0\.2/24: File exists"):
        route.add_address(3, IPv4Interface("10.0.0.2/24"))
    kernel.close()


def test_a_veth_pair_is_one_message_with_its_peer_inside():
    kernel = Kernel([acknowledged()])
    with Route(kernel.ours) as route:
        route.add_veth("outer", "eth0", 55, 4, 1400)
    kernel.close()
    kind, flags, body = kernel.requests[0]
    assert (kind, flags & 0x600) == (netlink.RTM_NEWLINK, 0x600)
    outer = attributes(body[16:])
    assert outer[3] == b"outer\0"
    assert outer[10] == struct.pack("=I", 4)
    info = attributes(outer[18])
    assert info[1] == b"veth\0"
    peer = attributes(attributes(info[2])[1][16:])
    assert peer[3] == b"eth0\0"
    assert peer[28] == struct.pack("=I", 55)


def test_the_real_kernel_knows_loopback():
    with Route() as route:
        link = route.link("lo")
        assert link is not None and link.index == socket.if_nametoindex("lo")
        assert "lo" in [each.name for each in route.links()]
        assert route.link(f"no{os.getpid()}") is None
