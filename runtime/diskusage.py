"""What containers have written, measured in a thread and remembered for a while: a walk over many files is dear."""

from __future__ import annotations

import asyncio

from componentbase.clock import Clock
from runtime.snapshots.interface import Snapshotter

FRESH_SECONDS = 30.0


class DiskUsage:
    """(bytes, inodes) by container. Forgets what it is not asked for while it is pruned."""

    def __init__(self, snapshots: Snapshotter, clock: Clock) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[int, int]]] = {}

    async def of(self, key: str) -> tuple[int, int]:
        """Measured at most FRESH_SECONDS ago."""
        known = self._known.get(key)
        if known is None or self._clock.monotonic() - known[0] > FRESH_SECONDS:
            usage = await asyncio.to_thread(self._snapshots.usage, key)
            known = self._known[key] = (self._clock.monotonic(), usage)
        return known[1]

    def forget_all_but(self, keys: set[str]) -> None:
        for key in self._known.keys() - keys:
            del self._known[key]
