"""Expanding: by the first bytes, over member boundaries, in bounded memory."""

import gzip
import io
import random
import tracemalloc

import pytest
import zstandard

from runtime.images.compression import compression_of, expand
from runtime.images.errors import InvalidContent

DATA = random.Random(1).randbytes(200_000) + bytes(1_000_000)
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"abcde"

FORMS = {
    "plain": DATA,
    "empty": b"",
    "short": b"ab",
    "gzip": gzip.compress(DATA),
    "gzip of nothing": gzip.compress(b""),
    "gzip members": gzip.compress(DATA[:1000]) + gzip.compress(b"") + gzip.compress(DATA[1000:]),
    "zstd": zstandard.compress(DATA),
    "zstd frames": zstandard.compress(DATA[:1000]) + zstandard.compress(DATA[1000:]),
    "zstd chunked": zstandard.compress(DATA) + SKIPPABLE,
    "zstd after skippable": SKIPPABLE + zstandard.compress(DATA),
}
EXPECTED = {"empty": b"", "short": b"ab", "gzip of nothing": b""}


class Dribble(io.BytesIO):
    """Gives a few bytes at a time, as a network may."""

    def read(self, n=-1, /):
        return super().read(min(n, 777))


@pytest.mark.parametrize("kind", [io.BytesIO, Dribble])
@pytest.mark.parametrize("name", FORMS)
def test_expanded(name, kind):
    assert b"".join(expand(kind(FORMS[name]))) == EXPECTED.get(name, DATA)


BROKEN = {
    "gzip cut": gzip.compress(DATA)[:-20],
    "gzip flipped": gzip.compress(DATA)[:5000] + b"\xff" + gzip.compress(DATA)[5001:],
    "gzip and rubbish": gzip.compress(DATA) + b"rubbish",
    "zstd flipped": zstandard.compress(DATA)[:4] + b"\xff\xff" + zstandard.compress(DATA)[6:],
    "zstd huge window": b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(50),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name):
    with pytest.raises(InvalidContent):
        for _ in expand(io.BytesIO(BROKEN[name])):
            pass


@pytest.mark.parametrize("bomb", [gzip.compress(bytes(1 << 26)), zstandard.compress(bytes(1 << 26))], ids=["gz", "zst"])
def test_a_bomb_stays_small_in_memory(bomb):
    tracemalloc.start()
    try:
        assert sum(len(chunk) for chunk in expand(io.BytesIO(bomb))) == 1 << 26
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_told_by_the_first_bytes():
    assert compression_of(gzip.compress(b"")) == "gzip"
    assert compression_of(zstandard.compress(b"")) == "zstd"
    assert compression_of(b"ustar") == "" == compression_of(b"")
