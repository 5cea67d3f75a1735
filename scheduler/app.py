"""The live scheduler: follows pods and nodes, decides, and tells the API server.

Decisions are made one after the other on the cache, which assumes each of them at once; binding goes on beside. When
the API server is away, decisions stop with the binds that wait for it, and go on by themselves. Runs on any client and
clock, also in one process in virtual time: `await Scheduler(client, clock, policy, seed).run()`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from apimachinery.errors import Conflict, NotFound, StatusError
from apimachinery.kinds.node import Node
from apimachinery.kinds.pod import Pod
from apimachinery.times import format_time
from componentbase.clock import Clock, RealClock
from kubeclient.backoff import Backoff
from kubeclient.events import NORMAL, WARNING, EventRecorder
from kubeclient.informer import Informer
from kubeclient.rest import STRATEGIC_PATCH, Client
from kubeclient.transport import TransportError
from scheduler.cache import Cache
from scheduler.config import DEFAULT_SCHEDULER_NAME, Config
from scheduler.decide import decide
from scheduler.framework import ASSIGNED_POD_DELETE, Policy
from scheduler.podinfo import PodInfo, pod_info
from scheduler.queue import SchedulingQueue

log = logging.getLogger(__name__)

# Writes under way at one time: beyond that decisions wait, so that a slow server is not buried.
WRITES = 64
RETRYABLE_CODES = (429, 500, 502, 503, 504)
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"


class Scheduler:
    """Gives the pods that name this scheduler to nodes, until cancelled."""

    def __init__(
        self, client: Client, clock: Clock, policy: Policy, seed: int = 0, *, name: str = DEFAULT_SCHEDULER_NAME
    ) -> None:
        self._client = client
        self._clock = clock
        self._policy = policy
        self._seed = seed
        self._name = name
        self._cache = Cache(seed)
        self._queue = SchedulingQueue(clock, policy.events)
        self._events = EventRecorder(client, clock, name, seed=seed)
        self._nodes = Informer(client, Node, clock, seed=seed)
        self._pods = Informer(client, Pod, clock, fields=UNFINISHED, seed=seed)
        self._writes = asyncio.Semaphore(WRITES)
        self._tasks: asyncio.TaskGroup | None = None
        self._nodes.add_handler(self._set_node, lambda old, new: self._set_node(new), self._remove_node)
        self._pods.add_handler(self._set_pod, lambda old, new: self._set_pod(new), self._remove_pod)

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self._nodes.run(), name="nodes")
            self._tasks.create_task(self._pods.run(), name="pods")
            self._tasks.create_task(self._events.run(), name="events")
            # A decision on half of the cluster would be a wrong one.
            await self._nodes.synced.wait()
            await self._pods.synced.wait()
            known = f"{len(self._nodes.items)} nodes, {len(self._queue)} pods wait"
            log.info("scheduling as %s by policy %s: %s", self._name, self._policy.name, known)
            while True:
                await self.schedule_one()

    async def schedule_one(self) -> None:
        """Take the next pod and decide on it; what follows from that goes on beside."""
        await self._writes.acquire()
        pod = await self._queue.pop()
        try:
            decision = decide(self._cache.snapshot(), pod, self._policy, self._seed)
        except Exception as error:  # a plugin's fault must not cost the other pods their scheduler
            log.exception("policy %s failed for pod %s", self._policy.name, pod.key)
            self._queue.retry(pod)
            return self._start(self._refuse(pod, f"the policy failed: {error}", "SchedulerError"), f"refuse {pod.key}")
        if decision.node is None:
            assert decision.diagnosis is not None
            self._queue.park(pod, decision.diagnosis.plugins)
            return self._start(self._refuse(pod, decision.diagnosis.message(), "Unschedulable"), f"refuse {pod.key}")
        self._cache.assume(pod, decision.node)
        self._start(self._bind(pod, decision.node), f"bind {pod.key}")

    # What the API server tells

    def _set_node(self, node: Node) -> None:
        for event in self._cache.set_node(node):
            self._queue.wake(event)

    def _remove_node(self, node: Node) -> None:
        self._cache.remove_node(node.metadata.name)

    def _set_pod(self, pod: Pod) -> None:
        info = pod_info(pod)
        if info.node_name:
            self._queue.remove(info.key)
            if self._cache.set_pod(info):
                self._queue.wake(ASSIGNED_POD_DELETE)
        elif not self._is_mine(info):
            self._queue.remove(info.key)
        elif not self._cache.is_assumed(info):
            self._queue.add(info)

    def _remove_pod(self, pod: Pod) -> None:
        key = f"{pod.metadata.namespace}/{pod.metadata.name}"
        self._queue.remove(key)
        if self._cache.remove(key):
            self._queue.wake(ASSIGNED_POD_DELETE)

    def _is_mine(self, info: PodInfo) -> bool:
        spec = info.pod.spec
        named = spec.schedulerName or DEFAULT_SCHEDULER_NAME
        leaving = bool(info.pod.metadata.deletionTimestamp) or info.finished
        return named == self._name and not leaving and not spec.schedulingGates

    # What the API server is told

    def _start(self, work: Any, name: str) -> None:
        """Let `work`, which holds one of the writes, go on beside the decisions."""
        assert self._tasks is not None, "run() is not running"
        task = self._tasks.create_task(work, name=name)
        task.add_done_callback(lambda _: self._writes.release())

    async def _bind(self, pod: PodInfo, node_name: str) -> None:
        """Make an assumption come true, or take it back."""
        meta = pod.pod.metadata
        backoff = Backoff(0.1, 1.0, seed=f"{self._seed}/bind/{pod.uid}")
        while True:
            try:
                await self._client.bind(pod.pod, node_name)
                break
            except Conflict as error:
                if await self._is_bound(pod, node_name):
                    break  # by an earlier try whose answer was lost
                return self._take_back(pod, node_name, error)
            except (StatusError, TransportError) as error:
                if isinstance(error, StatusError) and error.code not in RETRYABLE_CODES:
                    return self._take_back(pod, node_name, error)
                # Away or overloaded: the decision stands until it can be told.
                log.debug("bind of %s to %s waits: %s", pod.key, node_name, error)
            await self._clock.sleep(backoff.next_seconds())
        self._queue.done(pod.key)
        log.info("%s/%s goes to %s", meta.namespace, meta.name, node_name)
        self._events.event(pod.pod, NORMAL, "Scheduled", f"Successfully assigned {pod.key} to {node_name}")

    async def _is_bound(self, pod: PodInfo, node_name: str) -> bool:
        try:
            found = await self._client.get(Pod, pod.pod.metadata.name, pod.pod.metadata.namespace)
        except (StatusError, TransportError):
            return False
        return found.metadata.uid == pod.uid and found.spec.nodeName == node_name

    def _take_back(self, pod: PodInfo, node_name: str, error: Exception) -> None:
        """The API server refused the binding: forget it and, if the pod still wants a node, try again later."""
        log.warning("cannot bind %s to %s: %s", pod.key, node_name, error)
        self._cache.forget(pod)
        self._queue.wake(ASSIGNED_POD_DELETE)
        meta = pod.pod.metadata
        now = self._pods.get(meta.name, meta.namespace)
        if now is None or now.metadata.uid != pod.uid or now.spec.nodeName or not self._is_mine(pod_info(now)):
            self._queue.done(pod.key)
            return
        if not isinstance(error, NotFound):
            self._events.event(pod.pod, WARNING, "FailedScheduling", f"binding rejected: {error}")
        self._queue.retry(pod_info(now))

    async def _refuse(self, pod: PodInfo, message: str, reason: str) -> None:
        """Say on the pod, and in an event, why it waits."""
        self._events.event(pod.pod, WARNING, "FailedScheduling", message)
        status = pod.pod.status
        before = next((each for each in status.conditions if each.type == "PodScheduled"), None)
        if before is not None and (before.status, before.reason, before.message) == ("False", reason, message):
            return
        log.info("%s waits: %s", pod.key, message)
        since = before.lastTransitionTime if before is not None and before.status == "False" else ""
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since or format_time(self._clock.now()),
        }
        meta = pod.pod.metadata
        change = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                Pod, meta.name, meta.namespace, change, content_type=STRATEGIC_PATCH, subresource="status"
            )
        except (StatusError, TransportError) as error:
            # The next attempt says it again; a pod that is gone needs no condition.
            log.debug("cannot say on %s why it waits: %s", pod.key, error)


async def serve(config: Config, policy: Policy, client: Client) -> int:
    """Run until SIGTERM or SIGINT (0), or until something breaks that should not (1)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    scheduler = Scheduler(client, RealClock(), policy, config.seed, name=config.scheduler_name)
    running = loop.create_task(scheduler.run(), name="scheduler")
    stopping = loop.create_task(stop.wait(), name="stop")
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    broken = running.done()
    running.cancel()
    stopping.cancel()
    results = await asyncio.gather(running, stopping, return_exceptions=True)
    if broken:
        log.error("the scheduler stopped", exc_info=results[0] if isinstance(results[0], BaseException) else None)
        return 1
    log.info("stopped")
    return 0


def main(config: Config) -> int:
    """The scheduler's whole life; the exit code: 0 after SIGTERM, 1 when it could not start or broke."""
    import uvloop

    from componentbase import logs
    from kubeclient.config import KubeconfigError, load_kubeconfig
    from kubeclient.http_transport import HttpTransport
    from scheduler.policies import catalog

    logs.setup("scheduler", config.log_level)
    try:
        policy = catalog.load(config.policy)
        transport = HttpTransport(load_kubeconfig(config.kubeconfig), user_agent="pyctl-scheduler")
    except (KubeconfigError, ValueError) as error:
        log.error("%s", error)
        return 1

    async def live() -> int:
        try:
            return await serve(config, policy, Client(transport))
        finally:
            await transport.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(live())
