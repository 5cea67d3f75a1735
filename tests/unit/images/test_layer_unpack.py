"""Layers, honest and hostile, against the extractor. Beside the target lies a canary that no layer may touch."""

import gzip
import io
import os
import stat

import pytest
import zstandard

from runtime.images.errors import Exhausted, ImageError, InvalidContent
from runtime.images.unpack import Limits, unpack
from tests.unit.images.parts import digest, directory, entry, hardlink, layer, symlink

pytestmark = pytest.mark.root

OPAQUE = "trusted.overlay.opaque"


class Host:
    """A target, and around it a host that must stay as it is."""

    def __init__(self, tmp_path):
        self.target = tmp_path / "images" / "fs"
        self.target.mkdir(parents=True)
        self.lower = tmp_path / "lower"
        self.lower.mkdir()
        self.canary = tmp_path / "canary"
        self.canary.mkdir()
        (self.canary / "secret").write_text("untouched")
        os.chmod(self.canary / "secret", 0o600)
        self.before = self.state()

    def state(self):
        found = {}
        for folder, folders, names in os.walk(self.canary):
            for name in (*folders, *names, "."):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                found[path] = (status.st_mode, status.st_uid, status.st_nlink, status.st_ino, os.listxattr(path))
        return found, (self.canary / "secret").read_text(), sorted(os.listdir(self.canary.parent))

    def unpack(self, data, **more):
        return unpack(io.BytesIO(data), self.target, **more)

    def __truediv__(self, name):
        return self.target / name

    def check(self):
        assert self.state() == self.before, "the layer touched the host"


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.check()


def is_whiteout(path):
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path):
    return OPAQUE in os.listxattr(path) and os.getxattr(path, OPAQUE) == b"y"


def test_an_honest_layer(host):
    data = layer(
        directory("./", mode=0o755),
        directory("usr/", mode=0o711, uid=1, gid=2, mtime=1000),
        entry("usr/tool", b"#!/bin/sh\n", mode=0o4755, uid=1000, gid=1001, mtime=77, pax={"mtime": "77.25"}),
        symlink("usr/link", "tool", uid=5, gid=6, mtime=88),
        hardlink("usr/other", "usr/tool"),
        entry("with space ü", b"x"),
        directory("tmp/", mode=0o1777),
    )
    result = host.unpack(data, diff_id=digest(data))
    assert (result.diff_id, result.size, result.entries) == (digest(data), len(data), 7)
    usr, tool, link = os.lstat(host / "usr"), os.lstat(host / "usr/tool"), os.lstat(host / "usr/link")
    assert (stat.S_IMODE(usr.st_mode), usr.st_uid, usr.st_gid, usr.st_mtime) == (0o711, 1, 2, 1000)
    assert (stat.S_IMODE(tool.st_mode), tool.st_uid, tool.st_gid) == (0o4755, 1000, 1001)
    assert tool.st_mtime_ns == 77_250_000_000
    assert (link.st_uid, link.st_gid, link.st_mtime) == (5, 6, 88) and os.readlink(host / "usr/link") == "tool"
    assert os.stat(host / "usr/other").st_ino == tool.st_ino and tool.st_nlink == 2
    assert (host / "usr/tool").read_bytes() == b"#!/bin/sh\n" and (host / "with space ü").read_text() == "x"
    assert stat.S_IMODE(os.stat(host / "tmp").st_mode) == 0o1777


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_compression(host, compress):
    data = layer(entry("f", b"x" * 100_000))
    assert host.unpack(compress(data), diff_id=digest(data)).size == len(data)
    assert (host / "f").stat().st_size == 100_000


def test_an_empty_layer(host):
    assert host.unpack(layer()).entries == 0
    assert host.unpack(b"").entries == 0


def test_wrong_diff_id(host):
    with pytest.raises(InvalidContent, match="promises"):
        host.unpack(layer(entry("f")), diff_id=digest(b"other"))


def test_bytes_after_the_end_count_for_the_digest(host):
    data = layer(entry("f")) + b"more"
    assert host.unpack(data, diff_id=digest(data)).size == len(data)
    with pytest.raises(InvalidContent, match="promises"):
        host.unpack(data, diff_id=digest(data[:-4]))


# Whiteouts.


