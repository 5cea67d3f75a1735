"""The work for one pod: facts in, instructions out. Knows no clock, no runtime and no network.

`handle` takes a fact, moves the pod and its containers through the tables of `states.py`, goes on by itself as far as
it can, and returns what must be done. Leaves the containers to `containers.py`, the doing to `worker.py` and the
wording of the API status to `nodeagent.status`. An answer that nobody waits for any more is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apimachinery.kinds.pod import Pod
from apimachinery.times import parse_time
from nodeagent.podworker import messages as m
from nodeagent.podworker.adopt import adopt, recall, remember
from nodeagent.podworker.containers import Containers
from nodeagent.podworker.record import ContainerRecord, Delay
from nodeagent.podworker.states import PodState, PodTrigger, next_pod_state
from nodeagent.status import Ending, PodView

TERMINAL_PHASES = ("Succeeded", "Failed")
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"
DEFAULT_GRACE_SECONDS = 30


class Sandbox:
    """What the machine knows of the pod's sandbox. state: none, creating, ready, stopping, stopped."""

    def __init__(self) -> None:
        self.state = "none"
        self.id = ""
        self.attempt = 0
        self.ips: tuple[str, ...] = ()
        self.retry = Delay(first=1.0, most=30.0)

    def adopt(self, found: m.Found) -> None:
        if found.sandbox_id:
            self.id, self.attempt, self.ips = found.sandbox_id, found.sandbox_attempt, found.ips
            self.state = "ready" if found.sandbox_ready else "stopped"

    def ready(self, sandbox_id: str, ips: tuple[str, ...]) -> None:
        self.state, self.id, self.ips = "ready", sandbox_id, ips
        self.retry.seconds = 0.0

    def renew(self) -> None:
        self.attempt += 1 if self.id else 0
        self.state, self.id, self.ips = "none", "", ()


