import asyncio
import time

import pytest

from componentbase.clock import VIRTUAL_START, Deadlock, run_virtual, virtual_clock


def test_an_hour_passes_at_once():
    async def main():
        clock = virtual_clock()
        await clock.sleep(3600)
        return clock.now()

    began = time.monotonic()
    assert run_virtual(main()) == VIRTUAL_START + 3600
    assert time.monotonic() - began < 5


def test_timers_fire_in_order_and_timeouts_obey():
    async def main():
        loop, seen = asyncio.get_running_loop(), []

        async def mark(after):
            await asyncio.sleep(after)
            seen.append((after, loop.time()))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.gather(mark(3), mark(1), mark(10))
        return seen

    assert run_virtual(main()) == [(1, 1.0), (3, 3.0)]


def test_waiting_for_nothing_is_an_error():
    async def main():
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(main())


async def test_a_virtual_clock_needs_a_virtual_loop():
    with pytest.raises(RuntimeError, match="virtual loop"):
        virtual_clock()
