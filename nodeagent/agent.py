"""One node's agent: watches the pods of its node, gives each a worker, feeds them what the runtime says.

The same class drives a real machine (`app.py` wires it to gRPC, disks and cgroups) and a hollow node in virtual time
(`hollow.nodes`). Owns the workers. Order at the start: find what runs already, then follow the API server, so that no
pod is started twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from apimachinery.kinds.pod import Pod
from componentbase.clock import Clock
from kubeclient.events import EventRecorder
from kubeclient.informer import Informer
from kubeclient.rest import Client
from nodeagent.admission import admit
from nodeagent.capacity import Capacity, Pressure
from nodeagent.cri import CRI, POD_UID, CRIError, RuntimeAway
from nodeagent.cri_config import NodeFacts
from nodeagent.images import ImageKeeper
from nodeagent.logs.files import PodLogs
from nodeagent.logs.rotate import rotate
from nodeagent.node import NO_PRESSURE, Identity, NodeKeeper, Observation
from nodeagent.orphans import remove_orphan
from nodeagent.pleg import EVENTED_RELIST_SECONDS, Pleg, Snapshot
from nodeagent.podcgroups import PodCgroups
from nodeagent.podworker import messages as m
from nodeagent.podworker.effects import EFFECTS
from nodeagent.podworker.exits import exit_of
from nodeagent.podworker.worker import PodWorker, Services
from nodeagent.recovery import find_pods
from nodeagent.sources import Sources
from nodeagent.volumes.interface import Volumes
from pb.cri.v1 import api_pb2 as cri

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
ROTATE_SECONDS = 10.0
COMPONENT = "kubelet"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the agent asks of the machine; each answer is asked for again when it may have changed."""

    capacity: Callable[[], Capacity]
    allocatable: Callable[[], Capacity]
    pressure: Callable[[], Pressure] = lambda: NO_PRESSURE
    resolv_conf: Callable[[], str] = lambda: ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the agent looks around, in seconds."""

    observe: float = 10.0
    relist: float = EVENTED_RELIST_SECONDS
    refresh: float = REFRESH_SECONDS
    rotate: float = ROTATE_SECONDS


class Agent:
    """The agent of the node `identity`. `run` is its whole life; the caller closes client and runtime."""

    def __init__(
        self,
        identity: Identity,
        client: Client,
        runtime: CRI,
        clock: Clock,
        surroundings: Surroundings,
        make_volumes: Callable[[Sources], Volumes],
        *,
        logs: PodLogs,
        cgroups: PodCgroups,
        seed: int | str = 0,
        pace: Pace | None = None,
    ) -> None:
        self.identity = identity
        self.workers: dict[str, PodWorker] = {}
        self.logs = logs
        self.runtime = runtime
        self._surroundings = surroundings
        self._clock = clock
        self._pace = pace or Pace()
        self._tasks: asyncio.TaskGroup | None = None
        self._found: dict[str, m.Found] = {}
        self._runtime_error = "container runtime status check may not have completed yet"
        self._runtime_version = ""
        self._allocatable: dict[str, str] = {}
        self._memory_bytes = 0
        self._clearing: set[str] = set()
        self._recorder = EventRecorder(client, clock, COMPONENT, identity.name, seed=seed)
        self._informer = Informer(client, Pod, clock, fields=f"spec.nodeName={identity.name}", seed=seed)
        self._keeper = NodeKeeper(
            client, clock, identity, self._observe, self._use_pod_cidr, observe_seconds=self._pace.observe
        )
        self._pleg = Pleg(runtime, clock, self, evented_seconds=self._pace.relist)
        sources = Sources(client)
        self.services = Services(
            runtime=runtime,
            client=client,
            clock=clock,
            volumes=make_volumes(sources),
            images=ImageKeeper(runtime, clock, self.spawn),
            sources=sources,
            recorder=self._recorder,
            logs=logs,
            cgroups=cgroups,
            node=self,
            spawn=self.spawn,
        )

    async def run(self) -> None:
        """Serve until cancelled. Containers go on running afterwards."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._measure()
            tasks.create_task(self._recorder.run(), name="events")
            tasks.create_task(self._keeper.run(), name="node")
            tasks.create_task(self._serve_pods(), name="pods")

    async def _serve_pods(self) -> None:
        self._found = await self._find()
        async with asyncio.TaskGroup() as tasks:
            self._informer.add_handler(self._added, lambda old, new: self._updated(new), self._deleted)
            tasks.create_task(self._informer.run(), name="pod informer")
            tasks.create_task(self._pleg.run(), name="pleg")
            tasks.create_task(self._refresh_forever(), name="refresh volumes")
            tasks.create_task(self._rotate_forever(), name="rotate logs")

    async def _find(self) -> dict[str, m.Found]:
        while True:
            try:
                await self._look_at_runtime()
                found = await find_pods(self.services)
                if found:
                    log.info("found %d pods in the runtime", len(found))
                return found
            except CRIError as error:
                self.runtime_health(error.message)
                await self._clock.sleep(0.5)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task of this agent. What goes wrong in it concerns one pod: it is logged and goes no further."""
        assert self._tasks is not None, "spawn is for a running agent"
        return self._tasks.create_task(_contain(coroutine, name), name=name)

    # Pods, as the API server tells of them.

    def _added(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        if uid in self.workers:
            return
        found = self._found.pop(uid, None)
        worker = PodWorker(pod, self.services, EFFECTS, self._gone)
        refusal = None
        if found is None and not pod.status.startTime and not pod.metadata.deletionTimestamp:
            others = [each.pod for each in self.workers.values() if not each.over]
            refusal = admit(pod, others, self._allocatable, self.identity.all_labels())
        self.workers[uid] = worker
        worker.post(m.Refused(refusal.reason, refusal.message) if refusal is not None else m.Assigned(found))
        if found is not None:
            # What was found is a little old by now: an exit since then found nobody who waited for it.
            self._pleg.look_again(uid)

    def _updated(self, pod: Pod) -> None:
        worker = self.workers.get(pod.metadata.uid)
        if worker is not None:
            worker.post(m.Updated(pod))

    def _deleted(self, pod: Pod) -> None:
        worker = self.workers.get(pod.metadata.uid)
        if worker is not None:
            worker.post(m.Vanished())

    def _gone(self, worker: PodWorker) -> None:
        self.workers.pop(worker.pod.metadata.uid, None)

    def worker_named(self, namespace: str, name: str) -> PodWorker | None:
        """The newest worker of a pod of this name."""
        key = f"{namespace}/{name}"
        return next((each for each in reversed(list(self.workers.values())) if each.key == key), None)

    # Containers, as the runtime tells of them (pleg.Listener).

    def container_exited(self, status: cri.ContainerStatus) -> None:
        worker = self.workers.get(status.labels.get(POD_UID, ""))
        if worker is not None and worker.waits_for(status.id):
            worker.post(m.ContainerExited(status.metadata.name, exit_of(self.services, status)))

    def container_missing(self, pod_uid: str, container_id: str) -> None:
        worker = self.workers.get(pod_uid)
        name = worker.waits_for(container_id) if worker is not None else ""
        if worker is not None and name:
            exit_ = m.Exit(container_id, 137, "ContainerStatusUnknown", "the runtime has lost it", 0, self._clock.now())
            worker.post(m.ContainerExited(name, exit_))

    def sandbox_lost(self, pod_uid: str, sandbox_id: str) -> None:
        worker = self.workers.get(pod_uid)
        if worker is not None:
            worker.post(m.SandboxLost(sandbox_id))

    def listed(self, snapshot: Snapshot) -> None:
        """Clear away what belongs to no pod: made by an earlier life of ours for pods that are gone by now."""
        if not self._informer.synced.is_set():
            return
        self._found = {}
        uids = {each.labels.get(POD_UID, "") for each in snapshot.sandboxes} - {""}
        for uid in sorted((uids | self.services.volumes.pod_uids()) - set(self.workers) - self._clearing):
            self._clearing.add(uid)
            self.spawn(self._clear(uid), name=f"clear {uid}")

    async def _clear(self, uid: str) -> None:
        try:
            await remove_orphan(self.services, uid)
        finally:
            self._clearing.discard(uid)

    def runtime_health(self, message: str) -> None:
        if bool(message) != bool(self._runtime_error):
            (log.warning if message else log.info)("runtime: %s", message or "answers")
            self._runtime_error = f"container runtime is down: {message}" if message else ""
            self._keeper.look_soon()
            if not message:
                self.spawn(self._look_at_runtime(), name="look at the runtime")

    # The node.

    async def _look_at_runtime(self) -> None:
        """Is it able to run pods? Raises CRIError when it does not answer."""
        version = await self.runtime.version()
        self._runtime_version = f"{version.runtime_name}://{version.runtime_version}"
        status = await self.runtime.status()
        before = self._runtime_error
        self._runtime_error = ", ".join(_not_ready(each) for each in status.conditions if not each.status)
        if bool(before) != bool(self._runtime_error):
            self._keeper.look_soon()

    async def _observe(self) -> Observation:
        self._measure()
        images: tuple[tuple[tuple[str, ...], int], ...] = ()
        try:
            await self._look_at_runtime()
            listed = sorted(await self.runtime.list_images(), key=lambda each: (-each.size, each.id))
            images = tuple(((*each.repo_digests, *each.repo_tags), each.size) for each in listed)
        except CRIError as error:
            self._runtime_error = f"container runtime is down: {error.message}"
        return Observation(
            capacity=self._surroundings.capacity(),
            allocatable=self._surroundings.allocatable(),
            pressure=self._surroundings.pressure(),
            runtime_version=self._runtime_version,
            runtime_error=self._runtime_error,
            images=images,
        )

    def _measure(self) -> None:
        self._allocatable = self._surroundings.allocatable().resources()
        self._memory_bytes = self._surroundings.capacity().memory_bytes

    async def _use_pod_cidr(self, cidr: str) -> None:
        self.spawn(self._tell_pod_cidr(cidr), name="pod range")

    async def _tell_pod_cidr(self, cidr: str) -> None:
        while True:
            try:
                await self.runtime.update_pod_cidr(cidr)
                return
            except RuntimeAway:
                await self._clock.sleep(0.5)
            except CRIError as error:
                log.warning("the runtime does not take the pod range %s: %s", cidr, error)
                return

    async def _refresh_forever(self) -> None:
        """ConfigMaps and Secrets change under running pods: bring their files up to date."""
        while True:
            await self._clock.sleep(self._pace.refresh)
            for worker in list(self.workers.values()):
                await worker.refresh_volumes()

    async def _rotate_forever(self) -> None:
        """Keep the logs of running containers from filling the disk."""
        while self.logs.kept:
            await self._clock.sleep(self._pace.rotate)
            for worker in list(self.workers.values()):
                for record in worker.machine.containers.values():
                    if record.live and record.id:
                        path = self.logs.path(worker.pod, record.name, record.attempt)
                        await rotate(path, record.id, self.runtime, self._clock)

    # What workers ask of their node (worker.Node).

    @property
    def host_ip(self) -> str:
        return self.identity.ip

    @property
    def runtime_name(self) -> str:
        return self._runtime_version.partition("://")[0] or "unknown"

    def facts(self) -> NodeFacts:
        return NodeFacts(self.identity.name, self._memory_bytes)

    def allocatable(self) -> dict[str, str]:
        return self._allocatable

    def resolv_conf(self) -> str:
        return self._surroundings.resolv_conf()

    def images_changed(self) -> None:
        """The node's list of images may be out of date, and what could not be pulled may be there."""
        self._keeper.look_soon()
        for worker in [*self.workers.values()]:
            worker.post(m.ImagesChanged())

    async def registered(self) -> None:
        """Returns when the API server has the node."""
        await self._keeper.registered.wait()


async def _contain(coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
    try:
        return await coroutine
    except Exception:
        # A task's error would end the whole agent; effects tell theirs as facts, so this one is a mistake of ours.
        log.exception("%s failed", name)
        return None


def _not_ready(condition: cri.RuntimeCondition) -> str:
    names = {"RuntimeReady": "container runtime", "NetworkReady": "container runtime network"}
    subject = names.get(condition.type, condition.type)
    return f"{subject} not ready: {condition.type}=false reason:{condition.reason} message:{condition.message}"
