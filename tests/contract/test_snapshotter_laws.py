"""What every Snapshotter promises, on real file systems: needs root."""

import os
import pathlib
import stat

import pytest

from runtime.linux import constants as c
from runtime.linux.kernel import RealKernel
from runtime.snapshots.copy import CopySnapshotter
from runtime.snapshots.interface import SnapshotError
from runtime.snapshots.overlay import OverlaySnapshotter

pytestmark = pytest.mark.root

KERNEL = RealKernel()


class OldKernelOverlay(OverlaySnapshotter):
    """Overlay as on kernels before 6.5, which mount it by mount(2) only."""

    def __init__(self, kernel, directory):
        super().__init__(kernel, directory)
        self._modern = False


@pytest.fixture(params=[OverlaySnapshotter, OldKernelOverlay, CopySnapshotter])
def snapshots(request, tmp_path):
    return request.param(KERNEL, tmp_path / "snapshots")


@pytest.fixture
def layers(tmp_path):
    """Three layers, lowest first: `kept`, `changed`, `gone` (whited out), `dir` (made opaque), `link`."""
    paths = [tmp_path / f"layer-{n}" for n in range(3)]
    for path in paths:
        path.mkdir()
    (paths[0] / "kept").write_text("low")
    (paths[0] / "kept").chmod(0o640)
    os.chown(paths[0] / "kept", 5, 6)
    (paths[0] / "changed").write_text("low")
    (paths[0] / "gone").write_text("low")
    (paths[0] / "dir").mkdir()
    (paths[0] / "dir" / "hidden").write_text("low")
    (paths[0] / "link").symlink_to("kept")
    (paths[1] / "changed").write_text("middle")
    os.mknod(paths[1] / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (paths[1] / "dir").mkdir(mode=0o750)
    os.setxattr(paths[1] / "dir", "trusted.overlay.opaque", b"y")
    (paths[1] / "dir" / "shown").write_text("middle")
    (paths[2] / "top").write_text("top")
    return paths


class Mounted:
    """A detached mount, looked at through its descriptor."""

    def __init__(self, fd):
        self.fd = fd
        self.path = pathlib.Path(f"/proc/self/fd/{fd}")

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        os.close(self.fd)


def mounts_below(path):
    return [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if str(path) in line]


def test_layers_lie_over_each_other(snapshots, layers):
    with Mounted(snapshots.prepare("one", layers)) as root:
        assert sorted(entry.name for entry in root.iterdir()) == ["changed", "dir", "kept", "link", "top"]
        assert (root / "changed").read_text() == "middle"
        assert (root / "link").read_text() == "low"
        status = (root / "kept").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (5, 6, 0o640)
        assert [entry.name for entry in (root / "dir").iterdir()] == ["shown"]
        assert stat.S_IMODE((root / "dir").stat().st_mode) == 0o750


def test_what_is_written_stays_out_of_the_layers_and_of_other_snapshots(snapshots, layers):
    with Mounted(snapshots.prepare("one", layers)) as one, Mounted(snapshots.prepare("two", layers)) as two:
        (one / "kept").write_text("mine")
        (one / "new").write_text("mine")
        (one / "changed").unlink()
        assert (two / "kept").read_text() == "low"
        assert not (two / "new").exists()
        assert (two / "changed").read_text() == "middle"
    assert (layers[0] / "kept").read_text() == "low"
    assert (layers[1] / "changed").read_text() == "middle"


def test_nothing_is_mounted_on_the_host(snapshots, layers, tmp_path):
    with Mounted(snapshots.prepare("one", layers)):
        assert mounts_below(tmp_path) == []


def test_the_mount_can_be_moved_into_a_namespace(snapshots, layers, tmp_path):
    """As a container does with it: in a mount namespace of its own."""
    fd = snapshots.prepare("one", layers)
    place = tmp_path / "place"
    place.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            KERNEL.unshare(c.CLONE_NEWNS)
            KERNEL.mount_setattr(c.AT_FDCWD, "/", c.AT_RECURSIVE, propagation=c.MS_PRIVATE)
            KERNEL.move_mount(fd, c.AT_FDCWD, str(place))
            os._exit(0 if (place / "top").read_text() == "top" else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)
    assert list(place.iterdir()) == []


def test_no_layers_make_an_empty_root(snapshots):
    with Mounted(snapshots.prepare("one", [])) as root:
        assert list(root.iterdir()) == []
        (root / "file").write_text("x")


def test_one_layer_and_many(snapshots, layers, tmp_path):
    with Mounted(snapshots.prepare("one", layers[:1])) as root:
        assert (root / "changed").read_text() == "low"
    many = []
    for number in range(40):
        many.append(tmp_path / f"many-{number}")
        many[-1].mkdir()
        (many[-1] / f"file-{number}").write_text("x")
        (many[-1] / "same").write_text(str(number))
    with Mounted(snapshots.prepare("many", many)) as root:
        assert len(list(root.iterdir())) == 41
        assert (root / "same").read_text() == "39"


def test_usage_counts_what_was_written(snapshots, layers):
    with Mounted(snapshots.prepare("one", layers)) as root:
        before = snapshots.usage("one")
        (root / "big").write_bytes(b"x" * 1_000_000)
        size, inodes = (after - old for after, old in zip(snapshots.usage("one"), before, strict=True))
    assert 1_000_000 <= size < 1_100_000
    assert inodes == 1
    assert snapshots.usage("never made") == (0, 0)


def test_removal_is_complete_and_may_be_repeated(snapshots, layers):
    fd = snapshots.prepare("one", layers)
    assert snapshots.known() == ["one"]
    os.close(fd)
    snapshots.remove("one")
    snapshots.remove("one")
    assert snapshots.known() == []


def test_a_layer_that_is_missing_leaves_nothing(snapshots, layers, tmp_path):
    with pytest.raises((SnapshotError, OSError)):
        snapshots.prepare("one", [*layers, tmp_path / "missing"])
    snapshots.remove("one")
    assert snapshots.known() == []