def test_whiteouts_take_overlay_form(host):
    host.unpack(layer(directory("etc/"), entry("etc/.wh.passwd"), entry(".wh.gone"), entry("var/.wh..wh..opq")))
    assert is_whiteout(host / "etc/passwd") and is_whiteout(host / "gone")
    assert is_opaque(host / "var") and not is_opaque(host / "etc")
    assert os.listdir(host / "var") == []


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_hides_only_lower_layers(host, first):
    entries = [entry(".wh.file"), entry("file", b"new")]
    host.unpack(layer(*(entries if first else reversed(entries))))
    assert (host / "file").read_text() == "new"


@pytest.mark.parametrize("first", [True, False])
def test_a_directory_in_place_of_a_removed_one_is_opaque(host, first):
    entries = [entry(".wh.dir"), directory("dir/", mode=0o750)]
    host.unpack(layer(*(entries if first else reversed(entries)), entry("dir/new")))
    assert is_opaque(host / "dir") and os.listdir(host / "dir") == ["new"]
    assert stat.S_IMODE(os.stat(host / "dir").st_mode) == 0o750


def test_an_implicit_directory_over_a_whiteout_is_opaque(host):
    host.unpack(layer(entry(".wh.dir"), entry("dir/new")))
    assert is_opaque(host / "dir") and stat.S_IMODE(os.stat(host / "dir").st_mode) == 0o755


def test_an_opaque_root_is_reported(host):
    assert host.unpack(layer(entry(".wh..wh..opq"))).opaque


def test_a_whiteout_node_as_a_node(host):
    host.unpack(layer(entry("gone", type=b"3", device=(0, 0))))
    assert is_whiteout(host / "gone")


def test_aufs_bookkeeping_is_ignored(host):
    host.unpack(layer(entry(".wh..wh.aufs"), directory(".wh..wh.plnk/"), entry(".wh..wh.plnk/1.2", b"x")))
    assert os.listdir(host.target) == []


# What layers leave unsaid comes from below.


def test_missing_directories_look_like_those_below(host):
    (host.lower / "tmp").mkdir()
    os.chown(host.lower / "tmp", 3, 4)
    os.chmod(host.lower / "tmp", 0o1777)
    host.unpack(layer(entry("tmp/a/b")), lowers=[host.lower])
    status = os.stat(host / "tmp")
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1777, 3, 4)
    assert stat.S_IMODE(os.stat(host / "tmp/a").st_mode) == 0o755


def test_what_is_below_is_looked_up_without_links(host):
    os.symlink(host.canary, host.lower / "tmp")
    os.chmod(host.canary, 0o700)
    host.before = host.state()
    host.unpack(layer(entry("tmp/a")), lowers=[host.lower])
    assert stat.S_IMODE(os.stat(host / "tmp").st_mode) == 0o755


# Attributes.


def test_attributes_are_filtered(host):
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    host.unpack(
        layer(
            entry(
                "f",
                pax={
                    "SCHILY.xattr.security.capability": capability,
                    "SCHILY.xattr.user.note": "kept",
                    "SCHILY.xattr.security.selinux": "evil",
                    "SCHILY.xattr.security.ima": "evil",
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                    "SCHILY.xattr.trusted.other": "evil",
                    "SCHILY.xattr.user.overlay.redirect": "/etc",
                    "SCHILY.xattr.system.posix_acl_access": "evil",
                },
            ),
            directory(
                "d/", pax={"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y"}
            ),
        )
    )
    assert sorted(os.listxattr(host / "f")) == ["security.capability", "user.note"]
    assert os.getxattr(host / "f", "security.capability") == capability
    assert os.listxattr(host / "d") == []


def test_device_nodes_below_dev_are_left_out(host):
    result = host.unpack(
        layer(directory("dev/"), entry("dev/null", type=b"3", device=(1, 3)), entry("dev/initctl", type=b"6"))
    )
    assert result.skipped == ["dev/null", "dev/initctl"] and os.listdir(host / "dev") == []


# Order and replacement.


def test_duplicates_change_type(host):
    host.unpack(
        layer(
            entry("a", b"file"),
            directory("a/"),
            entry("a/inner", b"x"),
            symlink("a", "elsewhere"),
            entry("a", b"again"),
            hardlink("b", "a"),
            entry("a", b"third"),
        )
    )
    assert (host / "a").read_text() == "third" and (host / "b").read_text() == "again"