class PodMachine:
    """One pod of this node. The worker owns it and calls `handle`; others read `view` and the attributes."""

    def __init__(self, pod: Pod, now: float) -> None:
        self.pod = pod
        self.state = PodState.NEW
        self.started_at = parse_time(pod.status.startTime) if pod.status.startTime else now
        self.sandbox = Sandbox()
        self.volumes_ready = False
        self.ending: Ending | None = None
        self.reports = True  # False for a pod that was terminal before we saw it: its status stays as it is
        self._step = m.Step(now)
        self._containers = Containers(pod, self._step)
        self._remove = False  # once it is stopped
        self._vanished = False
        self._stop_by = 0.0
        self._volume_retry = Delay(first=1.0, most=10.0)

    @property
    def containers(self) -> dict[str, ContainerRecord]:
        return self._containers.records

    def handle(self, fact: m.Fact, now: float) -> list[m.Instruction]:
        """Take in one fact; returns what is to be done, in order."""
        self._step.begin(now)
        if self.state is not PodState.GONE:
            HANDLERS[type(fact)](self, fact)
            while self._advance():
                pass
        return self._step.instructions

    def view(self) -> PodView:
        """What the pod's status is made of."""
        return PodView(
            containers={name: record.view() for name, record in self.containers.items()},
            sandbox_ready=self.sandbox.state == "ready",
            ips=self.sandbox.ips,
            started_at=self.started_at,
            ending=self.ending,
            terminal=self.state in (PodState.STOPPED, PodState.REMOVING, PodState.DELETING, PodState.GONE),
        )

    # Facts about the pod.

    def _assigned(self, fact: m.Assigned) -> None:
        found = fact.found or m.Found()
        self.sandbox.adopt(found)
        if self.pod.status.phase in TERMINAL_PHASES:
            self.reports = False
            for each in found.containers:
                remember(self.containers, each)
            recall(self.containers, self.pod, self._step.now)
            self._move(PodTrigger.WAS_TERMINAL)
            if self.sandbox.state == "ready":
                self._step.add(m.StopSandbox(self.sandbox.id))
        else:
            self._step.add(*adopt(self.containers, found, self.pod, self._step.now))
            self._move(PodTrigger.BEGIN)
            if self.sandbox.state != "ready":
                self._start_over()
            if not self.pod.metadata.deletionTimestamp:
                self._set_up()
                self._set_deadline()
        self._updated(m.Updated(self.pod))

    def _set_up(self) -> None:
        if self._containers.finished:
            return
        if not self.volumes_ready:
            self._step.add(m.PrepareVolumes())
        if self.sandbox.state == "none":
            self.sandbox.state = "creating"
            self._step.add(m.RunSandbox(self.sandbox.attempt))

    def _set_deadline(self) -> None:
        seconds = self.pod.spec.activeDeadlineSeconds
        if seconds is not None:
            self._step.add(m.SetTimer("deadline", self.started_at + seconds))

    def _updated(self, fact: m.Updated) -> None:
        old, self.pod = self.pod, fact.pod
        if self.pod.metadata.deletionTimestamp:
            self._remove = True
            self._end(Ending(), self._grace_seconds())
            return
        self._containers.update(fact.pod, self._grace_seconds())
        if self.pod.spec.activeDeadlineSeconds != old.spec.activeDeadlineSeconds:
            self._set_deadline()

    def _vanish(self, fact: m.Vanished) -> None:
        self._remove = self._vanished = True
        if self.state is PodState.DELETING:
            self._move(PodTrigger.API_DELETED)
        else:
            self._end(Ending(), self._grace_seconds())

    def _refused(self, fact: m.Refused) -> None:
        self._step.warn(fact.reason, fact.message)
        self._move(PodTrigger.BEGIN)
        self._end(Ending("Failed", fact.reason, fact.message), 0)

    def _grace_seconds(self) -> int:
        seconds = self.pod.metadata.deletionGracePeriodSeconds
        if seconds is None:
            seconds = self.pod.spec.terminationGracePeriodSeconds
        return max(DEFAULT_GRACE_SECONDS if seconds is None else seconds, 1)

    def _end(self, ending: Ending, grace_seconds: int) -> None:
        """Begin to stop, or stop sooner than was said before."""
        until = self._step.now + grace_seconds
        if self.state in (PodState.SETUP, PodState.RUNNING):
            self.ending = ending
            self._stop_by = until
            self._move(PodTrigger.END)
        elif self.state is PodState.STOPPING and (not self._stop_by or until < self._stop_by - 0.5):
            self._stop_by = until
            self._containers.hurry(grace_seconds)

    def _removed(self, fact: m.Removed) -> None:
        self._move(PodTrigger.REMOVED)
        if self._vanished:
            self._move(PodTrigger.API_DELETED)
        else:
            self._step.add(m.DeleteFromApi())

    def _api_deleted(self, fact: m.ApiDeleted) -> None:
        self._move(PodTrigger.API_DELETED)

    # Facts about volumes and the sandbox.

    def _volumes_made(self, fact: m.VolumesReady) -> None:
        self.volumes_ready = True

    def _volumes_failed(self, fact: m.VolumesFailed) -> None:
        if self.state is not PodState.SETUP:
            return
        self._step.warn("FailedMount", fact.message)
        if not fact.permanent:
            self._step.add(m.SetTimer("volumes", self._step.now + self._volume_retry.increase(self._step.now)))

    def _sandbox_ready(self, fact: m.SandboxReady) -> None:
        if fact.attempt == self.sandbox.attempt and self.sandbox.state == "creating":
            self.sandbox.ready(fact.id, fact.ips)

    def _sandbox_failed(self, fact: m.SandboxFailed) -> None:
        if fact.attempt != self.sandbox.attempt or self.sandbox.state != "creating":
            return
        self.sandbox.state = "none"
        if self.state is not PodState.SETUP:
            return
        if not fact.quiet:
            self.sandbox.attempt += 1
            self._step.warn("FailedCreatePodSandBox", f"Failed to create pod sandbox: {fact.message}")
        self._step.add(m.SetTimer("sandbox", self._step.now + self.sandbox.retry.increase(self._step.now)))

    def _sandbox_lost(self, fact: m.SandboxLost) -> None:
        if fact.id != self.sandbox.id or self.sandbox.state != "ready":
            return
        if self.state is PodState.RUNNING:
            self._step.tell("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            self._start_over()
            self._move(PodTrigger.SANDBOX_LOST)
            self._set_up()
        elif self.state is PodState.SETUP:
            self._start_over()
            self._set_up()

    def _start_over(self) -> None:
        if self.sandbox.id:
            self._step.add(m.StopSandbox(self.sandbox.id))
        self.sandbox.renew()
        self._containers.start_over()

    def _sandbox_stopped(self, fact: m.SandboxStopped) -> None:
        if fact.id == self.sandbox.id and self.sandbox.state in ("ready", "stopping"):
            self.sandbox.state = "stopped"

    # Timers.

    def _timer(self, fact: m.TimerFired) -> None:
        name, _, container = fact.name.partition(" ")
        if container in self.containers:
            self._containers.timer(name, container, pod_runs=self.state is PodState.RUNNING)
        elif name == "deadline" and self.state in (PodState.SETUP, PodState.RUNNING):
            self._step.tell("DeadlineExceeded", DEADLINE_MESSAGE)
            self._end(Ending("Failed", "DeadlineExceeded", DEADLINE_MESSAGE), self._grace_seconds())
        elif name == "volumes" and self.state is PodState.SETUP:
            self._step.add(m.PrepareVolumes())
        elif name == "sandbox" and self.state is PodState.SETUP and self.sandbox.state == "none":
            self.sandbox.state = "creating"
            self._step.add(m.RunSandbox(self.sandbox.attempt))

    # What follows by itself.

    def _advance(self) -> bool:
        """One step further, if there is one to take."""
        step = STEPS.get(self.state)
        return step is not None and step(self)

    def _advance_setup(self) -> bool:
        if self._containers.finished:
            return self._move(PodTrigger.COMPLETED)
        if self.volumes_ready and self.sandbox.state == "ready":
            return self._move(PodTrigger.SET_UP)
        return False

    def _advance_running(self) -> bool:
        self._containers.keep_running()
        if self._containers.finished:
            return self._move(PodTrigger.COMPLETED)
        self._containers.begin_turns()
        return False

    def _advance_stopping(self) -> bool:
        if not self._containers.wind_down(self._stop_by, self._grace_seconds()):
            return False
        if self.sandbox.state == "ready":
            self.sandbox.state = "stopping"
            self._step.add(m.StopSandbox(self.sandbox.id))
        if self.sandbox.state in ("creating", "stopping"):
            return False
        self._step.add(m.TeardownVolumes())
        return self._move(PodTrigger.NOTHING_RUNS)

    def _advance_stopped(self) -> bool:
        if not self._remove:
            return False
        self._step.add(m.RemovePod())
        return self._move(PodTrigger.REMOVE)

    def _move(self, trigger: PodTrigger) -> bool:
        self.state = next_pod_state(self.state, trigger)
        return True


HANDLERS: dict[type, Callable[[PodMachine, Any], None]] = {
    m.Assigned: PodMachine._assigned,
    m.Updated: PodMachine._updated,
    m.Vanished: PodMachine._vanish,
    m.Refused: PodMachine._refused,
    m.VolumesReady: PodMachine._volumes_made,
    m.VolumesFailed: PodMachine._volumes_failed,
    m.SandboxReady: PodMachine._sandbox_ready,
    m.SandboxFailed: PodMachine._sandbox_failed,
    m.SandboxLost: PodMachine._sandbox_lost,
    m.SandboxStopped: PodMachine._sandbox_stopped,
    m.ImageReady: lambda machine, fact: machine._containers.image_ready(fact, machine.sandbox.id),
    m.ImageFailed: lambda machine, fact: machine._containers.image_failed(fact),
    m.ImagesChanged: lambda machine, fact: machine._containers.images_changed(),
    m.ContainerCreated: lambda machine, fact: machine._containers.created(fact),
    m.ContainerStarted: lambda machine, fact: machine._containers.started(fact),
    m.StartFailed: lambda machine, fact: machine._containers.start_failed(fact),
    m.ContainerExited: lambda machine, fact: machine._containers.exited(fact),
    m.TimerFired: PodMachine._timer,
    m.Removed: PodMachine._removed,
    m.ApiDeleted: PodMachine._api_deleted,
}

STEPS: dict[PodState, Callable[[PodMachine], bool]] = {
    PodState.SETUP: PodMachine._advance_setup,
    PodState.RUNNING: PodMachine._advance_running,
    PodState.STOPPING: PodMachine._advance_stopping,
    PodState.STOPPED: PodMachine._advance_stopped,
}
