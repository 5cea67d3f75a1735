"""Reads a tar stream, entry by entry, trusting nothing in it.

ustar, GNU long names and PAX records, as image tools write them. Unlike the standard library's reader it bounds every
header (a long name of 100 GB is an error, not an allocation), refuses negative numbers, keeps names as bytes, and
refuses what it does not understand. What an entry may do to a file system is decided in `unpack.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime.images.errors import InvalidContent

BLOCK = 512
FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
EXTENSION_LIMIT_BYTES = 1 << 20
EXTENSIONS_LIMIT = 16
XATTR_PREFIX = b"SCHILY.xattr."
# Type bytes that mean an ordinary file: old V7, ustar, and the reserved "contiguous file".
_FILE_TYPES = {b"\0", b"0", b"7"}
_HEADER_ONLY = {HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO}


@dataclass
class Entry:
    """One header. `name` and `link` are as in the stream, not normalised; times are nanoseconds since 1970."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The name for people."""
        return self.name[:200].decode("utf-8", "backslashreplace")


class TarReader:
    """Entries of a stream of chunks; data of an entry is read before the next entry is asked for, or skipped."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._data_left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def read(self, n: int = -1, /) -> bytes:
        """At most n bytes of the current entry's data; b"" at its end."""
        want = self._data_left if n < 0 else min(n, self._data_left)
        data = self._some(want) if want else b""
        if want and not data:
            raise InvalidContent("tar stream ends in the middle of a file")
        self._data_left -= len(data)
        return data

    def drain(self) -> None:
        """Reads to the end of the stream whatever follows the last entry."""
        self._chunk = b""
        for _ in self._chunks:
            pass

    def _next(self) -> Entry | None:
        extended: dict[bytes, bytes] = {}
        xattrs: dict[bytes, bytes] = {}
        for _ in range(EXTENSIONS_LIMIT):
            header = self._header()
            if header is None:
                if extended or xattrs:
                    raise InvalidContent("tar stream ends after an extension header")
                return None
            kind = header[156:157]
            if kind in (b"x", b"g", b"L", b"K"):
                data = self._extension(header)
                if kind == b"L":
                    extended[b"path"] = data.split(b"\0", 1)[0]
                elif kind == b"K":
                    extended[b"linkpath"] = data.split(b"\0", 1)[0]
                elif kind == b"x":
                    for key, value in pax_records(data):
                        if key.startswith(XATTR_PREFIX):
                            xattrs[key[len(XATTR_PREFIX) :]] = value
                        else:
                            extended[key] = value
                # A global header ("g") carries comments in practice, and no image tool obeys more of it.
                continue
            entry = _entry(header, extended, xattrs)
            self._data_left = entry.size
            self._padding = -entry.size % BLOCK
            return entry
        raise InvalidContent(f"tar stream has more than {EXTENSIONS_LIMIT} extension headers for one entry")

    def _header(self) -> bytes | None:
        self._skip_data()
        header = self._exactly(BLOCK, at_end_none=True)
        if header is None:
            return None
        if not any(header):
            second = self._exactly(BLOCK, at_end_none=True)
            if second is not None and any(second):
                raise InvalidContent("tar stream goes on after a block of zeros")
            return None
        _verify_checksum(header)
        return header

    def _extension(self, header: bytes) -> bytes:
        size = _number(header[124:136], "size")
        if not 0 <= size <= EXTENSION_LIMIT_BYTES:
            raise InvalidContent(f"tar extension header of {size} bytes; at most {EXTENSION_LIMIT_BYTES} are accepted")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data or b""

    def _skip_data(self) -> None:
        while self._data_left:
            self.read(1 << 20)
        self._exactly(self._padding)
        self._padding = 0

    def _some(self, n: int) -> bytes:
        """Between 1 and n bytes, or b"" at the end."""
        if self._at >= len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        if self._at == 0 and len(self._chunk) <= n:
            data, self._chunk = self._chunk, b""
            return data
        data = self._chunk[self._at : self._at + n]
        self._at += len(data)
        return data

    def _exactly(self, n: int, at_end_none: bool = False) -> bytes | None:
        data = self._some(n) if n else b""
        if len(data) == n:
            return data
        if not data and at_end_none:
            return None
        while data and len(data) < n and (more := self._some(n - len(data))):
            data += more
        if len(data) < n:
            raise InvalidContent("tar stream is cut short")
        return data


def pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """`<length> <key>=<value>\\n` records; the length counts itself."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 10)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise InvalidContent("tar stream has a broken PAX record")
        end = at + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(data) or not record.endswith(b"\n") or not equals or not key:
            raise InvalidContent("tar stream has a broken PAX record")
        yield key, value
        at = end


def _entry(header: bytes, extended: dict[bytes, bytes], xattrs: dict[bytes, bytes]) -> Entry:
    if any(key.startswith(b"GNU.sparse.") for key in extended) or header[156:157] == b"S":
        raise InvalidContent("tar stream has a sparse file, which no image format allows")
    kind = header[156:157]
    name = _text(header[0:100])
    # Only POSIX ustar has a name prefix there; GNU tar puts times at the same place.
    if header[257:265] == b"ustar\x0000" and (prefix := _text(header[345:500])):
        name = prefix + b"/" + name
    name = extended.get(b"path", name)
    if kind in _FILE_TYPES:
        kind = DIRECTORY if name.endswith(b"/") else FILE
    elif kind not in _HEADER_ONLY:
        raise InvalidContent(f"tar entry {name[:200]!r} has the unknown type {kind!r}")
    size = 0 if kind in _HEADER_ONLY else _extended_number(extended, b"size", header[124:136])
    entry = Entry(
        name=name,
        type=kind,
        mode=_number(header[100:108], "mode"),
        uid=_extended_number(extended, b"uid", header[108:116]),
        gid=_extended_number(extended, b"gid", header[116:124]),
        size=size,
        mtime_ns=_mtime_ns(extended, header[136:148]),
        link=extended.get(b"linkpath", _text(header[157:257])),
        device=(0, 0),
        xattrs=xattrs,
    )
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.device = (_number(header[329:337], "device"), _number(header[337:345], "device"))
    if min(entry.size, entry.mode, entry.uid, entry.gid, *entry.device) < 0:
        raise InvalidContent(f"tar entry {entry.text!r} has a negative number in its header")
    if b"\0" in name or b"\0" in entry.link:
        raise InvalidContent(f"tar entry {entry.text!r} has a zero byte in its name")
    return entry


def _verify_checksum(header: bytes) -> None:
    expected = _number(header[148:156], "checksum")
    blank = header[:148] + b" " * 8 + header[156:]
    found = sum(blank)
    if found != expected and found - 256 * sum(byte > 127 for byte in blank) != expected:
        raise InvalidContent("tar header has a wrong checksum: this is not a tar stream, or it is broken")


def _text(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _number(raw: bytes, what: str) -> int:
    """Octal digits, or GNU's base 256 with the top bit set; two's complement, so possibly negative."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") & ~(0x80 << 8 * (len(raw) - 1))
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    digits = _text(raw).strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise InvalidContent(f"tar header has {digits!r} as its {what}") from None


def _extended_number(extended: dict[bytes, bytes], key: bytes, raw: bytes) -> int:
    value = extended.get(key)
    if value is None:
        return _number(raw, key.decode())
    if not value.isdigit() or len(value) > 20:
        raise InvalidContent(f"tar header has {value[:40]!r} as its {key.decode()}")
    return int(value)


def _mtime_ns(extended: dict[bytes, bytes], raw: bytes) -> int:
    value = extended.get(b"mtime")
    if value is None:
        return _number(raw, "mtime") * 1_000_000_000
    seconds, _, fraction = value.partition(b".")
    if not seconds.removeprefix(b"-").isdigit() or len(seconds) > 20 or not (fraction + b"0").isdigit():
        raise InvalidContent(f"tar header has {value[:40]!r} as its mtime")
    nanoseconds = int((fraction + b"0" * 9)[:9])
    whole = int(seconds) * 1_000_000_000
    return whole - nanoseconds if seconds.startswith(b"-") else whole + nanoseconds
