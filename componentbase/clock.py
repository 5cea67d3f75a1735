"""Time as an argument: a real clock, and a virtual one that jumps.

No component reads the wall clock: it gets a `Clock`. `virtual_loop()` makes an asyncio event loop whose `time()` moves
to the next timer as soon as nothing is ready, so that an hour passes in the time its callbacks take; asyncio's own
time-outs obey it. In that mode nothing may wait for a thread, a socket or a process: with no timer left the loop raises
`Deadlock` instead of hanging. `run_virtual` is the short way for tests.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

# 2025-01-01T00:00:00Z: where virtual time begins unless told otherwise.
VIRTUAL_START = 1_735_689_600.0


class Clock(Protocol):
    """What a component may know about time."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """The clock of a virtual loop: `now` is `start` plus the loop's own time."""

    def __init__(self, loop: VirtualLoop, start: float = VIRTUAL_START) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> float:
        return self._start + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is left: something waits for what virtual time does not have."""


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never waits: instead of `timeout` seconds passing, the loop's time moves."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("virtual time: nothing is ready and no timer is left")
            if timeout > 0:
                self.loop.advance(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; begins at 0.0."""

    def __init__(self) -> None:
        self._virtual_seconds = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_seconds

    def advance(self, seconds: float) -> None:
        """Move time on. Only the selector calls this, when nothing is ready."""
        self._virtual_seconds += seconds


def virtual_loop() -> VirtualLoop:
    """A new loop in virtual time; the caller runs and closes it."""
    return VirtualLoop()


def virtual_clock(start: float = VIRTUAL_START) -> VirtualClock:
    """The clock of the running virtual loop. Raises RuntimeError on an ordinary loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError(f"virtual clock needs a virtual loop, not {type(loop).__name__}")
    return VirtualClock(loop, start)


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time and return its result."""
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        return runner.run(main)
