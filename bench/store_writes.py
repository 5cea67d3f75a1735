"""Latency of an acknowledged write to the SQLite store, idle and beside an event loop that is always busy.

    python bench/store_writes.py [--clients 64] [--writes 100]

Ours asks the kernel to sync (`KernelSync`); the peer is the usual way, `fdatasync` in a thread (`ThreadSync`), on the
same store, disk and loop. 2 KB values, all clients at once; a busy loop is one that also runs a task that never waits.
What we gain is latency for few writers beside a busy loop (look at the ninetieth percentile); with many writers a group
is large, and both are alike.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import uvloop
from _figures import table

from apiserver.storage import sqlite
from apiserver.storage.disksync import KernelSync, ThreadSync

VALUE = b"x" * 2000


async def latencies_ms(directory: str, sync: type, clients: int, writes: int, *, busy: bool) -> list[float]:
    """One sample per write."""
    loop = asyncio.get_running_loop()
    store = sqlite.SqliteStore(Path(directory) / f"{sync.__name__}-{clients}-{busy}.db")
    store._sync = sync(loop)
    samples: list[float] = []

    async def client(number: int) -> None:
        for index in range(writes):
            began = time.perf_counter()
            await store.create(f"/registry/pods/{number}/{index}", VALUE)
            samples.append((time.perf_counter() - began) * 1000)

    async def spin() -> None:
        while True:
            sum(range(2000))
            await asyncio.sleep(0)

    spinning = loop.create_task(spin()) if busy else None
    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    seconds = time.perf_counter() - began
    if spinning is not None:
        spinning.cancel()
    await store.close()
    print(f"  {sync.__name__}: {len(samples) / seconds:,.0f} writes/s")
    return samples


async def main(clients: int, writes: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        for busy in (False, True):
            for count in (1, clients):
                ours = await latencies_ms(directory, KernelSync, count, writes, busy=busy)
                peer = await latencies_ms(directory, ThreadSync, count, writes, busy=busy)
                title = f"one write, {count} clients, {'busy' if busy else 'idle'} event loop"
                table(title, [("fdatasync in a thread", peer, "")], ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--writes", type=int, default=100, help="of each client")
    given = parser.parse_args()
    uvloop.run(main(given.clients, given.writes))
