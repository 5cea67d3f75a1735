"""Threads for what blocks: unpacking, hashing, building, fsync. An event loop never does these itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Of their own, so that unpacking never keeps the rest of the runtime waiting for a thread.
THREADS = 4


class Workers:
    """A small pool; `close` when the server ends."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="images")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does the work in a thread. A caller that is cancelled still waits for its end: files that the work writes to
        must not be closed under it."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # nobody else will look at it
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
