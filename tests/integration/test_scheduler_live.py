"""The live scheduler beside the real API server, in one process and in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from apimachinery.kinds.event import Event
from apimachinery.kinds.node import Node, NodeCondition, NodeStatus
from apimachinery.kinds.pod import Container, Pod, PodSpec
from apimachinery.kinds.pod_container import ResourceRequirements
from apimachinery.meta import ObjectMeta
from apiserver.app import App, build
from apiserver.config import Config
from apiserver.storage.memory import MemoryStore
from componentbase.clock import VirtualClock, run_virtual, virtual_clock
from componentbase.http import Request, Response, User
from kubeclient.inprocess import HandlerTransport
from kubeclient.rest import Client
from kubeclient.transport import TransportError
from scheduler.app import Scheduler
from scheduler.framework import Policy
from scheduler.podinfo import PodInfo
from scheduler.policies.default import POLICY

ADMIN = User("admin", ("system:masters",))
SCHEDULER = User("system:kube-scheduler")


class Cluster:
    """An API server, an admin, and a scheduler whose line to the API server can be cut or tampered with."""

    def __init__(self, app: App, clock: VirtualClock) -> None:
        self.app = app
        self.clock = clock
        self.admin = Client(HandlerTransport(app.handle, ADMIN))
        self.away = False
        self.tamper: Callable[[Request], Awaitable[Response | None]] | None = None
        self.asked: list[Request] = []

    async def line(self, request: Request) -> Response:
        self.asked.append(request)
        if self.away:
            raise TransportError("connection refused")
        answer = await self.tamper(request) if self.tamper is not None else None
        answer = answer or await self.app.handle(request)
        if not isinstance(answer.body, bytes):
            answer.body = self._breaking(answer.body)
        return answer

    async def _breaking(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(body):  # type: ignore[type-var]
            async for chunk in body:
                if self.away:
                    raise TransportError("connection reset")
                yield chunk

    def scheduler(self, policy: Policy = POLICY, seed: int = 1, name: str = "default-scheduler") -> Scheduler:
        transport = HandlerTransport(self.line, SCHEDULER)
        return Scheduler(Client(transport), self.clock, policy, seed, name=name)

    async def add_node(self, name: str, **allocatable: str) -> None:
        status = NodeStatus(
            allocatable={"cpu": "4", "memory": "8Gi", "pods": "110"} | allocatable,
            conditions=[NodeCondition(type="Ready", status="True")],
        )
        made = await self.admin.create(Node(metadata=ObjectMeta(name=name)))
        made.status = status
        await self.admin.update_status(made)

    async def add_pod(self, name: str, cpu: str = "1", **spec: Any) -> Pod:
        container = Container(name="c", image="i", resources=ResourceRequirements(requests={"cpu": cpu}))
        meta = ObjectMeta(name=name, namespace="default")
        return await self.admin.create(Pod(metadata=meta, spec=PodSpec(containers=[container], **spec)))

    async def placements(self) -> dict[str, str]:
        return {pod.metadata.name: pod.spec.nodeName for pod in (await self.admin.list(Pod)).items}

    async def events(self) -> list[tuple[str, str, str, int | None]]:
        listed = (await self.admin.list(Event)).items
        return sorted((each.involvedObject.name, each.reason, each.message, each.count) for each in listed)


def live(script: Callable[[Cluster], Awaitable[Any]], *, start: bool = True, **options: Any) -> Any:
    async def main() -> Any:
        clock = virtual_clock()
        app = build(Config(), MemoryStore(), clock, seed=1)
        tasks = [asyncio.ensure_future(app.run())]
        await app.ready()
        cluster = Cluster(app, clock)
        if start:
            tasks.append(asyncio.ensure_future(cluster.scheduler(**options).run()))
        try:
            result = await script(cluster)
            for task in tasks:
                if task.done():
                    task.result()
            return result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return run_virtual(main())


def test_pods_go_to_nodes_and_everybody_hears_of_it() -> None:
    async def script(cluster: Cluster) -> None:
        for name in ("n0", "n1"):
            await cluster.add_node(name)
        await cluster.add_pod("a", cpu="3")
        await cluster.add_pod("b", cpu="3")
        await cluster.clock.sleep(0.1)
        placed = await cluster.placements()
        assert sorted(placed.values()) == ["n0", "n1"]
        assert await cluster.events() == [
            (name, "Scheduled", f"Successfully assigned default/{name} to {placed[name]}", 1) for name in "ab"
        ]
        pod = await cluster.admin.get(Pod, "a", "default")
        assert [(each.type, each.status) for each in pod.status.conditions] == [("PodScheduled", "True")]

    live(script)


def test_a_pod_that_fits_nowhere_says_why_and_goes_when_there_is_room() -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_pod("early")
        await cluster.clock.sleep(0.1)
        [condition] = (await cluster.admin.get(Pod, "early", "default")).status.conditions
        assert (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")
        assert condition.message == "no nodes available to schedule pods"
        await cluster.add_node("n0")
        await cluster.clock.sleep(2)
        await cluster.add_pod("big", cpu="4")
        await cluster.clock.sleep(0.1)
        [condition] = (await cluster.admin.get(Pod, "big", "default")).status.conditions
        assert condition.message == "0/1 nodes are available: 1 Insufficient cpu."
        assert ("big", "FailedScheduling", condition.message, 1) in await cluster.events()
        assert (await cluster.placements())["early"] == "n0"
        await cluster.admin.delete(Pod, "early", "default", grace_seconds=0)
        await cluster.clock.sleep(2)
        big = await cluster.admin.get(Pod, "big", "default")
        assert big.spec.nodeName == "n0"
        assert [(each.type, each.status) for each in big.status.conditions] == [("PodScheduled", "True")]

    live(script)


def test_a_waiting_pod_does_not_keep_anybody_busy() -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0")
        await cluster.add_pod("big", cpu="40")
        await cluster.clock.sleep(5)
        before = len(cluster.asked)
        await cluster.clock.sleep(290)
        assert len(cluster.asked) == before
        await cluster.clock.sleep(3000)
        # Ten more attempts, one every five minutes, each one count of one event; watches are reopened.
        assert len(cluster.asked) - before < 60
        [(_, _, _, count)] = await cluster.events()
        assert count is not None
        assert 8 <= count <= 12

    live(script)


def test_only_its_own_pods_and_none_that_are_held_back() -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0", cpu="16")
        await cluster.add_pod("mine")
        await cluster.add_pod("foreign", schedulerName="other")
        await cluster.add_pod("gated", schedulingGates=[{"name": "example.com/wait"}])
        await cluster.clock.sleep(1)
        assert await cluster.placements() == {"mine": "n0", "foreign": "", "gated": ""}
        second = asyncio.ensure_future(cluster.scheduler(name="other").run())
        await cluster.clock.sleep(1)
        assert await cluster.placements() == {"mine": "n0", "foreign": "n0", "gated": ""}
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)

    live(script)


def test_higher_priority_goes_first() -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_pod("low", cpu="3")
        await cluster.add_pod("high", cpu="3", priorityClassName="system-cluster-critical")
        await cluster.add_node("n0")
        task = asyncio.ensure_future(cluster.scheduler().run())
        await cluster.clock.sleep(1)
        assert await cluster.placements() == {"low": "", "high": "n0"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    live(script, start=False)


def test_the_api_server_goes_away_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0", cpu="64")
        await cluster.add_pod("before")
        await cluster.clock.sleep(1)
        cluster.away = True
        for number in range(20):
            await cluster.add_pod(f"during-{number}")
        await cluster.clock.sleep(600)
        cluster.away = False
        await cluster.clock.sleep(2)
        assert set((await cluster.placements()).values()) == {"n0"}

    live(script)


def test_it_starts_while_the_api_server_is_away(caplog: pytest.LogCaptureFixture) -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0")
        await cluster.add_pod("a")
        cluster.away = True
        task = asyncio.ensure_future(cluster.scheduler().run())
        await cluster.clock.sleep(600)
        assert not task.done()
        assert len(cluster.asked) < 2000
        cluster.away = False
        await cluster.clock.sleep(2)
        assert await cluster.placements() == {"a": "n0"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    live(script, start=False)
    assert caplog.text.count("cannot follow Pod") == 1


def test_a_bind_whose_answer_is_lost_is_not_done_twice() -> None:
    async def script(cluster: Cluster) -> None:
        lost = []

        async def lose_the_answer(request: Request) -> Response | None:
            if request.path.endswith("/binding") and not lost:
                lost.append(await cluster.app.handle(request))
                raise TransportError("reset by peer")
            return None

        cluster.tamper = lose_the_answer
        await cluster.add_node("n0")
        await cluster.add_pod("a")
        await cluster.clock.sleep(30)
        assert await cluster.placements() == {"a": "n0"}
        assert [each[:2] for each in await cluster.events()] == [("a", "Scheduled")]

    live(script)


def test_somebody_else_was_faster() -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0", cpu="4")
        await cluster.add_node("n1", cpu="4")

        async def rival(request: Request) -> Response | None:
            if request.path.endswith("/pods/a/binding"):
                cluster.tamper = None
                pod = await cluster.admin.get(Pod, "a", "default")
                taken = "n1" if b'"n0"' in bytes(request.body) else "n0"  # type: ignore[arg-type]
                await cluster.admin.bind(pod, taken)
            return None

        cluster.tamper = rival
        await cluster.add_pod("a", cpu="4")
        await cluster.clock.sleep(1)
        # Had the scheduler not forgotten its own choice, nothing would fit now.
        await cluster.add_pod("b", cpu="4")
        await cluster.clock.sleep(30)
        placed = await cluster.placements()
        assert sorted(placed.values()) == ["n0", "n1"]

    live(script)


def test_a_pod_deleted_while_it_is_bound_leaves_no_trace() -> None:
    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0", cpu="4")

        async def delete_first(request: Request) -> Response | None:
            if request.path.endswith("/pods/a/binding"):
                await cluster.admin.delete(Pod, "a", "default", grace_seconds=0)
                await cluster.clock.sleep(1)
            return None

        cluster.tamper = delete_first
        await cluster.add_pod("a", cpu="4")
        await cluster.clock.sleep(5)
        cluster.tamper = None
        await cluster.add_pod("b", cpu="4")
        await cluster.clock.sleep(5)
        assert await cluster.placements() == {"b": "n0"}

    live(script)


def test_a_policy_that_fails_costs_only_the_pod_it_failed_on() -> None:
    def picky(pod: PodInfo, node: Any) -> float:
        if pod.key == "default/poison":
            raise ZeroDivisionError("oops")
        return 1.0

    async def script(cluster: Cluster) -> None:
        await cluster.add_node("n0")
        await cluster.add_pod("poison")
        await cluster.add_pod("fine")
        await cluster.clock.sleep(5)
        assert await cluster.placements() == {"poison": "", "fine": "n0"}
        assert ("poison", "FailedScheduling") in {each[:2] for each in await cluster.events()}

    live(script, policy=Policy("picky", filters=(), scores=((picky, 1),)))


def test_the_same_seed_gives_the_same_placements_another_gives_others() -> None:
    async def script(cluster: Cluster) -> dict[str, str]:
        for number in range(20):
            await cluster.add_node(f"n{number:02}")
        for number in range(60):
            await cluster.add_pod(f"p{number:02}", cpu="500m")
        await cluster.clock.sleep(5)
        return await cluster.placements()

    first, again, other = (live(script, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert "" not in first.values()
    assert max(list(first.values()).count(node) for node in set(first.values())) == 3
