"""The order in which a child gives its privileges away, on a kernel that only writes it down."""

import errno
import os

import pytest

from runtime.linux import constants as c
from runtime.linux.recorder import Recorder
from runtime.zygote import init, privileges, rootfs
from runtime.zygote.users import Identity


class Capabilities(Recorder):
    """A recorder that holds every capability in its bounding set."""

    def prctl(self, option, arg2=0, arg3=0):
        super().prctl(option, arg2, arg3)
        return 1 if option == c.PR_CAPBSET_READ else 0


@pytest.fixture
def become(monkeypatch):
    """Records the calls of `os` that change who we are, among the kernel's."""

    def prepare(kernel):
        for name in ("setgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(os, name, lambda *args, name=name: kernel.calls.append((name, args, {})))

    return prepare


def test_privileges_go_in_the_kernels_order(become):
    kernel = Capabilities()
    become(kernel)
    spec = {"capabilities": 0b101, "ambient": 0b100, "noNewPrivs": True}
    privileges.drop(kernel, spec, Identity(5, 6, [6, 7], "/"))
    steps = [(name, args) for name, args, _ in kernel.calls if args[:1] != (c.PR_CAPBSET_READ,)]
    dropped = [args[1] for name, args in steps if args[:1] == (c.PR_CAPBSET_DROP,)]
    assert dropped == [1, *range(3, 41)]
    assert [step for step in steps if step[1][:1] != (c.PR_CAPBSET_DROP,)] == [
        ("prctl", (c.PR_SET_KEEPCAPS, 1, 0)),
        ("setgroups", ([6, 7],)),
        ("setresgid", (6, 6, 6)),
        ("setresuid", (5, 5, 5)),
        ("prctl", (c.PR_SET_KEEPCAPS, 0, 0)),
        ("capset", (0b101, 0b101, 0b100)),
        ("prctl", (c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_CLEAR_ALL, 0)),
        ("prctl", (c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, 2)),
        ("prctl", (c.PR_SET_NO_NEW_PRIVS, 1, 0)),
    ]
    first_drop = next(i for i, (name, args) in enumerate(steps) if args[:1] == (c.PR_CAPBSET_DROP,))
    assert first_drop == 0, "the bounding set is emptied while CAP_SETPCAP is there"


def test_entering_the_root_leaves_the_old_one_behind(tmp_path, monkeypatch):
    kernel = Recorder()
    monkeypatch.setattr(os, "fchdir", lambda fd: kernel.calls.append(("fchdir", (fd,), {})))
    monkeypatch.setattr(os, "chdir", lambda path: kernel.calls.append(("chdir", (path,), {})))
    rootfs.enter(kernel, 9, read_only=True)
    rootfs.forget_old_root(kernel)
    assert kernel.names() == ["mount_setattr", "fchdir", "pivot_root", "umount", "chdir"]
    assert kernel.calls[2][1] == (".", ".")
    assert kernel.calls[3][1] == (".", c.MNT_DETACH)


def test_a_child_keeps_no_descriptor_that_it_was_not_given():
    kernel = Recorder()
    init.close_all_but(kernel, [9, 4, 1])
    assert [args[:2] for _, args, _ in kernel.calls] == [(3, 3), (5, 8), (10, 2**32 - 1)]
    kernel = Recorder()
    init.close_all_but(kernel, [3, 4])
    assert [args[:2] for _, args, _ in kernel.calls] == [(5, 2**32 - 1)]


@pytest.mark.parametrize(
    ("own", "wanted", "written"), [("0", 500, "500"), ("500", -998, "500"), ("-10", -998, "-10"), ("0", 0, "0")]
)
def test_the_oom_score_is_never_lowered(tmp_path, own, wanted, written):
    path = tmp_path / "score"
    path.write_text(own + "\n")
    fd = os.open(path, os.O_RDWR)
    privileges.raise_oom_score(fd, wanted)
    os.close(fd)
    assert path.read_text() == written[: len(written)] + (own + "\n")[len(written) :]


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_may_not_replace_a_top_directory_by_a_link(tmp_path, name):
    from runtime.linux.kernel import RealKernel

    (tmp_path / name).symlink_to("/etc")
    fd = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(OSError, match=f"/{name} of the image is not a real directory"):
            rootfs.Root(RealKernel(), fd).real_directory(name)
    finally:
        os.close(fd)


class TestPathsInTheRoot:
    """Mount points are made inside the root, wherever the links of an image point."""

    @pytest.fixture
    def root(self, tmp_path):
        from runtime.linux.kernel import RealKernel

        self.top = tmp_path / "root"
        self.top.mkdir()
        self.outside = tmp_path / "outside"
        self.outside.mkdir()
        fd = os.open(self.top, os.O_PATH)
        yield rootfs.Root(RealKernel(), fd)
        os.close(fd)
        assert not list(self.outside.iterdir())

    def made(self, fd):
        path = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        return os.path.relpath(path, self.top)

    def test_missing_directories_are_made(self, root):
        assert self.made(root.directory("/a/b/c")) == "a/b/c"
        assert self.made(root.directory("a//b/./c/")) == "a/b/c"
        assert self.made(root.file("/a/b/file")) == "a/b/file"
        assert (self.top / "a/b/file").read_bytes() == b""

    def test_links_stay_inside(self, root):
        (self.top / "absolute").symlink_to(self.outside)
        (self.top / "up").symlink_to("../outside")
        (self.top / "run").mkdir()
        (self.top / "var").mkdir()
        (self.top / "var/run").symlink_to("/run")
        assert self.made(root.directory("/absolute/x")) == str(self.outside).lstrip("/") + "/x"
        assert self.made(root.directory("/up/x")) == "outside/x"
        assert self.made(root.directory("/var/run/x")) == "run/x"
        assert self.made(root.file("/up/f")) == "outside/f"

    def test_a_link_to_itself_is_an_error(self, root):
        (self.top / "loop").symlink_to("loop")
        with pytest.raises(OSError) as caught:
            root.directory("/loop/x")
        assert caught.value.errno == errno.ELOOP

    def test_two_links_in_a_circle_that_point_nowhere(self, root):
        (self.top / "one").symlink_to("two/x")
        (self.top / "two").symlink_to("one/x")
        with pytest.raises(OSError) as caught:
            root.directory("/one")
        assert caught.value.errno == errno.ELOOP

    @pytest.mark.parametrize("path", ["/missing/..", "/new/../../x/.."])
    def test_dots_in_what_is_missing_are_refused(self, root, path):
        with pytest.raises(OSError):
            root.directory(path)


class TestPrograms:
    def test_lookup(self, tmp_path):
        (tmp_path / "dir").mkdir()
        (tmp_path / "plain").write_text("")
        program = tmp_path / "program"
        program.write_text("")
        program.chmod(0o755)
        assert privileges._find("program", f"/nowhere:{tmp_path}") == str(program)
        for name in ("dir", "plain", "missing"):
            with pytest.raises(privileges.ExecError, match=f'exec: "{name}": executable file not found in \\$PATH'):
                privileges._find(name, str(tmp_path))

    def test_words_for_what_the_kernel_refuses(self, tmp_path):
        plain = tmp_path / "plain"
        plain.write_text("no program")
        with pytest.raises(privileges.ExecError, match="permission denied"):
            privileges.execute([str(plain)], [])
        plain.chmod(0o755)
        with pytest.raises(privileges.ExecError, match="exec format error"):
            privileges.execute([str(plain)], [])
        with pytest.raises(privileges.ExecError, match=f"stat {tmp_path}/no: no such file or directory"):
            privileges.execute([f"{tmp_path}/no"], ["PATH=/bin"])
