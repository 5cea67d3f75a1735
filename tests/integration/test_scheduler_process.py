"""`python -m scheduler` as people start it: against a real API server process, without one, and with nonsense."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apimachinery.kinds.node import Node, NodeCondition, NodeStatus
from apimachinery.kinds.pod import Container, Pod, PodSpec
from apimachinery.meta import ObjectMeta
from kubeclient.config import ClusterAccess, load_kubeconfig, write_kubeconfig
from kubeclient.http_transport import HttpTransport
from kubeclient.rest import Client

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 30.0


class Process:
    """A component as a child process, its log in a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stderr=file, stdout=file)

    def says(self, text: str) -> None:
        """Wait until the log has `text` in it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.log.read_text():
            assert self._process.poll() is None, f"ended with {self._process.returncode}: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"never said {text!r}: {self.log.read_text()}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(DEADLINE_SECONDS)


@pytest.fixture
def started() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for each in processes:
        each.end(signal.SIGKILL)


async def placed(client: Client, name: str) -> str:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            pod = await client.get(Pod, name, "default")
            if pod.spec.nodeName:
                return pod.spec.nodeName
            await asyncio.sleep(0.02)


async def create_pod(client: Client, name: str) -> None:
    spec = PodSpec(containers=[Container(name="c", image="i")])
    await client.create(Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=spec))


def test_it_survives_a_kill_of_the_api_server_and_ends_cleanly(
    tmp_path: Path, started: list[Process], unused_tcp_port: int
) -> None:
    data, kubeconfig = tmp_path / "api", tmp_path / "api" / "kubeconfig"

    def start_api_server(number: int) -> Process:
        arguments = ("apiserver", "--data-dir", str(data), "--port", str(unused_tcp_port))
        started.append(Process(tmp_path / f"api-{number}.log", *arguments))
        started[-1].says("listening")
        return started[-1]

    async def first(client: Client) -> None:
        node = await client.create(Node(metadata=ObjectMeta(name="n0")))
        node.status = NodeStatus(
            allocatable={"cpu": "4", "memory": "8Gi", "pods": "9"},
            conditions=[NodeCondition(type="Ready", status="True")],
        )
        await client.update_status(node)
        await create_pod(client, "a")
        assert await placed(client, "a") == "n0"

    async def second(client: Client) -> None:
        await create_pod(client, "b")
        before = time.monotonic()
        assert await placed(client, "b") == "n0"
        assert time.monotonic() - before < 5

    async def asking(script: object) -> None:
        transport = HttpTransport(load_kubeconfig(kubeconfig))
        try:
            await script(Client(transport))  # type: ignore[operator]
        finally:
            await transport.close()

    api_server = start_api_server(1)
    scheduler = Process(tmp_path / "scheduler.log", "scheduler", "--kubeconfig", str(kubeconfig))
    started.append(scheduler)
    scheduler.says("scheduling as default-scheduler by policy default")
    asyncio.run(asking(first))
    assert api_server.end(signal.SIGKILL) == -signal.SIGKILL
    scheduler.says("cannot follow")
    start_api_server(2)
    asyncio.run(asking(second))
    assert scheduler.end() == 0
    assert scheduler.log.read_text().rstrip().endswith("stopped")
    assert "Traceback" not in scheduler.log.read_text()


def test_without_an_api_server_it_waits_and_ends_cleanly(
    tmp_path: Path, started: list[Process], unused_tcp_port: int
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, ClusterAccess(server=f"http://127.0.0.1:{unused_tcp_port}"))
    scheduler = Process(tmp_path / "log", "scheduler", "--kubeconfig", str(kubeconfig))
    started.append(scheduler)
    scheduler.says("cannot follow Pod, trying again")
    assert scheduler.end() == 0
    assert "Traceback" not in scheduler.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--kubeconfig", "/nowhere"], 1, "kubeconfig /nowhere does not exist"),
        (["--kubeconfig", "/nowhere", "--policy", "none"], 1, "no policy is named 'none'"),
        ([], 2, "--kubeconfig"),
        (["--help"], 0, "Gives pods to nodes"),
    ],
)
def test_bad_arguments_are_explained(arguments: list[str], code: int, says: str) -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "scheduler", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
