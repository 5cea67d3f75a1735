"""The whole cluster in one process: real parts, virtual time, the same seed the same life."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apimachinery.errors import NotFound
from apimachinery.kinds.event import Event
from apimachinery.kinds.node import Node
from apimachinery.kinds.pod import Container, Pod, PodSpec
from apimachinery.meta import ObjectMeta
from pyctl.cluster.inprocess import Cluster, Shape, run_virtual

HOUSE = Path(__file__).parents[3]


def pod(name: str, cpu: str = "100m") -> Pod:
    container = Container(name="main", image="x:1", resources={"requests": {"cpu": cpu, "memory": "64Mi"}})  # type: ignore[arg-type]
    return Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=PodSpec(containers=[container]))


def story(nodes: int, pods: int, seed: int) -> dict[str, list[str]]:
    """Where each pod runs, under which uid and address."""

    async def play() -> dict[str, list[str]]:
        async with Cluster(nodes=nodes, seed=seed) as cluster:
            for index in range(pods):
                await cluster.client.create(pod(f"p{index:04d}"))
            await cluster.running(pods)
            listing = await cluster.client.list(Pod)
            return {
                each.metadata.name: [each.spec.nodeName, each.metadata.uid, each.status.podIP] for each in listing.items
            }

    return run_virtual(play())


def test_a_pods_whole_life() -> None:
    async def play() -> None:
        async with Cluster(nodes=3, seed=1) as cluster:
            assert len((await cluster.client.list(Node)).items) == 3
            await cluster.client.create(pod("a"))
            where = await cluster.running(1)
            assert list(where) == ["default/a"] and where["default/a"].startswith("hollow-")
            reasons = {event.reason for event in (await cluster.client.list(Event)).items}
            assert reasons >= {"Scheduled", "Pulled", "Created", "Started"}
            await cluster.client.delete(Pod, "a", "default")
            await cluster.clock.sleep(60)
            with pytest.raises(NotFound):
                await cluster.client.get(Pod, "a", "default")

    begin = time.monotonic()
    run_virtual(play())
    assert time.monotonic() - begin < 20, "a minute of virtual time takes no minute"


def test_pods_that_fit_nowhere_wait_and_say_why() -> None:
    async def play() -> None:
        async with Cluster(nodes=2, shape=lambda index: Shape(cpu_milli=1000)) as cluster:
            await cluster.client.create(pod("large", cpu="64"))
            with pytest.raises(TimeoutError):
                await cluster.running(1, seconds=30)
            events = (await cluster.client.list(Event)).items
            assert any("2 Insufficient cpu" in each.message for each in events if each.reason == "FailedScheduling")

    run_virtual(play())


def test_a_part_that_fails_ends_the_block() -> None:
    async def play() -> None:
        async with Cluster(nodes=1) as cluster:
            await cluster._store.close()
            await cluster.clock.sleep(3600)

    with pytest.raises((ExceptionGroup, Exception)) as info:
        run_virtual(play())
    assert "StoreClosed" in repr(info.value)


def test_the_same_seed_is_the_same_life() -> None:
    first = story(5, 20, seed=7)
    assert story(5, 20, seed=7) == first
    assert story(5, 20, seed=8) != first


def test_a_thousand_pods_twice() -> None:
    """In two processes at once, with hashes that differ: nothing may depend on the order of a set."""
    program = (
        "import json; from tests.unit.pyctl.test_inprocess import story; print(json.dumps(story(100, 1000, seed=1)))"
    )
    begin = time.monotonic()
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": str(HOUSE)},
            cwd=HOUSE,
        )
        for number in (1, 2)
    ]
    outputs = [json.loads(run.communicate()[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 1000
    per_node: dict[str, int] = {}
    for node, _, _ in outputs[0].values():
        per_node[node] = per_node.get(node, 0) + 1
    assert len(per_node) == 100 and max(per_node.values()) <= 12, "spread by least-allocated"
    assert time.monotonic() - begin < 90, "seconds on an idle machine; the bound is for a busy one"
