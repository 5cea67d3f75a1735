"""Images from this host: they run in a chroot, are the same each time, and say what is missing."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.images import hostpython
from runtime.images.errors import InvalidReference, NotFound
from runtime.images.hostbuild import build_from_host, collect
from runtime.images.hosttree import HostTree, find_program
from runtime.images.store import ImageStore

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "runtime")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """One image with Python and a shell, for several tests."""
    store = ImageStore(tmp_path_factory.mktemp("python"))
    return store, build_from_host(store, ["python", "sh", "ls"], "local/python")


def inside(image, *command, user="0:0"):
    """Runs a command with the image as its root."""
    environment = dict(item.split("=", 1) for item in image.config["config"]["Env"])
    return subprocess.run(
        ["chroot", f"--userspec={user}", str(image.layers[0]), *command],
        env=environment, capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip


def test_programs_run(python):
    _, built = python
    assert built.warnings == [] and built.skipped == []
    assert built.reference == "docker.io/local/python:latest"
    for shell in ("/bin/sh", "/usr/bin/sh", "sh"):
        assert inside(built.image, shell, "-c", "ls / && echo done").stdout.endswith("done\n")


@pytest.mark.parametrize("name", ["python", "python3", "/usr/local/bin/python"])
def test_python_runs_with_its_library(python, name):
    code = "import asyncio, ctypes, http.server, json, sqlite3, ssl, sys, zlib; print(sys.version)"
    done = inside(python[1].image, name, "-c", code)
    assert (done.stdout.strip(), done.stderr) == (sys.version, "")


PYTHONS = sorted({hostpython.running_python(), os.path.realpath("/usr/bin/python3")} - {"/usr/bin/python3"})


@pytest.mark.parametrize("interpreter", PYTHONS)
def test_a_script_brings_python_with_its_library(store, tmp_path, interpreter):
    """Whatever Python the script names: without its library an interpreter is of no use."""
    script = program(tmp_path / "script", f"#!{interpreter}\nimport json, sys\nprint(json.dumps(sys.argv))\n")
    done = inside(build_from_host(store, [script], "app").image, script)
    assert (done.stdout, done.stderr) == (f'["{script}"]\n', "")


def test_shims_are_not_programs(tmp_path, monkeypatch):
    (tmp_path / "shims").mkdir()
    program(tmp_path / "shims" / "ls", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{os.environ['PATH']}")
    assert find_program("ls") == shutil.which("ls", path=os.environ["PATH"].split(":", 1)[1])


def test_python_serves_any_user_and_looks_up_names(python):
    code = "import os, pwd, threading; t = threading.Thread(target=print, args=(pwd.getpwuid(os.getuid()).pw_name,)); \
            t.start(); t.join()"
    assert inside(python[1].image, "python", "-c", code, user="65534:65534").stdout == "nobody\n"


def test_python_starts_from_byte_code(python):
    """Files of an image have no time that byte code could be checked against; it is used all the same."""
    code = "import asyncio.base_events as m, sys; print(m.__cached__, m.__loader__.path_stats(m.__file__)['mtime'])"
    done = inside(python[1].image, "python", "-v", "-c", code)
    cached = done.stdout.split()[0]
    assert f"matches {cached.split('/__pycache__')[0]}" in done.stderr or f"code object from '{cached}'" in done.stderr
    assert done.stdout.split()[1].startswith("0")


def test_python_without_what_nobody_runs(python):
    library = f"lib/python3.{sys.version_info.minor}"
    root = python[1].image.layers[0]
    (found,) = [path for path in root.rglob("os.py") if path.parent.name == os.path.basename(library)]
    names = set(os.listdir(found.parent))
    assert not names & {"test", "idlelib", "ensurepip", "site-packages", "tkinter"}
    assert {"asyncio", "unittest", "email", "lib-dynload"} <= names
    assert python[1].size < 150 << 20


def test_the_same_host_gives_the_same_image(python):
    store, built = python
    again = build_from_host(store, ["python", "sh", "ls"], "local/again")
    assert again.image.id == built.image.id and again.image.layers == built.image.layers
    assert again.image.references == ["docker.io/local/python:latest", "docker.io/local/again:latest"]


def test_all_of_it_belongs_to_root_and_to_no_time(store):
    image = build_from_host(store, ["ls"], "app").image
    root = image.layers[0]
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            status = os.lstat(os.path.join(folder, name))
            assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (0, 0, 0)
    assert stat.S_IMODE(os.stat(root / "tmp").st_mode) == 0o1777
    assert (root / "etc/passwd").read_text().startswith("root:x:0:0:")
    assert {"dev", "proc", "sys", "run", "tmp", "etc"} <= set(os.listdir(root))
    if os.path.islink("/bin"):
        assert os.readlink(root / "bin") == os.readlink("/bin")


def test_configuration(store):
    image = build_from_host(store, ["ls", "sh"], "app", env=["A=b=c", "PATH=/x"]).image
    process = image.config["config"]
    assert process["Cmd"] == [find_program("ls")] and "Entrypoint" not in process
    assert process["Env"] == ["PATH=/x", "A=b=c"]
    image = build_from_host(store, ["ls"], "app", entrypoint=["/bin/ls", "-l"]).image
    assert image.config["config"]["Entrypoint"] == ["/bin/ls", "-l"] and "Cmd" not in image.config["config"]


@pytest.mark.parametrize(
    "programs, more, error, match",
    [
        (["no-such-program"], {}, NotFound, "'no-such-program' is not on this host"),
        (["/no/such/program"], {}, NotFound, "'/no/such/program' is not on this host"),
        (["/etc/passwd"], {}, NotFound, "not an executable"),
        (["./ls"], {}, InvalidReference, "absolute"),
        ([""], {}, InvalidReference, "no name"),
        ([], {}, InvalidReference, "at least one"),
        (["ls"], {"env": ["NOVALUE"]}, InvalidReference, "'NOVALUE'"),
        (["ls"], {"extra": ["etc"]}, InvalidReference, "'etc' is not absolute"),
        (["ls"], {"extra": ["/no/such/file"]}, NotFound, "/no/such/file"),
    ],
)
def test_bad_requests_leave_nothing(store, programs, more, error, match):
    with pytest.raises(error, match=match):
        build_from_host(store, programs, "app", **more)
    assert store.images() == [] and list(store.content.digests()) == []


def test_bad_tag(store):
    with pytest.raises(InvalidReference):
        build_from_host(store, ["ls"], "Bad Tag")


# Scripts and links.


def program(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_script_brings_its_interpreter(store, tmp_path):
    script = program(tmp_path / "script", "#!/usr/bin/env -S sh -e\necho from $0\n")
    image = build_from_host(store, [script], "app").image
    assert image.config["config"]["Cmd"] == [script]
    assert inside(image, script).stdout == f"from {script}\n"
    # The directory of the script is in PATH, as it was for whoever named it.
    assert inside(image, "script").stdout == f"from {script}\n"


def test_a_script_without_its_interpreter(tmp_path):
    script = program(tmp_path / "script", "#!/no/such/interpreter\n")
    with pytest.raises(NotFound, match=r"script: program '/no/such/interpreter'"):
        HostTree().add_program(script)


def test_links_stay_links(store, tmp_path):
    program(tmp_path / "tool-1.2", "#!/bin/sh\necho tool\n")
    os.symlink("tool-1.2", tmp_path / "tool")
    os.symlink(tmp_path / "tool", tmp_path / "alias")
    image = build_from_host(store, [str(tmp_path / "alias")], "app").image
    root = image.layers[0]
    assert os.readlink(f"{root}{tmp_path}/tool") == "tool-1.2"
    assert os.readlink(f"{root}{tmp_path}/alias") == f"{tmp_path}/tool"
    assert inside(image, str(tmp_path / "alias")).stdout == "tool\n"


def test_a_loop_of_links(tmp_path):
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    with pytest.raises(NotFound, match="symbolic links"):
        HostTree().add_path(str(tmp_path / "a"))


def test_a_program_that_lacks_a_library(tmp_path):
    path = tmp_path / "broken"
    path.write_bytes(Path(shutil.which("ls")).read_bytes().replace(b"libc.so.6\0", b"libx.so.6\0"))
    path.chmod(0o755)
    with pytest.raises(NotFound, match=r"broken links libx\.so\.6"):
        HostTree().add_program(str(path))


def test_set_user_id_stays_for_files_of_root_only(tmp_path):
    for name, owner in (("ours", 0), ("theirs", 1000)):
        path = program(tmp_path / name, "#!/bin/sh\n")
        os.chown(path, owner, owner)
        os.chmod(path, 0o4700)
    tree, _ = collect([str(tmp_path / "ours"), str(tmp_path / "theirs")])
    assert oct(tree.entries[str(tmp_path / "ours")].mode) == oct(0o4755)
    assert oct(tree.entries[str(tmp_path / "theirs")].mode) == oct(0o755)


def test_extra_files_and_what_is_skipped(store, tmp_path):
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("data")
    os.symlink("inner/file", folder / "link")
    os.mkfifo(folder / "pipe")
    built = build_from_host(store, ["ls"], "app", extra=[str(folder)])
    root = built.image.layers[0]
    assert (
        Path(f"{root}{folder}/inner/file").read_text() == "data" and os.readlink(f"{root}{folder}/link") == "inner/file"
    )
    assert built.skipped == [str(folder / "pipe")]


# Byte code.


@pytest.fixture
def library(tmp_path):
    """A tiny standard library with byte code as `compileall` leaves it."""
    folder = tmp_path / "lib" / f"python3.{sys.version_info.minor}"
    folder.mkdir(parents=True)
    (folder / "os.py").write_text("x = 1\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    binary = tmp_path / "bin" / f"python3.{sys.version_info.minor}"
    binary.parent.mkdir()
    shutil.copy(os.path.realpath(sys.executable), binary)
    return binary, folder / "os.py", folder / "__pycache__" / f"os.{sys.implementation.cache_tag}.pyc"


def code_of(binary, cached):
    tree = HostTree()
    hostpython.add_library(tree, str(binary))
    entry = tree.entries.get(str(cached))
    return entry.data if entry else None


def test_byte_code_is_marked_unchecked(library):
    binary, source, cached = library
    data = code_of(binary, cached)
    assert data[4:8] == b"\1\0\0\0" and data[8:16] == importlib.util.source_hash(source.read_bytes())
    assert data[16:] == cached.read_bytes()[16:]


@pytest.mark.parametrize("damage", ["source changed", "other version", "missing", "cut"])
def test_byte_code_of_something_else_is_left_out(library, damage):
    binary, source, cached = library
    match damage:
        case "source changed":
            source.write_text("y = 22\n")
        case "other version":
            cached.write_bytes(b"\0\0\0\0" + cached.read_bytes()[4:])
        case "missing":
            cached.unlink()
        case "cut":
            cached.write_bytes(b"abc")
    assert code_of(binary, cached) is None
