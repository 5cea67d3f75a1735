"""Configuration, records on disk, events, sessions, and what the zygote may load."""

import ast
import asyncio
import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest

import runtime
from componentbase import websocket
from componentbase.http import duplex_pair
from componentbase.websocket import WebSocket
from runtime import app, records
from runtime.__main__ import parse
from runtime.config import Config, ConfigError, check, read_file
from runtime.events import BOUND, Event, EventKind, Events, ListenerTooSlow
from runtime.records import ContainerRecord, SandboxRecord, SandboxState
from runtime.streaming.pipes import FdReader, FdWriter
from runtime.streaming.session import Session, failure, status

HOME = pathlib.Path(runtime.__file__).parent


def test_names_on_the_host_follow_from_the_root(tmp_path):
    name = Config(root=tmp_path).host_name
    assert name.startswith("pyctl-") and len(name) == 14
    (tmp_path / "link").symlink_to(tmp_path)
    assert Config(root=tmp_path / "link").host_name == name
    assert Config(root=tmp_path / "other").host_name != name
    assert Config(root=tmp_path, cgroup_parent="/a/").cgroup_root == f"/a/{name}"
    assert Config(root=tmp_path).cgroup_root == f"/{name}"


def test_command_line_wins_over_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('name = "mine"\npod_cidr = "10.1.0.0/24"\nmtu = 1300\n')
    config, clean = parse(["--root", "/r", "--config", str(path), "--pod-cidr", "10.2.0.0/24"])
    assert (config.host_name, config.pod_cidr, config.mtu, clean) == ("mine", "10.2.0.0/24", 1300, False)
    assert config.socket == pathlib.Path("/r/runtime.sock")
    assert parse(["--root", "/r", "--cleanup"])[1]


def test_mirrors_come_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("PYCTL_REGISTRY_CONFIG", "/mirrors")
    assert parse([])[0].registry_config == pathlib.Path("/mirrors")
    assert parse(["--registry-config", "/own"])[0].registry_config == pathlib.Path("/own")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pod_cdir = 1", "unknown key 'pod_cdir'; known are "),
        ("mtu = 'x'", "mtu must be of type int, not 'x'"),
        ("= 3", "Invalid"),
    ],
)
def test_a_file_with_mistakes(tmp_path, text, message):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_file(path, Config())
    with pytest.raises(ConfigError, match="No such file"):
        read_file(tmp_path / "missing", Config())


@pytest.mark.parametrize(
    "config",
    [
        Config(name="x" * 16),
        Config(name="a b"),
        Config(snapshotter="zfs"),
        Config(socket=pathlib.Path("/" + "s" * 120)),
    ],
)
def test_values_that_could_not_work(config):
    with pytest.raises(ConfigError):
        check(config)


def test_records_come_back_as_they_were(tmp_path):
    sandbox = SandboxRecord(id="s", created_at=5, state=SandboxState.READY, unshare=["network"], address="10.0.0.2")
    records.save(tmp_path, sandbox)
    assert records.load(tmp_path, SandboxRecord) == sandbox
    container = ContainerRecord(id="c", sandbox="s", created_at=6, args=["a"], env=["B=c"], capabilities=1 << 40)
    records.save(tmp_path, container)
    assert records.load(tmp_path, ContainerRecord) == container


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1, "unknown": 2}'])
def test_records_that_cannot_be_read_are_none(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    assert records.load(tmp_path, SandboxRecord) is None
    (tmp_path / "state.json").write_text(text)
    assert records.load_state(tmp_path) is None or text.startswith('{"')


def test_records_of_states(tmp_path):
    assert records.load(tmp_path, SandboxRecord) is None
    assert records.load_state(tmp_path) is None
    (tmp_path / "state.json").write_text(json.dumps({"state": "exited", "exitCode": 3}))
    assert records.load_state(tmp_path) == {"state": "exited", "exitCode": 3}


async def test_events_reach_every_listener_until_it_falls_behind():
    events = Events()
    fast, slow = events.listen(), events.listen()
    first = asyncio.ensure_future(anext(fast))
    second = asyncio.ensure_future(anext(slow))
    await asyncio.sleep(0)
    event = Event(EventKind.STARTED, "c", "s", 1)
    events.publish(event)
    assert await first == await second == event
    for number in range(BOUND + 5):
        events.publish(event._replace(at=number))
        assert (await anext(fast)).at == number
    received = 0
    with pytest.raises(ListenerTooSlow):
        async for _ in slow:
            received += 1
    assert received == BOUND


async def test_closing_ends_listeners_quietly():
    events = Events()
    listening = asyncio.ensure_future(collect(events))
    await asyncio.sleep(0)
    event = Event(EventKind.DELETED, "c", "s", 1)
    events.publish(event)
    events.close()
    assert await listening == [event]


async def collect(events):
    return [event async for event in events.listen()]


def test_without_root_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for run in (app.main, app.cleanup):
        assert run(Config(root=tmp_path)) == 1
        assert "root is needed to make namespaces, mounts and cgroups: run it with sudo" in capsys.readouterr().err


def test_a_full_disk_does_not_keep_anybody_from_cleaning_up(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "pwrite", full)
    with app._locked(Config(root=tmp_path)):
        pass


def test_cleaning_up_what_never_was(tmp_path):
    assert app.cleanup(Config(root=tmp_path / "never")) == 0


def test_statuses_of_remotecommand():
    assert json.loads(status(0)) == {"metadata": {}, "status": "Success"}
    failed = json.loads(status(9))
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "9"}]
    assert json.loads(failure("why"))["message"] == "why"


