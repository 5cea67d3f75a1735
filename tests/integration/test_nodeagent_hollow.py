"""Hollow nodes against a real API server in the same process, in virtual time: no socket, no thread, no process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from apimachinery.errors import NotFound
from apimachinery.kinds.event import Event
from apimachinery.kinds.lease import Lease
from apimachinery.kinds.node import Node
from apimachinery.kinds.pod import Container, Pod, PodSpec
from apimachinery.meta import ObjectMeta
from apiserver.app import build
from apiserver.config import Config
from apiserver.storage.memory import MemoryStore
from componentbase.clock import Clock, run_virtual, virtual_clock
from componentbase.http import Request, Response, User
from kubeclient.informer import Informer
from kubeclient.inprocess import HandlerTransport
from kubeclient.rest import MERGE_PATCH, Client
from nodeagent.agent import Agent, Surroundings
from nodeagent.capacity import Capacity
from nodeagent.hollow.cri import EXIT_CODE, RUN_SECONDS
from nodeagent.hollow.nodes import HollowNodes, Shape
from nodeagent.hollow.volumes import HollowVolumes
from nodeagent.logs.files import PodLogs
from nodeagent.node import Identity
from nodeagent.podcgroups import PodCgroups


@dataclass
class Cluster:
    client: Client
    clock: Clock
    nodes: HollowNodes
    pods: Informer[Pod]
    node_transport: Callable[[str], HandlerTransport]
    stop_nodes: Callable[[], Awaitable[None]]

    async def create(self, name: str = "p", node: str = "hollow-0000", **fields: Any) -> Pod:
        annotations = fields.pop("annotations", {})
        containers = fields.pop("containers", None) or [Container(name="c", image="busybox:1")]
        meta = ObjectMeta(name=name, namespace="default", annotations=annotations)
        return await self.client.create(
            Pod(metadata=meta, spec=PodSpec(containers=containers, nodeName=node, **fields))
        )

    async def until(self, name: str, holds: Callable[[Pod], bool], seconds: float = 60.0) -> Pod:
        """Wait for the pod to be so, in virtual time."""
        deadline = self.clock.monotonic() + seconds
        while True:
            pod = self.pods.items.get(f"default/{name}")
            if pod is not None and holds(pod):
                return pod
            assert self.clock.monotonic() < deadline, f"still {pod.status if pod else None}"
            await self.clock.sleep(0.05)

    async def until_gone(self, name: str, seconds: float = 60.0) -> None:
        deadline = self.clock.monotonic() + seconds
        while f"default/{name}" in self.pods.items:
            assert self.clock.monotonic() < deadline, f"pod {name} is still there"
            await self.clock.sleep(0.05)


@contextlib.asynccontextmanager
async def cluster(count: int = 1, seed: int = 1) -> AsyncIterator[Cluster]:
    clock = virtual_clock()
    app = build(Config(), MemoryStore(), clock, seed)

    def transport(name: str) -> HandlerTransport:
        return HandlerTransport(app.handle, User(f"system:node:{name}", ("system:nodes",)))

    def client(name: str) -> Client:
        return Client(transport(name))

    async def stop_nodes() -> None:
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])

    admin = Client(HandlerTransport(app.handle, User("admin", ("system:masters",))))
    nodes = HollowNodes(client, clock, count=count, seed=seed)
    pods = Informer(admin, Pod, clock)
    tasks = [asyncio.create_task(each) for each in (app.run(), nodes.run(), pods.run())]
    try:
        await nodes.registered()
        await pods.synced.wait()
        yield Cluster(admin, clock, nodes, pods, transport, stop_nodes)
    finally:
        for task in reversed(tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def virtually(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(test())  # type: ignore[arg-type]

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def waiting(pod: Pod) -> str:
    """Why the first container waits."""
    statuses = pod.status.containerStatuses
    return statuses[0].state.waiting.reason if statuses and statuses[0].state.waiting else ""


def running(pod: Pod) -> bool:
    return pod.status.phase == "Running" and all(each.ready for each in pod.status.containerStatuses)


@virtually
async def test_a_pod_runs_and_is_deleted() -> None:
    async with cluster() as c:
        await c.create(containers=[Container(name="a", image="x:1"), Container(name="b", image="x:1")])
        pod = await c.until("p", running, 2)
        assert {each.type: each.status for each in pod.status.conditions} == {
            "PodReadyToStartContainers": "True",
            "Initialized": "True",
            "Ready": "True",
            "ContainersReady": "True",
            "PodScheduled": "True",
        }
        assert pod.status.podIP and pod.status.hostIP == "192.168.0.1" and pod.status.qosClass == "BestEffort"
        await c.client.delete(Pod, "p", "default")
        await c.until_gone("p", 5)
        runtime = c.nodes.runtimes["hollow-0000"]
        assert runtime.running() == [] and await runtime.list_pod_sandboxes() == []
        events = await c.client.list(Event, "default")
        assert {"Pulled", "Created", "Started", "Killing"} <= {each.reason for each in events.items}
        started = next(each for each in events.items if each.reason == "Started")
        assert started.involvedObject.fieldPath.startswith("spec.containers{")


@virtually
async def test_the_node_is_registered_and_renews_its_lease() -> None:
    async with cluster() as c:
        node = await c.client.get(Node, "hollow-0000")
        assert node.status.capacity["cpu"] == "8" and node.metadata.labels["kubernetes.io/os"] == "linux"
        assert [each.status for each in node.status.conditions if each.type == "Ready"] == ["True"]
        await c.clock.sleep(1)
        first = await c.client.get(Lease, "hollow-0000", "kube-node-lease")
        await c.clock.sleep(11)
        later = await c.client.get(Lease, "hollow-0000", "kube-node-lease")
        assert first.spec.renewTime < later.spec.renewTime


@virtually
async def test_exit_crash_loop_and_completion() -> None:
    async with cluster() as c:
        await c.create("once", annotations={RUN_SECONDS: "5"}, restartPolicy="Never")
        await c.create("loop", annotations={RUN_SECONDS: "1", EXIT_CODE: "3"})
        done = await c.until("once", lambda pod: pod.status.phase == "Succeeded", 8)
        assert done.status.containerStatuses[0].state.terminated.reason == "Completed"
        loop = await c.until("loop", lambda pod: waiting(pod) == "CrashLoopBackOff")
        assert loop.status.containerStatuses[0].lastState.terminated.exitCode == 3
        loop = await c.until("loop", lambda pod: pod.status.containerStatuses[0].restartCount >= 3, 60)
        assert loop.status.phase == "Running"


@virtually
async def test_an_image_that_does_not_exist() -> None:
    async with cluster() as c:
        c.nodes.runtimes["hollow-0000"].missing.add("nope:1")
        await c.create(containers=[Container(name="c", image="nope:1")])
        await c.until("p", lambda pod: waiting(pod) == "ErrImagePull", 5)
        await c.until("p", lambda pod: waiting(pod) == "ImagePullBackOff", 5)
        events = await c.client.list(Event, "default")
        assert 'Failed to pull image "nope:1": nope:1: not found' in {each.message for each in events.items}


@virtually
async def test_a_runtime_that_is_away_costs_no_container_and_makes_the_node_not_ready() -> None:
    async with cluster() as c:
        runtime = c.nodes.runtimes["hollow-0000"]
        await c.create()
        pod = await c.until("p", running)
        runtime.go_away()
        await c.clock.sleep(3)

        async def ready() -> str:
            node = await c.client.get(Node, "hollow-0000")
            return next(each.status for each in node.status.conditions if each.type == "Ready")

        assert await ready() == "False"
        assert running(c.pods.items["default/p"])
        await c.create("q")
        await c.clock.sleep(3)
        runtime.come_back()
        await c.until("q", running, 10)
        await c.clock.sleep(1)
        assert await ready() == "True"
        after = c.pods.items["default/p"].status.containerStatuses[0]
        assert (after.restartCount, after.containerID) == (0, pod.status.containerStatuses[0].containerID)


@virtually
async def test_a_runtime_that_comes_after_its_agent_is_ready_at_once_and_has_its_range() -> None:
    async with cluster(count=0) as c:
        nodes = HollowNodes(lambda name: Client(c.node_transport(name)), c.clock, count=1, name=lambda _: "late")
        runtime = nodes.runtimes["late"]
        runtime.go_away()
        running_nodes = asyncio.create_task(nodes.run())
        await nodes.registered()
        # As an operator or a controller would: the agent hears of it when it next writes its status.
        await c.client.patch(Node, "late", "", {"spec": {"podCIDR": "10.9.0.0/24"}}, content_type=MERGE_PATCH)
        await c.clock.sleep(3)
        runtime.come_back()
        await c.clock.sleep(1)
        node = await c.client.get(Node, "late")
        assert {each.type: each.status for each in node.status.conditions}["Ready"] == "True"
        assert runtime.pod_cidr == "10.9.0.0/24"
        running_nodes.cancel()
        await asyncio.wait([running_nodes])


@virtually
async def test_an_exit_while_the_runtime_was_away_is_noticed() -> None:
    async with cluster() as c:
        runtime = c.nodes.runtimes["hollow-0000"]
        await c.create()
        await c.until("p", running)
        runtime.go_away()
        runtime.crash(runtime.running()[0], 9)
        runtime.come_back()
        pod = await c.until("p", lambda pod: pod.status.containerStatuses[0].restartCount == 1, 15)
        assert pod.status.containerStatuses[0].lastState.terminated.exitCode == 9


class LateTransport:
    """The API server takes its time to tell of pods."""

    def __init__(self, inner: HandlerTransport, clock: Clock, seconds: float) -> None:
        self._inner = inner
        self._clock = clock
        self._seconds = seconds

    async def request(self, request: Request) -> Response:
        if request.path == "/api/v1/pods":
            await self._clock.sleep(self._seconds)
        return await self._inner.request(request)

    async def close(self) -> None:
        await self._inner.close()


def another_agent(identity: Identity, client: Client, c: Cluster, capacity: Callable[[], Capacity]) -> Agent:
    """An agent that follows the one that was stopped, on the same runtime."""
    return Agent(
        identity,
        client,
        c.nodes.runtimes[identity.name],
        c.clock,
        Surroundings(capacity=capacity, allocatable=capacity),
        lambda sources: HollowVolumes(),
        logs=PodLogs(None),
        cgroups=PodCgroups(None, ""),
        seed=2,
    )


@virtually
async def test_capacity_that_changes_is_reported() -> None:
    async with cluster() as c:
        identity = c.nodes.agents["hollow-0000"].identity
        await c.stop_nodes()
        capacities = [Shape(cpu_milli=8000).capacity()]
        agent = another_agent(identity, Client(c.node_transport("hollow-0000")), c, lambda: capacities[-1])
        task = asyncio.create_task(agent.run())
        await c.clock.sleep(2)
        before = await c.client.get(Node, "hollow-0000")
        await c.clock.sleep(60)
        quiet = await c.client.get(Node, "hollow-0000")
        capacities.append(Shape(cpu_milli=1500).capacity())
        await c.clock.sleep(11)
        after = await c.client.get(Node, "hollow-0000")
        assert (before.status.capacity["cpu"], after.status.allocatable["cpu"]) == ("8", "1500m")
        assert before.metadata.resourceVersion == quiet.metadata.resourceVersion  # nothing new, nothing written
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@virtually
async def test_an_exit_between_finding_a_container_and_hearing_of_its_pod_is_noticed() -> None:
    async with cluster() as c:
        runtime = c.nodes.runtimes["hollow-0000"]
        await c.create()
        await c.until("p", running)
        old = c.nodes.agents["hollow-0000"]
        await c.stop_nodes()
        late = Client(LateTransport(c.node_transport("hollow-0000"), c.clock, 5.0))
        agent = another_agent(old.identity, late, c, Shape().capacity)
        task = asyncio.create_task(agent.run())
        await c.clock.sleep(3)
        runtime.crash(runtime.running()[0], 6)
        pod = await c.until("p", lambda pod: pod.status.containerStatuses[0].restartCount == 1, 15)
        assert pod.status.containerStatuses[0].lastState.terminated.exitCode == 6
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@virtually
async def test_a_force_deleted_pod_is_cleared_from_the_node() -> None:
    async with cluster() as c:
        await c.create()
        await c.until("p", running)
        await c.client.delete(Pod, "p", "default", grace_seconds=0)
        await c.until_gone("p", 1)
        await c.clock.sleep(5)
        assert await c.nodes.runtimes["hollow-0000"].list_pod_sandboxes() == []
        with pytest.raises(NotFound):
            await c.client.get(Pod, "p", "default")


@virtually
async def test_a_pod_that_does_not_fit_is_refused_by_the_node() -> None:
    async with cluster() as c:
        big = Container(name="c", image="x:1")
        big.resources.requests = {"cpu": "9"}
        await c.create(containers=[big])
        pod = await c.until("p", lambda pod: pod.status.phase == "Failed", 2)
        assert pod.status.reason == "OutOfcpu"
        assert "requested: 9000, used: 0, capacity: 8000" in pod.status.message


def history(seed: int) -> list[tuple[str, str, str, str]]:
    """What 40 pods on 4 nodes look like when all run."""

    async def live() -> list[tuple[str, str, str, str]]:
        async with cluster(4, seed) as c:
            for index in range(40):
                await c.create(f"p{index}", f"hollow-{index % 4:04d}")
            for index in range(40):
                await c.until(f"p{index}", running)
            return [
                (key, pod.metadata.uid, pod.status.podIP, pod.status.containerStatuses[0].containerID)
                for key, pod in sorted(c.pods.items.items())
            ]

    return run_virtual(live())


def test_the_same_seed_gives_the_same_life() -> None:
    assert history(7) == history(7)
    assert history(7) != history(8)


@virtually
async def test_a_thousand_pods_on_a_hundred_nodes() -> None:
    async with cluster(100) as c:
        for batch in range(0, 1000, 100):
            await asyncio.gather(*(c.create(f"p{batch + index}", f"hollow-{index:04d}") for index in range(100)))
        for index in range(1000):
            await c.until(f"p{index}", running)
