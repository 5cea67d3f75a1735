"""A whole cluster in this process: API server on the memory store, scheduler, and hollow nodes, without a socket.

    async def main() -> None:
        async with Cluster(nodes=100, seed=1) as cluster:
            await cluster.client.create(pod)
            await cluster.running(1)

    run_virtual(main())

The parts are the deployed ones; only what carries their requests (`HandlerTransport`), what runs the containers (an
in-memory CRI) and, in a virtual loop, the clock are others. In virtual time the same seed gives the same life, to the
last uid and placement. A part that fails ends the `async with` with its error. Hollow nodes have no logs and no exec.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType

from apimachinery.errors import Expired
from apimachinery.kinds.pod import Pod
from apiserver.app import App, build
from apiserver.config import Config as ApiServerConfig
from apiserver.storage.memory import MemoryStore
from componentbase.clock import Clock, RealClock, VirtualLoop, run_virtual, virtual_clock
from componentbase.http import User
from kubeclient.inprocess import HandlerTransport
from kubeclient.rest import Client
from nodeagent.hollow.cri import Timing
from nodeagent.hollow.nodes import HollowNodes, Shape
from scheduler.app import Scheduler
from scheduler.framework import Policy
from scheduler.policies import catalog

__all__ = ["Cluster", "Shape", "Timing", "run_virtual"]

ADMIN = User("admin", ("system:masters",))
SCHEDULER = User("system:kube-scheduler")


class Cluster:
    """One cluster; `client` is its administrator's, `nodes` its hollow nodes, `clock` the one that all parts obey."""

    def __init__(
        self,
        *,
        nodes: int = 1,
        seed: int = 0,
        shape: Callable[[int], Shape] = lambda index: Shape(),
        timing: Timing | None = None,
        policy: Policy | str = "default",
        clock: Clock | None = None,
    ) -> None:
        self._count = nodes
        self._seed = seed
        self._shape = shape
        self._timing = timing
        self._policy = catalog.load(policy) if isinstance(policy, str) else policy
        self._clock = clock
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._transports: list[HandlerTransport] = []
        self.app: App
        self.clock: Clock
        self.client: Client
        self.nodes: HollowNodes
        self.scheduler: Scheduler

    async def __aenter__(self) -> Cluster:
        self.clock = self._clock or _clock_of_this_loop()
        self._store = MemoryStore()
        self.app = build(ApiServerConfig(), self._store, self.clock, self._seed)
        self.client = self.client_for(ADMIN)
        self.nodes = HollowNodes(
            lambda name: self.client_for(User(f"system:node:{name}", ("system:nodes",))),
            self.clock,
            count=self._count,
            seed=self._seed,
            shape=self._shape,
            timing=self._timing,
        )
        self.scheduler = Scheduler(self.client_for(SCHEDULER), self.clock, self._policy, self._seed)
        await self._tasks.__aenter__()
        try:
            self._start(self.app.run(), "api server")
            await self.app.ready()
            self._start(self.scheduler.run(), "scheduler")
            self._start(self.nodes.run(), "hollow nodes")
            await self.nodes.registered()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The clients of the API server first: they would call its end a failure.
        for task in reversed(self._running):
            task.cancel()
            await asyncio.wait([task])
        self.app.stop()
        try:
            await self._tasks.__aexit__(kind, error, traceback)
        finally:
            for transport in self._transports:
                await transport.close()
            await self._store.close()

    def client_for(self, user: User) -> Client:
        """A client that acts as somebody else; closed with the cluster."""
        transport = HandlerTransport(self.app.handle, user)
        self._transports.append(transport)
        return Client(transport)

    async def running(self, count: int, *, namespace: str | None = None, seconds: float = 600.0) -> dict[str, str]:
        """Wait until `count` pods are Running; where they are: node by `namespace/name`. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                listing = await self.client.list(Pod, namespace)
                found = {_key(pod): pod.spec.nodeName for pod in listing.items if pod.status.phase == "Running"}
                try:
                    await self._watch_until(found, count, namespace, listing.resourceVersion)
                    return dict(sorted(found.items()))
                except Expired:
                    continue

    async def _watch_until(self, found: dict[str, str], count: int, namespace: str | None, version: str) -> None:
        """Keep `found` (nodes of running pods) true until it has `count` entries."""
        if len(found) >= count:
            return
        async with aclosing(self.client.watch(Pod, namespace, resource_version=version)) as events:
            async for event in events:
                if event.type in ("ADDED", "MODIFIED") and event.object.status.phase == "Running":
                    found[_key(event.object)] = event.object.spec.nodeName
                else:
                    found.pop(_key(event.object), None)
                if len(found) >= count:
                    return

    def _start(self, coroutine: object, name: str) -> None:
        self._running.append(self._tasks.create_task(coroutine, name=name))  # type: ignore[arg-type]


def _key(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _clock_of_this_loop() -> Clock:
    return virtual_clock() if isinstance(asyncio.get_running_loop(), VirtualLoop) else RealClock()
