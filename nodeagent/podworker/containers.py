"""The containers of one pod: which is to be started, retried, restarted or stopped, and when.

The half of the pod's machine that knows the container table. Owns the records; the machine in `machine.py` owns the
pod's own state and calls in here. Pure: works on facts and leaves instructions in the shared `Step`.
"""

from __future__ import annotations

from apimachinery.kinds.pod import Pod
from nodeagent.podworker import messages as m
from nodeagent.podworker.record import ContainerRecord, Role, duration
from nodeagent.podworker.states import State, Trigger

# How long ErrImagePull stands in the status before it becomes ImagePullBackOff.
ERROR_SHOWN_SECONDS = 2.0
ALWAYS = "Always"
BACKING_OFF = (State.PULL_BACKOFF, State.START_BACKOFF, State.CRASH_BACKOFF)
# Which timer wakes a container in which state.
RETRIES = {("pull", State.PULL_BACKOFF), ("start", State.START_BACKOFF), ("restart", State.CRASH_BACKOFF)}


class Containers:
    """The records of one pod's containers, init containers first, in the order of the spec."""

    def __init__(self, pod: Pod, step: m.Step) -> None:
        self.pod = pod
        self.records = {record.name: record for record in _records(pod)}
        self._step = step

    # Facts.

    def image_ready(self, fact: m.ImageReady, sandbox_id: str) -> None:
        record = self.records[fact.container]
        if record.state is State.PULLING:
            record.pull.seconds = 0.0
            record.move(Trigger.IMAGE_READY)
            attempt = record.next_attempt()
            self._step.add(m.StartContainer(record.name, attempt, sandbox_id, fact.image_ref))

    def image_failed(self, fact: m.ImageFailed) -> None:
        record = self.records[fact.container]
        if record.state is not State.PULLING:
            return
        record.move(Trigger.IMAGE_FAILED)
        record.wait(fact.reason, fact.message)
        self._step.warn("Failed", f"Error: {fact.reason}", record.name)
        now = self._step.now
        self._step.add(m.SetTimer(f"pull {record.name}", now + record.pull.increase(now)))
        self._step.add(m.SetTimer(f"shown {record.name}", now + ERROR_SHOWN_SECONDS))

    def created(self, fact: m.ContainerCreated) -> None:
        record = self.records[fact.container]
        if record.state is State.STARTING and record.attempt == fact.attempt:
            record.id = fact.id
            self._step.tell("Created", f"Created container: {record.name}", record.name)

    def started(self, fact: m.ContainerStarted) -> None:
        record = self.records[fact.container]
        if record.state is not State.STARTING or record.attempt != fact.attempt:
            return
        record.id, record.started_at = fact.id, fact.started_at
        record.image_ref = fact.image_ref or record.image_ref
        record.ever_started = True
        record.retry.seconds = 0.0
        record.wait("", "")
        record.move(Trigger.STARTED)
        self._step.tell("Started", f"Started container {record.name}", record.name)
        if record.early_exit is not None:
            self.exited(m.ContainerExited(record.name, record.early_exit))

    def start_failed(self, fact: m.StartFailed) -> None:
        record = self.records[fact.container]
        if record.state is not State.STARTING or record.attempt != fact.attempt:
            return
        record.move(Trigger.START_FAILED)
        record.early_exit = None
        if not fact.quiet:
            record.wait(fact.reason, fact.message)
            self._step.warn("Failed", f"Error: {fact.message}", record.name)
        now = self._step.now
        self._step.add(m.SetTimer(f"start {record.name}", now + record.retry.increase(now)))

    def exited(self, fact: m.ContainerExited) -> None:
        record = self.records.get(fact.container)
        if record is None or not record.live or fact.exit.id != record.id:
            return
        if record.state is State.STARTING and not fact.failed_start:
            # The one who starts it will tell soon whether it ran at all: that decides what this exit means.
            record.early_exit = fact.exit
            return
        record.exit, record.early_exit = fact.exit, None
        record.move(Trigger.EXITED)
        if fact.failed_start:
            record.wait(fact.failed_start, fact.exit.message)
            self._step.warn("Failed", f"Error: {fact.exit.message}", record.name)
        else:
            record.ever_started = True
            record.wait("", "")

    def timer(self, name: str, container: str, *, pod_runs: bool) -> None:
        record = self.records[container]
        if name == "shown" and record.state is State.PULL_BACKOFF and record.waiting_reason == "ErrImagePull":
            text = f'Back-off pulling image "{record.spec.image}"'
            record.wait("ImagePullBackOff", f"{text}: ErrImagePull: {record.waiting_message}")
            self._step.tell("BackOff", text, record.name)
            self._step.warn("Failed", "Error: ImagePullBackOff", record.name)
        elif (name, record.state) in RETRIES and pod_runs:
            if record.state is State.CRASH_BACKOFF:
                record.crash.increase(self._step.now)
            record.move(Trigger.RETRY)
            self._step.add(m.EnsureImage(record.name))

    def update(self, pod: Pod, grace_seconds: int) -> None:
        """The spec may have new images: containers that run the old one are started again."""
        self.pod = pod
        for spec in [*pod.spec.initContainers, *pod.spec.containers]:
            record = self.records.get(spec.name)
            if record is None:
                continue
            changed, record.spec = record.spec.image != spec.image, spec
            if changed and record.state in BACKING_OFF:
                record.wait("", "")
                self._try_again(record)
            if changed and record.state is State.RUNNING:
                record.respawn = True
                text = f"Container {spec.name} definition changed, will be restarted"
                self._step.tell("Killing", text, spec.name)
                self.stop(record, grace_seconds)

    def images_changed(self) -> None:
        """The node has other images than before: perhaps those that could not be pulled."""
        for record in self.records.values():
            if record.state is State.PULL_BACKOFF:
                self._try_again(record)

    def _try_again(self, record: ContainerRecord) -> None:
        """At once, and with no memory of what went wrong before."""
        record.pull.seconds = record.retry.seconds = record.crash.seconds = 0.0
        record.move(Trigger.RETRY)
        self._step.add(m.EnsureImage(record.name))

    # Steps.

    def keep_running(self) -> None:
        """Decide about every container that has ended."""
        for record in self.records.values():
            if record.state is State.EXITED:
                self._after_exit(record)

    def begin_turns(self) -> None:
        """Begin with the containers whose turn it is."""
        for record in self._turns():
            record.move(Trigger.TURN)
            self._step.add(m.EnsureImage(record.name))

    def _after_exit(self, record: ContainerRecord) -> None:
        """Restart now, restart later, or not at all."""
        assert record.exit is not None
        if not record.restarts_after(self.policy):
            record.wait("", "")
            record.move(Trigger.FINISH)
            return
        if record.last_exit is not None and record.last_exit.id:
            self._step.add(m.RemoveContainer(record.name, record.last_exit.id))
        now = self._step.now
        delay = record.crash.settle(record.exit.finished_at)
        if record.waiting_reason and not delay:  # it could not be started at all: no second try at once
            delay = record.crash.increase(now)
        due = record.exit.finished_at + delay
        if record.respawn or due <= now:
            if not record.respawn:
                record.crash.increase(now)
            record.respawn = False
            record.move(Trigger.RESTART)
            self._step.add(m.EnsureImage(record.name))
            return
        record.move(Trigger.BACK_OFF)
        meta = self.pod.metadata
        pod = f"{meta.name}_{meta.namespace}({meta.uid})"
        if not record.waiting_reason:
            text = f"back-off {duration(delay)} restarting failed container={record.name} pod={pod}"
            record.wait("CrashLoopBackOff", text)
        self._step.warn("BackOff", f"Back-off restarting failed container {record.name} in pod {pod}", record.name)
        self._step.add(m.SetTimer(f"restart {record.name}", due))

    def _turns(self) -> list[ContainerRecord]:
        """Init containers one by one, then all others at once."""
        for record in self.records.values():
            if record.role is Role.INIT and record.state is not State.DONE:
                return [record] if record.state is State.WAITING else []
            if record.role is Role.SIDECAR and not record.ever_started:
                return [record] if record.state is State.WAITING else []
        return [record for record in self.records.values() if record.state is State.WAITING]

    def start_over(self) -> None:
        """The sandbox is gone and all that ran in it: note how everything ended, and line it up for the next
        sandbox."""
        for record in self.records.values():
            record.ever_started = False
            if record.live and record.id:
                text = "the pod's sandbox is gone"
                record.exit = m.Exit(record.id, 137, "Error", text, record.started_at, self._step.now)
            if record.state in (State.RUNNING, State.STOPPING):
                record.move(Trigger.EXITED)
            if record.state is State.EXITED and not record.restarts_after(self.policy):
                record.move(Trigger.FINISH)
        if not self.finished:
            for record in self.records.values():
                if record.state is not State.DONE or record.role is Role.INIT:
                    record.move(Trigger.REWIND)

    def wind_down(self, stop_by: float, grace_seconds: int) -> bool:
        """Stop what runs, sidecars last and one by one. True when nothing is left that may run."""
        records = list(self.records.values())
        for record in records:
            if record.state is not State.DONE and not record.live:
                record.move(Trigger.END)
        live = [record for record in records if record.live]
        targets = [record for record in live if record.role is not Role.SIDECAR] or live[-1:]
        for record in targets:
            if record.state is State.RUNNING:
                left = round(stop_by - self._step.now) if stop_by else grace_seconds
                self.stop(record, max(left, 1))
        return not live

    def hurry(self, grace_seconds: int) -> None:
        """Those that are being stopped get less time than they were told."""
        for record in self.records.values():
            if record.state is State.STOPPING:
                self.stop(record, grace_seconds)

    def stop(self, record: ContainerRecord, grace_seconds: int) -> None:
        if record.state is State.RUNNING and not record.respawn:
            self._step.tell("Killing", f"Stopping container {record.name}", record.name)
        record.move(Trigger.STOP)
        self._step.add(m.StopContainer(record.name, record.id, grace_seconds))

    # Questions.

    @property
    def policy(self) -> str:
        return self.pod.spec.restartPolicy or ALWAYS

    @property
    def finished(self) -> bool:
        """Will no main container run any more? Either all are done, or an init container failed for good."""
        records = self.records.values()
        if any(record.role is Role.INIT and record.failed_for_good for record in records):
            return True
        return all(record.state is State.DONE for record in records if record.role is Role.MAIN)


def _records(pod: Pod) -> list[ContainerRecord]:
    inits = [
        ContainerRecord(spec, Role.SIDECAR if spec.restartPolicy == ALWAYS else Role.INIT)
        for spec in pod.spec.initContainers
    ]
    return inits + [ContainerRecord(spec, Role.MAIN) for spec in pod.spec.containers]
