"""One pod's worker: feeds facts to the machine, has its instructions done, reports its status, keeps its timers.

`post` works synchronously: the machine answers at once, effects run as tasks and post what became of them. Owns the
machine, the timers and the reporter of one pod; the agent owns the worker and the tasks' parent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from apimachinery.kinds.pod import Pod, PodStatus
from apimachinery.meta import ObjectReference
from componentbase.clock import Clock
from kubeclient.events import EventRecorder
from kubeclient.rest import Client
from nodeagent.cri import CRI
from nodeagent.cri_config import NodeFacts
from nodeagent.environment import Place
from nodeagent.images import ImageKeeper
from nodeagent.logs.files import PodLogs
from nodeagent.podcgroups import PodCgroups
from nodeagent.podworker import messages as m
from nodeagent.podworker.machine import PodMachine
from nodeagent.podworker.reporter import Reporter
from nodeagent.podworker.states import PodState
from nodeagent.sources import Sources
from nodeagent.status import PodView, pod_status
from nodeagent.volumes.interface import Volumes
from pb.cri.v1 import api_pb2 as cri

log = logging.getLogger(__name__)


class Spawn(Protocol):
    """Starts a task whose parent is the agent's task group."""

    def __call__(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]: ...


class Node(Protocol):
    """What a worker asks of its node; answers may change while it runs."""

    @property
    def host_ip(self) -> str: ...

    @property
    def runtime_name(self) -> str:
        """Scheme of container ids."""
        ...

    def facts(self) -> NodeFacts: ...

    def allocatable(self) -> dict[str, str]: ...

    def resolv_conf(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What workers work with; made once a node."""

    runtime: CRI
    client: Client
    clock: Clock
    volumes: Volumes
    images: ImageKeeper
    sources: Sources
    recorder: EventRecorder
    logs: PodLogs
    cgroups: PodCgroups
    node: Node
    spawn: Spawn


Effect = Callable[["PodWorker", Any], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Timers:
    """Named alarms of one pod; setting one again replaces it."""

    clock: Clock
    spawn: Spawn
    fire: Callable[[str], None]
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def set(self, name: str, at: float) -> None:
        self.drop(name)
        self.tasks[name] = self.spawn(self._wait(name, at - self.clock.now()), f"timer {name}")

    def drop(self, name: str) -> None:
        task = self.tasks.pop(name, None)
        if task is not None:
            task.cancel()

    def drop_all(self) -> None:
        for name in list(self.tasks):
            self.drop(name)

    async def _wait(self, name: str, seconds: float) -> None:
        await self.clock.sleep(max(seconds, 0.0))
        self.tasks.pop(name, None)
        self.fire(name)


class PodWorker:
    """The work for one pod. `on_gone` is called once, when nothing is left to do."""

    def __init__(
        self, pod: Pod, services: Services, effects: dict[type, Effect], on_gone: Callable[[PodWorker], None]
    ) -> None:
        self.services = services
        self.machine = PodMachine(pod, services.clock.now())
        self.images: dict[str, cri.Image] = {}
        self._effects = effects
        self._on_gone = on_gone
        self._inbox: deque[m.Fact] = deque()
        self._busy = False
        self._last_view: PodView | None = None
        self._timers = Timers(services.clock, services.spawn, lambda name: self.post(m.TimerFired(name)))
        self.reporter = Reporter(pod, services.client, services.clock, self._status, services.spawn)

    @property
    def pod(self) -> Pod:
        """The API object as it was last seen."""
        return self.machine.pod

    @property
    def key(self) -> str:
        return f"{self.pod.metadata.namespace}/{self.pod.metadata.name}"

    @property
    def gone(self) -> bool:
        return self.machine.state is PodState.GONE

    @property
    def over(self) -> bool:
        """Does nothing of it run any more, and will not?"""
        return self.machine.view().terminal

    @property
    def place(self) -> Place:
        """Where the pod is, for its environment and files."""
        node = self.services.node
        ips = self.machine.sandbox.ips or ((node.host_ip,) if self.pod.spec.hostNetwork else ())
        return Place(ips, node.host_ip, node.allocatable())

    def post(self, fact: m.Fact) -> None:
        """Take in a fact, and do what follows from it."""
        self._inbox.append(fact)
        if self._busy:
            return
        self._busy = True
        try:
            while self._inbox:
                self._work(self._inbox.popleft())
        finally:
            self._busy = False
        if self.gone:
            self._timers.drop_all()
            self._on_gone(self)

    def _work(self, fact: m.Fact) -> None:
        if self.gone:
            return
        before = self.machine.state
        instructions = self.machine.handle(fact, self.services.clock.now())
        if self.machine.state is not before:
            log.debug("pod %s: %s -> %s", self.key, before, self.machine.state)
        for instruction in instructions:
            self._obey(instruction)
        view = self.machine.view()
        if self.machine.reports and (view != self._last_view or self.pod.spec.readinessGates):
            self._last_view = view
            self.reporter.changed()

    def _obey(self, instruction: m.Instruction) -> None:
        if isinstance(instruction, m.Record):
            self.record(instruction.type, instruction.reason, instruction.message, instruction.container)
        elif isinstance(instruction, m.SetTimer):
            self._timers.set(instruction.name, instruction.at)
        else:
            effect = self._effects[type(instruction)]
            name = f"{type(instruction).__name__} of {self.key}"
            self.services.spawn(effect(self, instruction), name)

    def waits_for(self, container_id: str) -> str:
        """The container whose current, living attempt has this id; "" when there is none."""
        records = self.machine.containers.values()
        return next((each.name for each in records if each.id == container_id and each.live), "")

    async def refresh_volumes(self) -> None:
        """Bring the files of ConfigMaps, Secrets and pod fields up to date; what fails now is tried the next time."""
        changing = any(
            each.configMap or each.secret or each.downwardAPI or each.projected for each in self.pod.spec.volumes
        )
        if self.machine.state is not PodState.RUNNING or not changing:
            return
        try:
            await self.services.volumes.prepare(self.pod, self.place)
        except Exception as error:
            log.warning("pod %s: volumes are not refreshed: %s", self.key, error)

    def current(self) -> Pod:
        """The API object with the status as it is now."""
        return msgspec.structs.replace(self.pod, status=self._status(self.pod.status))

    def record(self, type: str, reason: str, message: str, container: str = "") -> None:
        """Tell the user what happened to the pod or to one of its containers."""
        meta = self.pod.metadata
        self.services.recorder.event(
            ObjectReference(
                kind="Pod",
                apiVersion="v1",
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                resourceVersion=meta.resourceVersion,
                fieldPath=self._field_path(container),
            ),
            type,
            reason,
            message,
        )

    def _field_path(self, container: str) -> str:
        if not container:
            return ""
        init = any(each.name == container for each in self.pod.spec.initContainers)
        return f"spec.{'initContainers' if init else 'containers'}{{{container}}}"

    def _status(self, last: PodStatus) -> PodStatus:
        node = self.services.node
        now = self.services.clock.now()
        view = self.machine.view()
        return pod_status(self.pod, view, host_ip=node.host_ip, runtime=node.runtime_name, now=now, before=last)
