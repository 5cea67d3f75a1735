"""The work queue keeps client-go's promises: no key twice at once, no change lost, delays on the clock."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from componentbase.clock import run_virtual, virtual_clock
from kubeclient.backoff import Backoff, KeyedBackoff
from kubeclient.workqueue import ShutDown, WorkQueue


def test_a_key_waits_once_and_keys_come_in_order() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue(virtual_clock())
        for key in "abacb":
            queue.add(key)
        assert len(queue) == 3
        return [await queue.get() for _ in range(3)]

    assert run_virtual(main()) == ["a", "b", "c"]


def test_a_key_added_while_it_is_worked_on_comes_back_when_done() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(virtual_clock())
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    run_virtual(main())


def test_delayed_keys_come_at_their_time_the_earliest_counts() -> None:
    async def main() -> list[tuple[float, str]]:
        clock = virtual_clock()
        queue: WorkQueue[str] = WorkQueue(clock)
        queue.add_after("slow", 9)
        queue.add_after("soon", 5)
        queue.add_after("slow", 3)
        queue.add_after("slow", 7)
        found = []
        for _ in range(2):
            key = await queue.get()
            found.append((clock.monotonic(), key))
            queue.done(key)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 100)
        return found

    assert run_virtual(main()) == [(3, "slow"), (5, "soon")]


def test_an_earlier_delay_wakes_one_who_already_waits() -> None:
    async def main() -> float:
        clock = virtual_clock()
        queue: WorkQueue[str] = WorkQueue(clock)
        queue.add_after("late", 50)
        waiting = asyncio.ensure_future(queue.get())
        await clock.sleep(1)
        queue.add_after("early", 2)
        assert await waiting == "early"
        return clock.monotonic()

    assert run_virtual(main()) == 3


def test_failures_double_the_delay_until_forgotten() -> None:
    async def main() -> list[float]:
        clock = virtual_clock()
        queue: WorkQueue[str] = WorkQueue(clock, backoff=KeyedBackoff(1, 5))
        delays = []
        for _ in range(4):
            began = clock.monotonic()
            queue.add_rate_limited("a")
            queue.done(await queue.get())
            delays.append(clock.monotonic() - began)
        assert queue.requeues("a") == 4
        queue.forget("a")
        assert queue.requeues("a") == 0
        return delays

    assert run_virtual(main()) == [1, 2, 4, 5]


def test_shut_down_drains_and_then_ends_every_worker() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue(virtual_clock())
        queue.add("a")
        queue.add_after("never", 10)
        queue.shut_down()
        queue.add("b")
        assert await queue.get() == "a"
        results = await asyncio.gather(queue.get(), queue.get(), return_exceptions=True)
        assert [type(each) for each in results] == [ShutDown, ShutDown]

    run_virtual(main())


def test_a_wake_up_of_a_cancelled_worker_goes_to_the_next() -> None:
    async def main() -> str:
        queue: WorkQueue[str] = WorkQueue(virtual_clock())
        first = asyncio.ensure_future(queue.get())
        second = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        return await asyncio.wait_for(second, 10)

    assert run_virtual(main()) == "a"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=30), st.integers(1, 3))
def test_every_add_is_followed_by_a_pass_that_began_later_and_none_overlap(
    adds: list[tuple[str, int]], workers: int
) -> None:
    async def main() -> None:
        clock = virtual_clock()
        queue: WorkQueue[str] = WorkQueue(clock)
        began: dict[str, list[float]] = {key: [] for key in "abc"}
        working: set[str] = set()

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in working
                working.add(key)
                began[key].append(clock.monotonic())
                await clock.sleep(1.5)
                working.discard(key)
                queue.done(key)

        async def add(key: str, at: int) -> None:
            await clock.sleep(at)
            queue.add(key)

        tasks = [asyncio.ensure_future(work()) for _ in range(workers)]
        await asyncio.gather(*(add(key, at) for key, at in adds))
        await clock.sleep(100)
        for key, at in adds:
            assert max(began[key]) >= at
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())


def test_backoff_grows_to_its_cap_with_jitter_and_starts_over() -> None:
    backoff = Backoff(1, 8, jitter=0.5, seed=7)
    delays = [backoff.next_seconds() for _ in range(6)]
    for delay, base in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
        assert base <= delay <= base * 1.5
    backoff.reset()
    assert backoff.next_seconds() <= 1.5
    again = Backoff(1, 8, jitter=0.5, seed=7)
    assert [again.next_seconds() for _ in range(6)] == delays


def test_backoff_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="from 5 to 1"):
        Backoff(5, 1)


def test_keyed_backoff_does_not_overflow() -> None:
    backoff = KeyedBackoff(0.005, 1000)
    for _ in range(5000):
        delay = backoff.next_seconds("k")
    assert delay == 1000
