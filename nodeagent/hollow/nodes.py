"""Many nodes in one process: real agents on in-memory runtimes, over any transport, in virtual or real time.

    nodes = HollowNodes(client_of_node, clock, count=100, seed=7)
    task = asyncio.create_task(nodes.run())
    await nodes.registered()

A hollow node has no HTTP server, volumes or logs; everything else is the agent that runs on real machines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from componentbase.clock import Clock
from kubeclient.rest import Client
from nodeagent.agent import Agent, Pace, Surroundings
from nodeagent.capacity import Capacity
from nodeagent.hollow.cri import HollowCRI, Timing
from nodeagent.hollow.volumes import HollowVolumes
from nodeagent.logs.files import PodLogs
from nodeagent.machine import Machine
from nodeagent.node import Identity
from nodeagent.podcgroups import PodCgroups

GIB = 1 << 30
MACHINE = Machine("hollow", "hollow", "hollow", "hollow", "Hollow node", "amd64")
# A hollow node has nothing to look at: its own rounds are rare, what happens comes as events.
PACE = Pace(observe=300.0, relist=300.0, refresh=3600.0)


@dataclass(frozen=True, slots=True)
class Shape:
    """What one hollow node has."""

    cpu_milli: int = 8000
    memory_bytes: int = 32 * GIB
    pods: int = 110
    pids: int = 32768
    ephemeral_storage_bytes: int = 100 * GIB
    labels: dict[str, str] = field(default_factory=dict)

    def capacity(self) -> Capacity:
        return Capacity(self.cpu_milli, self.memory_bytes, self.pids, self.ephemeral_storage_bytes, self.pods)


def default_name(index: int) -> str:
    """hollow-0000, hollow-0001, ..."""
    return f"hollow-{index:04d}"


class HollowNodes:
    """`count` nodes. shape(index) and name(index) describe each; `runtimes` are theirs, by node name, for tests that
    break things."""

    def __init__(
        self,
        client: Callable[[str], Client],
        clock: Clock,
        *,
        count: int,
        seed: int | str = 0,
        shape: Callable[[int], Shape] = lambda index: Shape(),
        name: Callable[[int], str] = default_name,
        timing: Timing | None = None,
        pace: Pace = PACE,
    ) -> None:
        self.runtimes: dict[str, HollowCRI] = {}
        self.agents: dict[str, Agent] = {}
        for index in range(count):
            self._add(index, client, clock, seed, shape(index), name(index), timing, pace)

    def _add(
        self,
        index: int,
        client: Callable[[str], Client],
        clock: Clock,
        seed: int | str,
        shape: Shape,
        name: str,
        timing: Timing | None,
        pace: Pace,
    ) -> None:
        prefix = f"10.{64 + index // 256 % 64}"
        runtime = HollowCRI(clock, seed=f"{seed}/{name}", timing=timing, prefix=prefix)
        ip = f"192.168.{index // 250 % 256}.{index % 250 + 1}"
        identity = Identity(name=name, hostname=name, ip=ip, machine=MACHINE, labels=shape.labels)
        capacity = shape.capacity()
        self.runtimes[name] = runtime
        self.agents[name] = Agent(
            identity,
            client(name),
            runtime,
            clock,
            Surroundings(capacity=lambda: capacity, allocatable=lambda: capacity),
            lambda sources: HollowVolumes(),
            logs=PodLogs(None),
            cgroups=PodCgroups(None, ""),
            seed=f"{seed}/{name}",
            pace=pace,
        )

    async def run(self) -> None:
        """Run all of them until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, agent in self.agents.items():
                    tasks.create_task(agent.run(), name=f"agent {name}")
        finally:
            for runtime in self.runtimes.values():
                await runtime.close()

    async def registered(self) -> None:
        """Returns when the API server has every node."""
        for agent in self.agents.values():
            await agent.registered()
