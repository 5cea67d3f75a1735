"""The Node's status, the machine's facts, the watcher of the runtime, and the command line."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from apimachinery.kinds.node import NodeStatus
from componentbase.clock import run_virtual, virtual_clock
from nodeagent.__main__ import config_of
from nodeagent.capacity import Capacity, Pressure, Reserved
from nodeagent.hollow.cri import HollowCRI
from nodeagent.hollow.volumes import HollowVolumes
from nodeagent.logs.files import PodLogs
from nodeagent.machine import Machine, os_image
from nodeagent.node import Identity, Observation, differs, node_status
from nodeagent.pleg import Pleg, Snapshot
from nodeagent.recovery import find_pods
from pb.cri.v1 import api_pb2 as cri
from tests.unit.nodeagent.pods import NOW

MACHINE = Machine("m", "s", "b", "6.1", "Debian", "amd64")
IDENTITY = Identity("n1", "n1", "10.0.0.1", MACHINE, 10250, labels={"disk": "ssd"})
CAPACITY = Capacity(2000, 1 << 30, 1000, 1 << 40)
SEEN = Observation(CAPACITY, CAPACITY.minus(Reserved(cpu_milli=500)), runtime_version="r://1")


def conditions(status: NodeStatus) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in status.conditions}


def test_status_of_a_healthy_node() -> None:
    status = node_status(IDENTITY, SEEN, NodeStatus(), NOW)
    assert status.capacity == {"cpu": "2", "memory": "1Gi", "pids": "1k", "pods": "110", "ephemeral-storage": "1Ti"}
    assert status.allocatable["cpu"] == "1500m"
    assert conditions(status) == {
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
        "Ready": ("True", "KubeletReady"),
    }
    assert [(each.type, each.address) for each in status.addresses] == [("InternalIP", "10.0.0.1"), ("Hostname", "n1")]
    assert status.daemonEndpoints.kubeletEndpoint.Port == 10250
    assert IDENTITY.all_labels()["kubernetes.io/arch"] == "amd64" and IDENTITY.all_labels()["disk"] == "ssd"


def test_trouble_is_told_and_times_move_only_with_it() -> None:
    first = node_status(IDENTITY, SEEN, NodeStatus(), NOW)
    again = node_status(IDENTITY, SEEN, first, NOW + 60)
    assert not differs(first, again)
    assert again.conditions[0].lastHeartbeatTime != first.conditions[0].lastHeartbeatTime
    assert again.conditions[0].lastTransitionTime == first.conditions[0].lastTransitionTime
    trouble = Observation(CAPACITY, CAPACITY, Pressure(memory=True), runtime_error="container runtime is down: gone")
    bad = node_status(IDENTITY, trouble, first, NOW + 60)
    assert differs(first, bad)
    assert conditions(bad)["MemoryPressure"] == ("True", "KubeletHasInsufficientMemory")
    assert conditions(bad)["Ready"] == ("False", "KubeletNotReady")
    assert {each.lastTransitionTime for each in bad.conditions if each.type == "Ready"} == {"2025-01-01T00:01:00Z"}


def test_os_image() -> None:
    assert os_image('NAME=x\nPRETTY_NAME="Debian GNU/Linux 12"\n') == "Debian GNU/Linux 12"
    assert os_image("") == "Linux"


class Ear:
    """Writes down what the watcher says."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.lists = 0

    def container_exited(self, status: cri.ContainerStatus) -> None:
        self.heard.append(("exited", status.id))

    def container_missing(self, pod_uid: str, container_id: str) -> None:
        self.heard.append(("missing", container_id))

    def sandbox_lost(self, pod_uid: str, sandbox_id: str) -> None:
        self.heard.append(("lost", pod_uid))

    def listed(self, snapshot: Snapshot) -> None:
        self.lists += 1

    def runtime_health(self, message: str) -> None:
        if not self.heard or self.heard[-1] != ("health", message):
            self.heard.append(("health", message))


LABELS = {
    "io.kubernetes.pod.name": "p",
    "io.kubernetes.pod.namespace": "default",
    "io.kubernetes.pod.uid": "uid-p",
    "io.kubernetes.container.name": "c",
}


async def start_one(runtime: HollowCRI, attempt: int = 0, sandbox: str = "") -> tuple[str, str]:
    """(sandbox id, container id) of a running container."""
    metadata = cri.PodSandboxMetadata(name="p", namespace="default", uid="uid-p")
    config = cri.PodSandboxConfig(metadata=metadata, labels=LABELS)
    sandbox = sandbox or await runtime.run_pod_sandbox(config)
    wanted = cri.ContainerConfig(metadata=cri.ContainerMetadata(name="c", attempt=attempt), labels=LABELS)
    container = await runtime.create_container(sandbox, wanted, config)
    await runtime.start_container(container)
    return sandbox, container


def test_exits_are_heard_at_once_and_what_was_missed_is_found_by_listing() -> None:
    async def scenario() -> tuple[Ear, str, str]:
        clock, ear = virtual_clock(), Ear()
        runtime = HollowCRI(clock)
        task = asyncio.create_task(Pleg(runtime, clock, ear).run())
        sandbox, first = await start_one(runtime)
        await clock.sleep(2)
        runtime.crash(first)
        await clock.sleep(0.01)
        assert ear.heard[-1] == ("exited", first)
        _, second = await start_one(runtime, 1, sandbox)
        await clock.sleep(1)
        runtime.go_away()
        runtime.crash(second)
        await clock.sleep(2)
        assert ear.heard[-1][0] == "health" and "away" in ear.heard[-1][1]
        runtime.come_back()
        await clock.sleep(2)
        assert ("exited", second) in ear.heard and ear.heard[-1] == ("health", "")
        await runtime.stop_pod_sandbox(sandbox)
        await clock.sleep(11)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return ear, first, second

    ear, first, _ = run_virtual(scenario())
    assert ear.heard.count(("exited", first)) == 1
    assert ear.heard[-2:] == [("lost", "uid-p"), ("health", "")]
    assert ear.lists < 15  # with a stream it lists rarely


def test_finding_pods_again() -> None:
    async def scenario() -> None:
        clock = virtual_clock()
        runtime = HollowCRI(clock)
        parts = {"runtime": runtime, "clock": clock, "volumes": HollowVolumes(), "logs": PodLogs(None)}
        sandbox, first = await start_one(runtime)
        runtime.crash(first, 3)
        _, second = await start_one(runtime, 1, sandbox)
        found = (await find_pods(SimpleNamespace(**parts)))["uid-p"]
        assert (found.sandbox_id, found.sandbox_ready, len(found.ips)) == (sandbox, True, 1)
        assert [(each.id, each.attempt, each.exit.exit_code if each.exit else None) for each in found.containers] == [
            (first, 0, 3),
            (second, 1, None),
        ]

    run_virtual(scenario())


def test_command_line() -> None:
    words = "--kubeconfig k --node-name n --label a=b --reserved cpu=500m,memory=1Gi --max-pods 7 --port 0"
    config = config_of(words.split())
    assert (config.kubeconfig, config.node_name, config.node_labels, config.max_pods) == (Path("k"), "n", {"a": "b"}, 7)
    assert config.reserved == Reserved(cpu_milli=500, memory_bytes=1 << 30)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--kubeconfig"),
        ("--kubeconfig k --label nope", "'nope' must be KEY=VALUE"),
        ("--kubeconfig k --reserved gpu=1", "unknown resource gpu"),
        ("--kubeconfig k --tls-key x", "belong together"),
    ],
)
def test_bad_command_lines(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        config_of(words.split())
    assert info.value.code == 2
    assert message in capsys.readouterr().err
