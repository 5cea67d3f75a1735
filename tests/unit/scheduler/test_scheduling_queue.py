"""The scheduling queue in virtual time: order, back-off, parking and what wakes whom."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

import pytest

from componentbase.clock import run_virtual, virtual_clock
from scheduler.podinfo import PodInfo
from scheduler.queue import ACTIVE, BACKOFF, PARKED, SchedulingQueue
from tests.unit.scheduler.builders import info

EVENTS = {"Fit": frozenset({"NodeAdd", "AssignedPodDelete"}), "Taint": frozenset({"NodeAdd", "UpdateNodeTaint"})}


def play(script: Any) -> Any:
    async def main() -> Any:
        clock = virtual_clock()
        return await script(SchedulingQueue(clock, EVENTS), clock)

    work: Coroutine[Any, Any, Any] = main()
    return run_virtual(work)


async def names(queue: SchedulingQueue, count: int) -> list[str]:
    return [(await queue.pop()).key.removeprefix("default/") for _ in range(count)]


def test_priority_goes_first_then_who_came_first() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> list[str]:
        for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
            queue.add(info(name, priority=priority))
        return await names(queue, 5)

    assert play(script) == ["b", "d", "a", "c", "e"]


def test_a_parked_pod_waits_for_an_event_that_may_help_it() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> list[str]:
        places = []
        queue.add(info("a"))
        queue.park(await queue.pop(), ["Fit"])
        await clock.sleep(20)
        for event in ("UpdateNodeTaint", "UpdateNodeLabel", "AssignedPodDelete"):
            queue.wake(event)
            places.append(queue.place("default/a"))
        assert len(queue) == 1
        return places

    assert play(script) == [PARKED, PARKED, ACTIVE]


def test_without_any_nodes_every_event_helps() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> str:
        queue.add(info("a"))
        queue.park(await queue.pop(), [])
        await clock.sleep(20)
        queue.wake("UpdateNodeLabel")
        return queue.place("default/a")

    assert play(script) == ACTIVE


def test_back_off_doubles_from_one_to_ten_seconds() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> list[float]:
        moments = []
        queue.add(info("a"))
        for _ in range(7):
            pod = await queue.pop()
            moments.append(clock.monotonic())
            queue.retry(pod)
        return [later - earlier for earlier, later in itertools.pairwise(moments)]

    assert play(script) == [1, 2, 4, 8, 10, 10]


def test_a_woken_pod_first_ends_its_back_off() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> float:
        queue.add(info("a"))
        queue.park(await queue.pop(), ["Fit"])
        queue.wake("NodeAdd")
        assert queue.place("default/a") == BACKOFF
        await queue.pop()
        return float(clock.monotonic())

    assert play(script) == 1


def test_a_parked_pod_is_tried_after_five_minutes_anyway() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> list[float]:
        moments = []
        for name in "ab":
            queue.add(info(name))
            queue.park(await queue.pop(), ["Fit"])
            await clock.sleep(10)
        for _ in range(2):
            await queue.pop()
            moments.append(clock.monotonic())
        return moments

    assert play(script) == [300, 310]


def test_a_status_update_leaves_a_parked_pod_where_it_is_a_spec_update_does_not() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> list[str]:
        places = []
        queue.add(info("a"))
        queue.park(await queue.pop(), ["Fit"])
        await clock.sleep(20)
        queue.add(info("a", phase="Pending"))
        places.append(queue.place("default/a"))
        queue.add(info("a", nodeSelector={"x": "y"}))
        places.append(queue.place("default/a"))
        assert (await queue.pop()).node_selector == {"x": "y"}
        return places

    assert play(script) == [PARKED, ACTIVE]


def test_another_pod_of_the_same_name_starts_afresh() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> str:
        queue.add(info("a"))
        queue.park(await queue.pop(), ["Fit"])
        queue.add(info("a", uid="another"))
        assert (await queue.pop()).uid == "another"
        return queue.place("default/a")

    assert play(script) == ""


def test_a_removed_pod_does_not_come_back() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> None:
        for name in "abc":
            queue.add(info(name))
        queue.remove("default/b")
        assert await names(queue, 1) == ["a"]
        queue.park(info("a"), ["Fit"])
        queue.remove("default/a")
        queue.wake("NodeAdd")
        assert await names(queue, 1) == ["c"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.pop(), 1000)
        assert "default/a" not in queue

    play(script)


def test_an_older_attempt_does_not_replace_a_newer_pod() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> PodInfo:
        queue.add(info("a", uid="old"))
        old = await queue.pop()
        queue.add(info("a", uid="new"))
        queue.retry(old)
        return await queue.pop()

    assert play(script).uid == "new"


def test_a_waiting_consumer_is_woken() -> None:
    async def script(queue: SchedulingQueue, clock: Any) -> str:
        popping = asyncio.ensure_future(queue.pop())
        await clock.sleep(5)
        queue.add(info("a"))
        return (await popping).key

    assert play(script) == "default/a"
