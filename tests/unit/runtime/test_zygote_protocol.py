import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.zygote import protocol
from runtime.zygote.protocol import Frames, ProtocolError, Receiver, encode, send


@given(st.lists(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8))), st.integers(1, 40))
def test_messages_survive_any_cutting(messages, size):
    stream = b"".join(encode(message) for message in messages)
    frames = Frames()
    found = []
    for start in range(0, len(stream), size):
        found += [message for message, _ in frames.feed(stream[start : start + size], [])]
    assert found == messages


def test_descriptors_go_to_the_message_they_came_with():
    frames = Frames()
    stream = encode({"n": 1}, 2) + encode({"n": 2}) + encode({"n": 3}, 1)
    assert frames.feed(stream[:3], [10, 11]) == []
    assert frames.feed(stream[3:], [12]) == [({"n": 1}, [10, 11]), ({"n": 2}, []), ({"n": 3}, [12])]
    assert frames.abandoned() == []


def test_a_message_waits_for_its_descriptors_and_they_can_be_taken_back():
    frames = Frames()
    assert frames.feed(encode({"n": 1}, 2), [10]) == []
    assert frames.abandoned() == [10]


def test_frames_above_the_limit_are_refused_both_ways():
    with pytest.raises(ProtocolError, match="above"):
        encode({"x": "y" * protocol.MAX_FRAME})
    with pytest.raises(ProtocolError, match="above"):
        Frames().feed(b"\xff" * 8, [])


def test_over_a_socket_with_descriptors():
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    with left, right:
        send(left, {"take": "this"}, [writer])
        os.close(writer)
        message, fds = Receiver(right).next()
        assert message == {"take": "this"}
        assert not os.get_inheritable(fds[0])
        os.write(fds[0], b"through")
        os.close(fds[0])
        left.close()
        assert Receiver(right).next() is None
    assert os.read(reader, 100) == b"through"
    os.close(reader)