def test_a_directory_again_keeps_its_contents(host):
    host.unpack(layer(directory("d/"), entry("d/x"), directory("d/", mode=0o700)))
    assert os.listdir(host / "d") == ["x"] and stat.S_IMODE(os.stat(host / "d").st_mode) == 0o700


def test_links_inside_the_root_lead_where_a_chroot_would(host):
    host.unpack(
        layer(
            symlink("lib", "usr/lib"),
            symlink("abs", "/usr/lib"),
            symlink("up", "../../../usr"),
            symlink("chain", "up/lib"),
            directory("usr/"),
            directory("usr/lib/"),
            entry("lib/one"),
            entry("abs/two"),
            entry("up/three"),
            entry("chain/four"),
            hardlink("five", "lib/one"),
            entry("lib/.wh.six"),
        )
    )
    assert sorted(os.listdir(host / "usr/lib")) == ["four", "one", "six", "two"]
    assert os.path.exists(host / "usr/three") and os.stat(host / "five").st_nlink == 2


def test_absolute_names_start_at_the_root(host):
    host.unpack(layer(entry("/etc/x", b"1"), hardlink("/y", "/etc/x"), entry("//./z//w", b"2")))
    assert (host / "y").read_text() == "1" and (host / "z/w").read_text() == "2"


def test_many_directories_do_not_exhaust_descriptors(host):
    host.unpack(layer(*[entry(f"d{number}/a/b/f") for number in range(400)], hardlink("d0/a/again", "d399/a/b/f")))
    assert len(os.listdir(host.target)) == 400 and os.stat(host / "d0/a/again").st_nlink == 2


# Hostile layers: refused, or harmless; never outside.

UP = "../" * 12


def hostile(canary):
    secret, folder = f"{canary}/secret", str(canary)
    return {
        "dot-dot": [entry("../evil", b"x")],
        "dot-dot inside": [directory("a/"), entry("a/../../evil", b"x")],
        "dot-dot to the canary": [entry(UP + secret, b"x")],
        "dot-dot in pax": [entry("a", b"x", pax={"path": UP + secret})],
        "dot-dot directory": [directory("..", mode=0o777)],
        "dot-dot link name": [symlink("../evil", "x")],
        "dot-dot hard link target": [hardlink("a", UP + secret)],
        "hard link to the host": [hardlink("a", secret)],
        "hard link through a link": [symlink("d", folder), hardlink("a", "d/secret")],
        "hard link to a directory": [directory("d/"), hardlink("a", "d")],
        "hard link to the root": [hardlink("a", "/")],
        "hard link to nothing": [hardlink("a", "missing")],
        "hard link to a whiteout": [entry(".wh.w"), hardlink("a", "w")],
        "hard link to an empty name": [hardlink("a", "")],
        "whiteout of the root": [entry(".wh.")],
        "whiteout of dot": [entry(".wh..")],
        "whiteout of dot-dot": [entry(".wh...")],
        "whiteout of dot-dot below": [directory("d/"), entry("d/.wh...")],
        "whiteout as a directory": [entry(".wh.d/x")],
        "block device": [entry("disk", type=b"4", device=(8, 0))],
        "character device": [entry("mem", type=b"3", device=(1, 1))],
        "whiteout-like block device": [entry("b", type=b"4", device=(0, 0))],
        "pipe": [entry("pipe", type=b"6")],
        "device behind a link from dev": [symlink("x", "dev"), entry("x/mem", type=b"3", device=(1, 1))],
        "file as the root": [entry("./", b"", type=b"0", pax={"path": "/"}), entry(".", b"x")],
        "link as the root": [symlink(".", folder)],
        "file used as a directory": [entry("f", b"x"), entry("f/g", b"y")],
        "link loop": [symlink("a", "b"), symlink("b", "a"), entry("a/x")],
        "long link chain": [
            *[symlink(f"l{n}", f"l{n + 1}") for n in range(50)],
            directory("l50/"),
            entry("l0/x"),
        ],
        "deep": [entry("d/" * 300 + "f")],
        "deep through links": [symlink("l", "d/" * 200), symlink("l/m", "e/" * 200), entry("l/m/f")],
        "name too long": [entry("n" * 300, b"x")],
        "empty link": [symlink("a", "")],
        "uid -1": [entry("a", uid=(1 << 32) - 1)],
        "uid of 64 bits": [entry("a", uid=1 << 40)],
        "gid of 64 bits": [entry("a", pax={"gid": str(1 << 63)})],
        "size that is not there": [entry("a", size=1 << 40)],
    }


