"""The supervisor with components that are tiny functions: restart, stopping, and what the next one finds."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyctl.cluster.processes import Identity, wait_gone
from pyctl.cluster.state import State, ask_to_stop, read_state
from pyctl.cluster.supervisor import Component, Main, Supervisor


def forever() -> int:
    while True:
        signal.pause()


def stubborn() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return forever()


def component(name: str, main: Main = forever, fingerprint: str = "1") -> Component:
    return Component(name, lambda: main, fingerprint)


def until(what: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


class House:
    """A run directory, and the supervisors that were started in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[int] = []

    def start(self, *components: Component) -> int:
        pid = os.fork()
        if pid == 0:
            code = 99
            with contextlib.suppress(BaseException):
                code = Supervisor(list(components), self.path, self.path, "test").run()
            os._exit(code)
        self.started.append(pid)
        until(lambda: self.state.supervisor is not None and self.state.supervisor.pid == pid)
        until(lambda: all(each.name in self.state.components for each in components))
        return pid

    @property
    def state(self) -> State:
        return read_state(self.path)

    def pid(self, name: str) -> int:
        record = self.state.components[name]
        return record.process.pid if record.process and record.alive else 0

    def close(self) -> None:
        for pid in self.started:
            # A supervisor that is asked ends all its children, also one that it has only just forked.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
        for process in self.state.leftovers:
            process.send(signal.SIGKILL)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    it = House(tmp_path)
    yield it
    it.close()


def test_what_dies_comes_back_at_once_and_alone(house: House) -> None:
    house.start(component("a"), component("b"))
    until(lambda: house.pid("a") > 0 and house.pid("b") > 0)
    first, other = house.pid("a"), house.pid("b")

    begin = time.monotonic()
    os.kill(first, signal.SIGKILL)
    until(lambda: house.pid("a") not in (0, first))

    assert time.monotonic() - begin < 1.0
    assert house.pid("b") == other
    record = house.state.components["a"]
    assert record.restarts == 1
    assert record.last_exit.startswith("was killed by SIGKILL")


def test_one_that_keeps_failing_is_started_ever_more_rarely(house: House) -> None:
    begin = time.monotonic()
    house.start(component("broken", lambda: 3))
    until(lambda: house.state.components["broken"].restarts >= 3)
    assert time.monotonic() - begin >= 0.2  # at once, then after 0.2 s
    assert house.state.components["broken"].last_exit == "exited with 3"
    assert (house.path / "broken.log").exists()


def test_stopping_some_leaves_the_others(house: House) -> None:
    house.start(component("a"), component("b"))
    until(lambda: house.pid("a") > 0 and house.pid("b") > 0)
    other = house.pid("b")
    assert ask_to_stop(house.path, ["a"], seconds=5)
    assert house.pid("a") == 0
    assert house.state.components["a"].state == "stopped"
    assert house.pid("b") == other


def test_asking_where_nobody_listens(tmp_path: Path) -> None:
    assert not ask_to_stop(tmp_path, ["a"], seconds=1)


def test_sigterm_stops_everything_and_leaves_no_file(house: House) -> None:
    supervisor = house.start(component("a"), component("b"))
    until(lambda: house.pid("a") > 0 and house.pid("b") > 0)
    processes = house.state.leftovers
    os.kill(supervisor, signal.SIGTERM)
    assert os.waitpid(supervisor, 0)[1] == 0
    assert not [each for each in processes if each.alive]
    assert not [each for each in house.path.iterdir() if each.suffix != ".log"]


def test_components_outlive_a_killed_supervisor_and_are_adopted(house: House) -> None:
    first = house.start(component("a"), component("b"))
    until(lambda: house.pid("a") > 0 and house.pid("b") > 0)
    before = house.pid("a"), house.pid("b")
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert (house.pid("a"), house.pid("b")) == before
    assert not house.state.running

    house.start(component("a"), component("b"))
    assert (house.pid("a"), house.pid("b")) == before

    os.kill(before[0], signal.SIGKILL)  # not a child of the new one, and yet restarted by it
    until(lambda: house.pid("a") not in (0, before[0]))
    assert house.pid("b") == before[1]


def test_components_of_another_configuration_are_replaced(house: House) -> None:
    first = house.start(component("a"), component("gone"))
    until(lambda: house.pid("a") > 0 and house.pid("gone") > 0)
    old = house.state.leftovers
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)

    house.start(component("a", fingerprint="2"))
    until(lambda: house.pid("a") > 0)
    assert wait_gone(old, 5) == []
    assert list(house.state.components) == ["a"]


def test_one_that_cannot_be_loaded_does_not_take_the_others_along(house: House) -> None:
    def prepare() -> Main:
        raise ImportError("no module named grpc")

    house.start(Component("bad", prepare), component("good"))
    until(lambda: house.pid("good") > 0)
    record = house.state.components["bad"]
    assert record.state == "stopped"
    assert record.last_exit == "cannot be loaded: no module named grpc"


def test_a_recycled_number_is_not_ours() -> None:
    me = Identity.of(os.getpid())
    assert me is not None and me.alive
    assert not Identity(me.pid, me.start_ticks + 1, me.boot).alive
    assert not Identity(me.pid, me.start_ticks, "another boot").alive


def test_a_child_is_a_clean_process(house: House) -> None:
    def report() -> int:
        sockets = [each for each in os.listdir("/proc/self/fd") if _is_socket(each)]
        line = f"{Path('/proc/self/comm').read_text().strip()} {os.getsid(0) == os.getpid()} {len(sockets)}\n"
        os.write(1, line.encode())
        return forever()

    house.start(component("other"), component("reporter", report))
    log = house.path / "reporter.log"
    until(lambda: log.exists() and log.read_text().endswith("\n"), 5)
    assert log.read_text().split() == ["pyctl-reporter", "True", "0"]


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(("socket:", "anon_inode:[pidfd]"))
    except OSError:
        return False