async def carry(stdin_messages, stdin=None):
    """A session over pipes with an output of two pieces and exit code 3; returns what the client got."""
    ours, theirs = duplex_pair()
    reader, writer = os.pipe()
    ended = asyncio.get_running_loop().create_future()
    gone = []

    async def on_gone():
        gone.append(True)

    session = Session(WebSocket(ours), {1: FdReader(reader)}, stdin)
    running = asyncio.create_task(session.run(ended, on_gone))
    client = WebSocket(theirs, client=True)
    for message in stdin_messages:
        await client.send(message)
    os.write(writer, b"out")
    first = await client.receive()
    ended.set_result(3)
    os.write(writer, b"put")
    os.close(writer)
    rest = []
    while (message := await client.receive()) is not None:
        rest.append(message)
    await running
    return [first, *rest], gone


async def test_output_comes_before_the_status_and_the_end():
    messages, gone = await carry([])
    assert messages[:2] == [b"\x01out", b"\x01put"]
    assert messages[2][0] == websocket.ERROR and json.loads(messages[2][1:])["reason"] == "NonZeroExitCode"
    assert (len(messages), gone) == (3, [])


async def test_stdin_is_carried_and_half_closed():
    reader, writer = os.pipe()
    await carry([b"\x00hello", b"\x04{bad", b"\xff\x00", b"\x00late"], FdWriter(writer))
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"hello"


async def test_a_client_that_goes_away_is_told_to_the_process():
    ours, theirs = duplex_pair()
    gone = asyncio.Event()

    async def on_gone():
        gone.set()

    never = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(Session(WebSocket(ours), {}, None).run(never, on_gone))
    theirs.close()
    await running
    assert gone.is_set()


def test_the_zygote_loads_the_standard_library_and_its_own_files_only():
    """It is executed with -I -S: an import of anything else would work here and fail there."""
    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c"),
            f"import sys; sys.path.insert(0, {str(HOME.parent)!r}); import runtime.zygote.server; "
            "print(*sorted(n for n in sys.modules if not n.startswith('_')))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    ours = {name for name in loaded if name.split(".")[0] == "runtime"}
    assert ours <= {"runtime", "runtime.linux", "runtime.zygote"} | {
        f"runtime.{path.relative_to(HOME).with_suffix('').as_posix().replace('/', '.')}"
        for part in ("linux", "zygote")
        for path in (HOME / part).glob("*.py")
    }
    heavy = {"asyncio", "dataclasses", "inspect", "typing", "logging", "subprocess", "threading", "grpc"}
    assert not heavy & set(loaded)


def test_nothing_is_imported_after_the_zygote_has_forked():
    """An import inside a function could load code from an image."""
    for path in (HOME / "zygote").glob("*.py"):
        if path.name in ("client.py", "__main__.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
                assert not inner, f"{path.name}: {node.name} imports"


def test_only_linux_speaks_to_the_kernel_by_ctypes():
    for path in HOME.rglob("*.py"):
        if path.parent.name != "linux":
            assert "import ctypes" not in path.read_text(), path
