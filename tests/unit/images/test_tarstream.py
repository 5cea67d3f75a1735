"""Reading tar: as the standard library writes it, and as an attacker would."""

import io
import tarfile

import pytest

from runtime.images.errors import InvalidContent
from runtime.images.tarstream import TarReader
from tests.unit.images.parts import END, directory, entry, layer, records


def read(data, step=None):
    """Entries with their data; `step`: chunk size of the stream."""
    step = step or len(data) or 1
    reader = TarReader(iter([data[at : at + step] for at in range(0, len(data), step)]))
    found = []
    for item in reader:
        content = b""
        while piece := reader.read(700):
            content += piece
        found.append((item, content))
    return found


def standard(fmt):
    """The same tree in each format that the standard library can write."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as archive:
        for name, kind, data in (("d", tarfile.DIRTYPE, b""), ("d/" + "n" * 90, b"0", b"x" * 5000), ("e", b"0", b"")):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mode, info.uid, info.mtime = kind, len(data), 0o4755, 1234, 99
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("l")
        info.type, info.linkname = tarfile.SYMTYPE, "t" * 90
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("step", [None, 1, 511, 513, 4096])
def test_formats_and_chunk_sizes(fmt, step):
    found = read(standard(fmt), step)
    assert [item.name for item, _ in found] == [b"d/", b"d/" + b"n" * 90, b"e", b"l"] or [
        item.name for item, _ in found
    ] == [b"d", b"d/" + b"n" * 90, b"e", b"l"]
    assert [content for _, content in found] == [b"", b"x" * 5000, b"", b""]
    assert [item.type for item, _ in found] == [b"5", b"0", b"0", b"2"]
    assert found[1][0].mode == 0o4755 and found[1][0].uid == 1234 and found[1][0].mtime_ns == 99_000_000_000
    assert found[3][0].link == b"t" * 90


@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_big_numbers(fmt):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as archive:
        info = tarfile.TarInfo("p/" * 200 + "größe")
        info.type, info.linkname, info.uid = tarfile.SYMTYPE, "q/" * 200, 3_000_000_000
        archive.addfile(info)
    ((item, _),) = read(buffer.getvalue())
    assert item.name == ("p/" * 200 + "größe").encode() and item.link == b"q/" * 200 and item.uid == 3_000_000_000


def test_pax_values():
    pax = {"mtime": "12.5", "uid": "7", "gid": "8", "SCHILY.xattr.user.k": b"a=b\n\0c", "comment": "x"}
    ((item, _),) = read(layer(entry("f", pax=pax)))
    assert (item.mtime_ns, item.uid, item.gid) == (12_500_000_000, 7, 8)
    assert item.xattrs == {b"user.k": b"a=b\n\0c"}


def test_pax_size_overrides():
    ((item, content),) = read(layer(entry("f", b"abc", size=0, pax={"size": "3"})))
    assert item.size == 3 and content == b"abc"


def test_negative_time():
    ((item, _),) = read(layer(entry("f", pax={"mtime": "-1.5"})))
    assert item.mtime_ns == -1_500_000_000
    ((item, _),) = read(layer(entry("f", mtime=-3)))
    assert item.mtime_ns == -3_000_000_000


def test_skips_what_is_not_read():
    reader = TarReader(iter([layer(entry("a", b"x" * 3000), entry("b", b"y"))]))
    assert [item.name for item in reader] == [b"a", b"b"]


def test_global_headers_are_comments():
    found = read(layer(entry("g", records({"path": "evil", "comment": "c"}), type=b"g"), entry("real")))
    assert [item.name for item, _ in found] == [b"real"]


def test_old_style_directory():
    ((item, _),) = read(layer(entry("dir/", type=b"\0")))
    assert item.type == b"5"


def test_empty_and_missing_end():
    assert read(b"") == []
    assert read(END) == []
    assert len(read(entry("a"))) == 1


HOSTILE = {
    "not a tar": (b"<html>" * 200, "checksum"),
    "checksum": (layer(entry("a", sum=1)), "checksum"),
    "cut in header": (entry("a")[:300], "cut short"),
    "cut in data": (entry("a", b"x" * 600)[:1000], "middle of a file"),
    "cut in padding": (entry("a", b"x")[:600], "cut short"),
    "negative size": (layer(entry("a", size=-5)), "negative"),
    "negative uid": (layer(entry("a", uid=-1)), "negative"),
    "size that is not there": (layer(entry("a", size=1 << 60)), "middle of a file"),
    "not octal": (layer(entry("a", size=b"99999999999\0")), "as its size"),
    "long name of a gigabyte": (entry("L", type=b"L", size=1 << 30), "extension header"),
    "negative long name": (entry("L", type=b"L", size=-1), "extension header"),
    "pax of a gigabyte": (entry("x", type=b"x", size=1 << 30), "extension header"),
    "pax without newline": (layer(entry("x", b"9 abc=def", type=b"x")), "PAX"),
    "pax length beyond": (layer(entry("x", b"99 abc=def\n", type=b"x")), "PAX"),
    "pax length zero": (layer(entry("x", b"0 a=b\n", type=b"x")), "PAX"),
    "pax without length": (layer(entry("x", b"abc=def\n", type=b"x")), "PAX"),
    "pax without equals": (layer(entry("x", b"6 abc\n", type=b"x")), "PAX"),
    "pax negative size": (layer(entry("a", pax={"size": "-1"})), "size"),
    "pax endless size": (layer(entry("a", pax={"size": "9" * 5000})), "size"),
    "pax strange time": (layer(entry("a", pax={"mtime": "1e9"})), "mtime"),
    "pax zero byte": (layer(entry("a", pax={"path": b"a\0b"})), "zero byte"),
    "sparse by GNU": (layer(entry("a", type=b"S")), "sparse"),
    "sparse by PAX": (layer(entry("a", pax={"GNU.sparse.major": "1"})), "sparse"),
    "unknown type": (layer(entry("a", type=b"Z")), "unknown type"),
    "many extension headers": (layer(*[entry("x", records({"a": "b"}), type=b"x")] * 20), "extension headers"),
    "ends after an extension": (layer(entry("x", records({"path": "b"}), type=b"x")), "after an extension"),
    "goes on after zeros": (bytes(512) + layer(entry("a")), "block of zeros"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(name):
    data, match = HOSTILE[name]
    with pytest.raises(InvalidContent, match=match):
        read(data)


def test_directory_has_no_data():
    found = read(layer(directory("d/", size=512), entry("f", b"x")))
    assert [content for _, content in found] == [b"", b"x"]
