"""Plain bytes from a plain, gzip'ed or zstd-compressed stream, told apart by their first bytes.

Media types are not asked: registries and archives get them wrong, and the digest of the expanded bytes decides anyway.
Memory is bounded whatever the input says; how many bytes may come out is the reader's business (`unpack.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO, cast

import zstandard

from runtime.images.content import CHUNK_BYTES, Readable
from runtime.images.errors import InvalidContent

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# zstd:chunked layers begin with an ordinary frame, but a skippable one (0x184D2A50 to 5F) is allowed before it.
ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
ZSTD_WINDOW_BYTES = 1 << 27


def compression_of(head: bytes) -> str:
    """`gzip`, `zstd` or `` (none known), from the first bytes of a stream."""
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    if head.startswith(ZSTD_MAGIC) or (head[1:4] == ZSTD_SKIPPABLE and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    return ""


def expand(source: Readable) -> Iterator[bytes]:
    """Chunks of the expanded stream, none of them empty. Raises InvalidContent where the stream is broken."""
    head = b""
    while len(head) < 4 and (data := source.read(CHUNK_BYTES)):
        head += data
    chunks = _chain(head, source)
    match compression_of(head):
        case "gzip":
            return _gunzip(chunks)
        case "zstd":
            return _unzstd(chunks)
        case _:
            return chunks


def _chain(head: bytes, source: Readable) -> Iterator[bytes]:
    if head:
        yield head
    while data := source.read(CHUNK_BYTES):
        yield data


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Several members one after the other are one stream, as pigz and estargz write them."""
    member = zlib.decompressobj(wbits=31)
    started = False
    for chunk in chunks:
        data = chunk
        while data:
            if member.eof:
                member, started = zlib.decompressobj(wbits=31), False
            try:
                out = member.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise InvalidContent(f"gzip stream is broken: {error}") from None
            started = True
            data = member.unused_data if member.eof else member.unconsumed_tail
            if out:
                yield out
        while not member.eof and (out := member.decompress(b"", CHUNK_BYTES)):
            yield out
    if started and not member.eof:
        raise InvalidContent("gzip stream is cut short")


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).stream_reader(
        cast("IO[bytes]", _Reader(chunks)), read_size=CHUNK_BYTES, read_across_frames=True
    )
    try:
        while data := reader.read(CHUNK_BYTES):
            yield data
    except zstandard.ZstdError as error:
        raise InvalidContent(f"zstd stream is broken: {error}") from None


class _Reader:
    """Chunks as something to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, n: int = -1, /) -> bytes:
        data = self._rest or next(self._chunks, b"")
        if 0 <= n < len(data):
            data, self._rest = data[:n], data[n:]
        else:
            self._rest = b""
        return data
