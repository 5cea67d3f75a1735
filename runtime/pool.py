"""One sandbox made ahead of time, so that the next pod finds its namespaces, network and spares ready.

It is filled when the runtime has been quiet for a moment, never beside a pod that is being started. On disk it is an
unfinished sandbox, so that a successor sweeps it up; nobody sees it in lists.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from runtime.errors import RuntimeFault
from runtime.sandbox import Sandbox

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.2
ORDINARY = ["network", "uts", "ipc"]


class SandboxPool:
    """`make` gives a new, empty sandbox. Owns the one that waits until it is taken."""

    def __init__(self, make: Callable[[], Sandbox], *, enabled: bool) -> None:
        self._make = make
        self._enabled = enabled
        self._waiting: Sandbox | None = None
        self._filling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> str:
        """Id of the sandbox that waits, "" if none does."""
        return self._waiting.id if self._waiting else ""

    def take(self, own: list[str]) -> Sandbox | None:
        """The sandbox that waits, if it has the namespaces asked for."""
        if self._waiting is None or own != ORDINARY or not self._waiting.connected:
            return None
        taken, self._waiting = self._waiting, None
        return taken

    def touch(self) -> None:
        """Something is going on: fill up when it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._enabled and (self._waiting is None or not self._waiting.connected):
            self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._filling is None or self._filling.done():
            self._filling = asyncio.create_task(self._fill(), name="prepare a sandbox")

    async def _fill(self) -> None:
        if self._waiting is not None:
            await self._waiting.discard()
            self._waiting = None
        sandbox = self._make()
        try:
            await sandbox.prepare(ORDINARY, ahead=True)
        except RuntimeFault as error:
            # The next pod will meet the same and say it to whom it concerns.
            log.warning("no sandbox could be prepared: %s", error)
            return
        self._waiting = sandbox

    async def close(self) -> None:
        self._enabled = False
        if self._timer is not None:
            self._timer.cancel()
        if self._filling is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._filling
        if self._waiting is not None:
            await self._waiting.discard()
            self._waiting = None