# These are not errors: they stay inside.


def harmless(canary):
    secret, folder = f"{canary}/secret", str(canary)
    return {
        "file through a link": [symlink("d", folder), entry("d/secret", b"x")],
        "file through a relative link": [symlink("d", UP + folder), entry("d/secret", b"x")],
        "file over a link": [symlink("f", secret), entry("f", b"x", mode=0o777)],
        "directory over a link": [symlink("d", folder), directory("d/", mode=0o777), entry("d/new", b"x")],
        "link over a directory, then a file": [
            directory("d/"), entry("d/a"), symlink("d", folder), entry("d/secret", b"x"),
        ],
        "link over a used directory's parent": [
            directory("p/"), directory("p/d/"), entry("p/d/a"), symlink("p", folder), entry("p/d/secret", b"x"),
        ],
        "whiteout through a link": [symlink("d", folder), entry("d/.wh.secret")],
        "opaque through a link": [symlink("d", folder), entry("d/.wh..wh..opq")],
        "link through a link": [symlink("d", folder), symlink("d/new", "x")],
        "hard link to a link, then mode": [symlink("l", secret), hardlink("h", "l", mode=0o777, uid=5)],
        "hard link to itself": [entry("a", b"x"), hardlink("a", "a")],
        "owner through a hard link to a link": [symlink("l", secret), hardlink("h", "l"), entry("h", b"x", uid=7)],
        "attributes through a link": [symlink("l", folder), entry("l/secret", pax={"SCHILY.xattr.user.x": "y"})],
        "times through a link": [symlink("l", folder), directory("l/", mtime=1)],
        "implicit directory through a link": [symlink("d", folder), entry("d/new/f", b"x")],
        "link to proc": [symlink("d", "/proc/self/fd"), entry("d/0", b"x")],
        "times beyond all file systems": [entry("a", pax={"mtime": "9" * 19}), directory("d/", mtime=-(1 << 60))],
        "not text": [entry(b"\xff\xfe", b"x"), symlink(b"l\xff", b"\xff\xfe")],
    }  # fmt: skip


def names(table):
    return sorted(table("/canary"))


@pytest.mark.parametrize("name", names(hostile))
def test_hostile_layer_is_refused(host, name):
    with pytest.raises(ImageError):
        host.unpack(layer(*hostile(host.canary)[name]))


@pytest.mark.parametrize("name", names(harmless))
def test_hostile_layer_stays_inside(host, name):
    host.unpack(layer(*harmless(host.canary)[name]))
    host.check()


def test_errors_name_the_entry(host):
    with pytest.raises(InvalidContent, match=r"layer entry 'a/\.\./b'.*leads upwards"):
        host.unpack(layer(entry("a/../b")))


# Bombs.


def test_bytes_are_capped(host):
    with pytest.raises(Exhausted, match="expands to more than 1048576 bytes"):
        host.unpack(gzip.compress(layer(entry("f", bytes(1 << 22)))), limits=Limits(layer_bytes=1 << 20))
    assert sum(path.stat().st_size for path in host.target.iterdir()) <= 1 << 20


def test_bytes_after_the_end_are_capped(host):
    with pytest.raises(Exhausted):
        host.unpack(gzip.compress(layer(entry("f")) + bytes(1 << 22)), limits=Limits(layer_bytes=1 << 20))


def test_entries_are_capped(host):
    with pytest.raises(Exhausted, match="more than 10 entries"):
        host.unpack(layer(*[entry(f"f{number}") for number in range(11)]), limits=Limits(layer_entries=10))
    assert len(os.listdir(host.target)) == 10


def test_stops_before_the_disk_is_full(host):
    with pytest.raises(Exhausted, match="are free"):
        host.unpack(layer(entry("f")), limits=Limits(free_bytes=1 << 62))


def test_no_descriptor_is_left_open(host):
    before = len(os.listdir("/proc/self/fd"))
    host.unpack(layer(directory("d/"), entry("d/f")))
    with pytest.raises(ImageError):
        host.unpack(layer(directory("e/"), entry("e/f"), entry("../x")))
    assert len(os.listdir("/proc/self/fd")) == before
