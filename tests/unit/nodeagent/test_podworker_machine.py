"""The pod worker's machine: facts in, instructions out, by the tables."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apimachinery.kinds.pod import ContainerState, ContainerStateRunning, ContainerStatus, Pod
from nodeagent.podworker import messages as m
from nodeagent.podworker.machine import PodMachine
from nodeagent.podworker.record import Delay, duration
from nodeagent.podworker.states import (
    POD_TRANSITIONS,
    TRANSITIONS,
    Impossible,
    PodState,
    PodTrigger,
    State,
    Trigger,
    diagram,
    next_pod_state,
    next_state,
    page,
)
from nodeagent.status import pod_status
from tests.unit.nodeagent.pods import NOW, container, pod


class Bench:
    """A machine on the bench: the test is the world around it."""

    def __init__(self, subject: Pod) -> None:
        self.machine = PodMachine(subject, NOW)
        self.now = NOW
        self.out: list[m.Instruction] = []

    def tell(self, *facts: m.Fact) -> list[m.Instruction]:
        self.out = [each for fact in facts for each in self.machine.handle(fact, self.now)]
        return self.out

    def at(self, seconds: float) -> Bench:
        self.now = NOW + seconds
        return self

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.out if isinstance(each, kind)]

    def events(self) -> list[tuple[str, str]]:
        return [(each.reason, each.message) for each in self.of(m.Record)]

    def setup(self, found: m.Found | None = None) -> Bench:
        self.tell(m.Assigned(found), m.VolumesReady())
        self.tell(m.SandboxReady(self.machine.sandbox.attempt, "s0", ("10.1.0.2",)))
        return self

    def start(self, name: str = "c", identity: str = "") -> Bench:
        """Bring a container from PULLING to RUNNING."""
        record = self.machine.containers[name]
        self.tell(m.ImageReady(name, "sha256:1"))
        number = record.attempt
        identity = identity or f"{name}-{number}"
        self.tell(m.ContainerCreated(name, number, identity), m.ContainerStarted(name, number, identity, self.now))
        return self

    def exit(self, code: int, name: str = "c", reason: str = "") -> Bench:
        record = self.machine.containers[name]
        reason = reason or ("Error" if code else "Completed")
        self.tell(m.ContainerExited(name, m.Exit(record.id, code, reason, "", record.started_at, self.now)))
        return self

    def state(self, name: str = "c") -> State:
        return self.machine.containers[name].state

    def status(self) -> Any:
        return pod_status(self.machine.pod, self.machine.view(), host_ip="10.0.0.1", runtime="pyctl", now=self.now)


def deleted(subject: Pod, grace: int) -> Pod:
    gone = copy.deepcopy(subject)
    gone.metadata.deletionTimestamp = "2025-01-01T00:00:10Z"
    gone.metadata.deletionGracePeriodSeconds = grace
    return gone


def test_one_container_from_assignment_to_running() -> None:
    bench = Bench(pod())
    assert bench.tell(m.Assigned()) == [m.PrepareVolumes(), m.RunSandbox(0)]
    assert bench.tell(m.VolumesReady()) == []
    assert bench.tell(m.SandboxReady(0, "s0", ("10.1.0.2",))) == [m.EnsureImage("c")]
    assert bench.tell(m.ImageReady("c", "sha256:1")) == [m.StartContainer("c", 0, "s0", "sha256:1")]
    assert bench.tell(m.ContainerCreated("c", 0, "id0"), m.ContainerStarted("c", 0, "id0", NOW)) == [
        m.Record("Normal", "Created", "Created container: c", "c"),
        m.Record("Normal", "Started", "Started container c", "c"),
    ]
    assert (bench.status().phase, bench.status().podIP) == ("Running", "10.1.0.2")


def test_containers_start_in_parallel_but_init_containers_one_by_one() -> None:
    bench = Bench(pod(container("a"), container("b"), inits=(container("i"), container("j")))).setup()
    assert bench.out == [m.EnsureImage("i")]
    bench.start("i")
    assert bench.status().phase == "Pending"
    assert bench.exit(0, "i").out == [m.EnsureImage("j")]
    bench.start("j").exit(0, "j")
    assert bench.out == [m.EnsureImage("a"), m.EnsureImage("b")]


def test_failing_init_container_is_retried_or_fails_the_pod() -> None:
    bench = Bench(pod(inits=(container("i"),))).setup().start("i").exit(1, "i")
    assert bench.out == [m.EnsureImage("i")]
    bench = Bench(pod(inits=(container("i"),), restartPolicy="Never")).setup().start("i").exit(1, "i")
    assert bench.of(m.StopSandbox) and bench.state() is State.DONE
    assert bench.status().phase == "Failed"


def test_sidecar_starts_before_the_rest_and_stops_after_it() -> None:
    subject = pod(inits=(container("side", restartPolicy="Always"), container("i")), restartPolicy="Never")
    bench = Bench(subject).setup().start("side")
    assert bench.out[-1] == m.EnsureImage("i")
    bench.start("i").exit(0, "i")
    bench.start()
    assert bench.exit(0).of(m.StopContainer) == [m.StopContainer("side", "side-0", 30)]
    assert bench.status().phase == "Running"
    assert bench.exit(143, "side").of(m.StopSandbox)
    assert bench.status().phase == "Succeeded"


def test_crash_loop_delays_double_and_are_forgotten() -> None:
    bench = Bench(pod()).setup().start().at(1).exit(1)
    assert bench.out == [m.EnsureImage("c")]  # the first restart is at once
    for number, delay in enumerate((10, 20, 40, 80, 160, 300, 300)):
        bench.start().at(bench.now - NOW + 1).exit(1)
        assert bench.state() is State.CRASH_BACKOFF
        assert bench.of(m.SetTimer) == [m.SetTimer("restart c", bench.now + delay)]
        waiting = bench.status().containerStatuses[0].state.waiting
        assert waiting.reason == "CrashLoopBackOff"
        assert waiting.message.startswith(f"back-off {duration(delay)} restarting failed container=c pod=p_default(")
        assert bench.status().containerStatuses[0].restartCount == number + 1
        assert bench.events()[0][0] == "BackOff"
        bench.at(bench.now - NOW + delay).tell(m.TimerFired("restart c"))
    bench.start().at(bench.now - NOW + 601).exit(1)
    assert bench.out[-1] == m.EnsureImage("c")


def test_old_attempts_are_removed_but_the_last_one_is_kept_for_its_log() -> None:
    bench = Bench(pod()).setup().start().exit(1).start().exit(1)
    assert bench.of(m.RemoveContainer) == [m.RemoveContainer("c", "c-0")]
    assert bench.status().containerStatuses[0].lastState.terminated.containerID == "pyctl://c-1"


@pytest.mark.parametrize(
    ("policy", "code", "restarts", "phase"),
    [
        ("Always", 0, True, "Running"),
        ("Always", 1, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 1, True, "Running"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 1, False, "Failed"),
    ],
)
def test_restart_policies(policy: str, code: int, restarts: bool, phase: str) -> None:
    bench = Bench(pod(restartPolicy=policy)).setup().start().exit(code)
    assert bool(bench.of(m.EnsureImage)) is restarts
    assert bool(bench.of(m.StopSandbox)) is not restarts
    assert bench.status().phase == phase


def test_image_errors_are_shown_then_backed_off() -> None:
    bench = Bench(pod()).setup()
    bench.tell(m.ImageFailed("c", "ErrImagePull", "no such image"))
    assert bench.status().containerStatuses[0].state.waiting.reason == "ErrImagePull"
    assert bench.of(m.SetTimer) == [m.SetTimer("pull c", NOW + 10), m.SetTimer("shown c", NOW + 2)]
    bench.at(2).tell(m.TimerFired("shown c"))
    waiting = bench.status().containerStatuses[0].state.waiting
    assert waiting.reason == "ImagePullBackOff" and "no such image" in waiting.message
    assert bench.events() == [("BackOff", 'Back-off pulling image "busybox:1"'), ("Failed", "Error: ImagePullBackOff")]
    assert bench.at(10).tell(m.TimerFired("pull c")) == [m.EnsureImage("c")]
    bench.tell(m.ImageFailed("c", "ErrImagePull", "no such image"))
    assert bench.of(m.SetTimer)[0] == m.SetTimer("pull c", NOW + 10 + 20)


def test_an_image_that_arrives_by_another_way_is_not_waited_for() -> None:
    bench = Bench(pod()).setup()
    assert bench.tell(m.ImagesChanged()) == [], "one that is being pulled already is left alone"
    bench.tell(m.ImageFailed("c", "ErrImagePull", "no such image"))
    assert bench.at(3).tell(m.ImagesChanged()) == [m.EnsureImage("c")]
    assert bench.start().tell(m.TimerFired("pull c")) == [], "the old timer has nothing to say"


@pytest.mark.parametrize("trouble", ["pull", "crash"])
def test_another_image_is_tried_at_once(trouble: str) -> None:
    subject = pod()
    bench = Bench(subject).setup()
    if trouble == "pull":
        bench.tell(m.ImageFailed("c", "ErrImagePull", "no such image"))
    else:
        bench.start().exit(1).start().exit(1)
    newer = copy.deepcopy(subject)
    newer.spec.containers[0].image = "busybox:2"
    assert bench.tell(m.Updated(newer)) == [m.EnsureImage("c")]
    assert bench.start().state() is State.RUNNING
    assert bench.at(1).exit(1).of(m.EnsureImage), "and what it did before is forgotten"


def test_a_command_that_does_not_exist() -> None:
    bench = Bench(pod()).setup()
    bench.tell(m.ImageReady("c", "sha256:1"), m.ContainerCreated("c", 0, "c-0"))
    exit_ = m.Exit("c-0", 128, "StartError", "no such file: /nope", 0.0, NOW)
    bench.tell(m.ContainerExited("c", exit_, failed_start="RunContainerError"))
    waiting = bench.status().containerStatuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("RunContainerError", "no such file: /nope")
    assert ("Failed", "Error: no such file: /nope") in bench.events()
    assert bench.of(m.SetTimer) == [m.SetTimer("restart c", NOW + 10)]
    never = Bench(pod(restartPolicy="Never")).setup()
    never.tell(m.ImageReady("c", "sha256:1"), m.ContainerCreated("c", 0, "c-0"))
    never.tell(m.ContainerExited("c", exit_, failed_start="RunContainerError"))
    assert never.status().phase == "Failed"
    assert never.status().containerStatuses[0].state.terminated.reason == "StartError"


def test_an_exit_that_is_heard_of_before_the_start_waits_for_it() -> None:
    bench = Bench(pod(restartPolicy="Never")).setup()
    bench.tell(m.ImageReady("c", "sha256:1"), m.ContainerCreated("c", 0, "c-0"))
    exit_ = m.Exit("c-0", 5, "Error", "", NOW, NOW)
    assert bench.tell(m.ContainerExited("c", exit_)) == []
    assert bench.state() is State.STARTING
    bench.tell(m.ContainerStarted("c", 0, "c-0", NOW))
    assert bench.status().containerStatuses[0].state.terminated.exitCode == 5
    assert bench.events() == [("Started", "Started container c")]


def test_config_error_waits_and_tries_again_with_the_same_number() -> None:
    bench = Bench(pod()).setup()
    bench.tell(m.ImageReady("c", "sha256:1"))
    bench.tell(m.StartFailed("c", 0, "CreateContainerConfigError", 'configmap "x" not found'))
    assert bench.status().containerStatuses[0].state.waiting.reason == "CreateContainerConfigError"
    bench.at(1).tell(m.TimerFired("start c"))
    assert bench.tell(m.ImageReady("c", "sha256:1")) == [m.StartContainer("c", 0, "s0", "sha256:1")]


def test_sandbox_failure_is_told_and_retried() -> None:
    bench = Bench(pod())
    bench.tell(m.Assigned(), m.VolumesReady(), m.SandboxFailed(0, "no bridge"))
    assert bench.events() == [("FailedCreatePodSandBox", "Failed to create pod sandbox: no bridge")]
    assert bench.at(1).tell(m.TimerFired("sandbox")) == [m.RunSandbox(1)]
    bench.tell(m.SandboxFailed(1, "runtime is away", quiet=True))
    assert bench.events() == []
    assert bench.at(9).tell(m.TimerFired("sandbox")) == [m.RunSandbox(1)]


def test_volume_failures() -> None:
    bench = Bench(pod())
    bench.tell(m.Assigned(), m.VolumesFailed("MountVolume.SetUp failed for volume x"))
    assert bench.of(m.SetTimer) == [m.SetTimer("volumes", NOW + 1)]
    assert bench.at(1).tell(m.TimerFired("volumes")) == [m.PrepareVolumes()]
    bench.tell(m.VolumesFailed("volume y: not supported", permanent=True))
    assert bench.of(m.SetTimer) == [] and bench.events()[0][0] == "FailedMount"


def test_graceful_deletion_to_the_end() -> None:
    subject = pod()
    bench = Bench(subject).setup().start()
    bench.tell(m.Updated(deleted(subject, 20)))
    assert bench.of(m.StopContainer) == [m.StopContainer("c", "c-0", 20)]
    assert bench.events() == [("Killing", "Stopping container c")]
    assert bench.status().phase == "Running"
    assert bench.exit(143).out == [m.StopSandbox("s0")]
    assert bench.tell(m.SandboxStopped("s0")) == [m.TeardownVolumes(), m.RemovePod()]
    assert bench.status().containerStatuses[0].state.terminated.exitCode == 143
    assert bench.tell(m.Removed()) == [m.DeleteFromApi()]
    bench.tell(m.ApiDeleted())
    assert bench.machine.state is PodState.GONE


def test_deletion_can_be_hurried() -> None:
    subject = pod()
    bench = Bench(subject).setup().start()
    bench.tell(m.Updated(deleted(subject, 30)))
    assert bench.at(5).tell(m.Updated(deleted(subject, 2))) == [m.StopContainer("c", "c-0", 2)]
    assert bench.tell(m.Updated(deleted(subject, 2))) == []


def test_pod_that_vanished_is_stopped_and_not_deleted_again() -> None:
    bench = Bench(pod()).setup().start()
    bench.tell(m.Vanished())
    bench.exit(137)
    bench.tell(m.SandboxStopped("s0"))
    assert bench.tell(m.Removed()) == []
    assert bench.machine.state is PodState.GONE


def test_deletion_while_the_sandbox_is_made_waits_for_it() -> None:
    subject = pod()
    bench = Bench(subject)
    bench.tell(m.Assigned())
    assert bench.tell(m.Updated(deleted(subject, 30))) == []
    assert bench.tell(m.SandboxReady(0, "s0", ())) == [m.StopSandbox("s0")]


def test_deletion_while_a_container_starts_stops_it_afterwards() -> None:
    subject = pod()
    bench = Bench(subject).setup()
    bench.tell(m.ImageReady("c", "sha256:1"))
    assert bench.tell(m.Updated(deleted(subject, 7))) == []
    bench.tell(m.ContainerCreated("c", 0, "c-0"), m.ContainerStarted("c", 0, "c-0", NOW))
    assert bench.of(m.StopContainer) == [m.StopContainer("c", "c-0", 7)]


def test_deletion_while_pulling_does_not_wait_and_drops_the_late_answer() -> None:
    subject = pod()
    bench = Bench(subject).setup()
    assert bench.tell(m.Updated(deleted(subject, 30))) == [m.StopSandbox("s0")]
    assert bench.tell(m.ImageReady("c", "sha256:1")) == []


def test_active_deadline() -> None:
    bench = Bench(pod(activeDeadlineSeconds=60))
    assert m.SetTimer("deadline", NOW + 60) in bench.tell(m.Assigned())
    bench.tell(m.VolumesReady(), m.SandboxReady(0, "s0", ()))
    bench.start().at(60).tell(m.TimerFired("deadline"))
    assert bench.of(m.StopContainer) and bench.status().phase != "Failed"
    bench.exit(143)
    bench.tell(m.SandboxStopped("s0"))
    status = bench.status()
    assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
    assert bench.machine.state is PodState.STOPPED


def test_refused_pod_fails_without_running_anything() -> None:
    bench = Bench(pod())
    assert not [each for each in bench.tell(m.Refused("OutOfcpu", "too little")) if isinstance(each, m.RunSandbox)]
    status = bench.status()
    assert (status.phase, status.reason, status.message) == ("Failed", "OutOfcpu", "too little")


def test_new_image_restarts_the_container_whatever_the_policy() -> None:
    subject = pod(restartPolicy="Never")
    bench = Bench(subject).setup().start()
    newer = copy.deepcopy(subject)
    newer.spec.containers[0].image = "busybox:2"
    bench.tell(m.Updated(newer))
    assert bench.events() == [("Killing", "Container c definition changed, will be restarted")]
    assert bench.exit(143).out == [m.EnsureImage("c")]
    bench.start()
    assert bench.status().containerStatuses[0].restartCount == 1


def test_lost_sandbox_starts_everything_over() -> None:
    bench = Bench(pod(inits=(container("i"),))).setup().start("i").exit(0, "i").start()
    bench.tell(m.SandboxLost("s0"))
    assert bench.of(m.RunSandbox) == [m.RunSandbox(1)]
    bench.tell(m.SandboxReady(1, "s1", ("10.1.0.3",)))
    assert bench.out == [m.EnsureImage("i")]
    bench.start("i").exit(0, "i").start()
    status = bench.status()
    assert (status.containerStatuses[0].restartCount, status.podIP) == (1, "10.1.0.3")
    assert status.containerStatuses[0].lastState.terminated.exitCode == 137


def test_lost_sandbox_of_a_pod_that_must_not_restart_fails_it() -> None:
    bench = Bench(pod(restartPolicy="Never")).setup().start()
    bench.tell(m.SandboxLost("s0"))
    assert not bench.of(m.RunSandbox)
    assert bench.status().phase == "Failed"


FOUND = m.Found("s0", 0, True, ("10.1.0.2",), (m.FoundContainer("c", "c-3", 3, NOW - 50, "sha256:1"),))


def test_restarted_agent_takes_up_a_running_container() -> None:
    bench = Bench(pod())
    out = bench.tell(m.Assigned(FOUND), m.VolumesReady())
    assert out == [m.PrepareVolumes()]
    status = bench.status().containerStatuses[0]
    assert (status.restartCount, status.containerID, status.state.running.startedAt) == (
        3,
        "pyctl://c-3",
        "2024-12-31T23:59:10Z",
    )


def test_restarted_agent_takes_up_an_exit_it_missed() -> None:
    gone = m.Exit("c-3", 7, "Error", "", NOW - 50, NOW - 1)
    earlier = m.Exit("c-2", 1, "Error", "", NOW - 90, NOW - 60)
    found = m.Found("s0", 0, True, (), (
        m.FoundContainer("c", "c-2", 2, NOW - 90, exit=earlier),
        m.FoundContainer("c", "c-3", 3, NOW - 50, exit=gone),
    ))  # fmt: skip
    bench = Bench(pod())
    bench.tell(m.Assigned(found), m.VolumesReady())
    assert bench.of(m.EnsureImage) == [m.EnsureImage("c")]
    assert bench.of(m.RemoveContainer) == [m.RemoveContainer("c", "c-2")]
    bench.start()
    status = bench.status().containerStatuses[0]
    assert (status.restartCount, status.lastState.terminated.exitCode) == (4, 7)


def test_restarted_agent_removes_what_was_created_and_never_started() -> None:
    found = m.Found("s0", 0, True, (), (m.FoundContainer("c", "c-0", 0, created_only=True),))
    bench = Bench(pod())
    bench.tell(m.Assigned(found), m.VolumesReady())
    assert bench.out[0] == m.RemoveContainer("c", "c-0")
    assert bench.tell(m.ImageReady("c", "x")) == [m.StartContainer("c", 0, "s0", "x")]


def test_after_a_reboot_the_restart_count_comes_from_the_status() -> None:
    subject = pod()
    running = ContainerState(running=ContainerStateRunning(startedAt="2024-12-31T23:00:00Z"))
    subject.status.containerStatuses = [
        ContainerStatus(name="c", state=running, restartCount=2, containerID="pyctl://old")
    ]
    subject.status.phase = "Running"
    bench = Bench(subject)
    assert m.RunSandbox(0) in bench.tell(m.Assigned())
    bench.tell(m.VolumesReady(), m.SandboxReady(0, "s0", ()))
    bench.start()
    status = bench.status().containerStatuses[0]
    assert (status.restartCount, status.lastState.terminated.reason) == (3, "ContainerStatusUnknown")


def test_terminal_pod_is_left_alone_until_it_is_deleted() -> None:
    subject = pod(restartPolicy="Never")
    subject.status.phase = "Succeeded"
    bench = Bench(subject)
    assert bench.tell(m.Assigned()) == []
    assert not bench.machine.reports
    assert bench.tell(m.Updated(deleted(subject, 30))) == [m.RemovePod()]


def test_a_terminal_pod_that_the_runtime_forgot_still_knows_its_containers() -> None:
    subject = pod(restartPolicy="Never")
    bench = Bench(subject).setup().start().exit(0)
    subject.status = bench.status()
    subject.status.phase = "Succeeded"
    later = Bench(subject)
    assert later.tell(m.Assigned()) == []
    record = later.machine.containers["c"]
    assert (record.id, record.attempt, record.live) == ("c-0", 0, False), "so its log is found"


def test_missing_pairs_raise() -> None:
    with pytest.raises(Impossible, match="Gone"):
        next_pod_state(PodState.GONE, PodTrigger.BEGIN)
    with pytest.raises(Impossible, match="its turn"):
        next_state(State.DONE, Trigger.TURN)


def test_every_state_is_reached_and_drawn() -> None:
    assert set(POD_TRANSITIONS.values()) | {PodState.NEW} == set(PodState)
    assert set(TRANSITIONS.values()) == set(State)
    drawing = diagram(POD_TRANSITIONS)
    assert drawing.startswith("stateDiagram-v2\n    [*] --> New\n")
    assert "    Stopping --> Stopped: nothing runs\n" in drawing


def test_the_drawings_in_the_documentation_are_those_of_the_tables() -> None:
    text = (Path(__file__).parents[3] / "docs/pod-life.md").read_text()
    assert text.endswith(page()), "run: python -m nodeagent.podworker.states"


@pytest.mark.parametrize(("seconds", "text"), [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3660, "1h1m0s")])
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_delay_settles_after_peace() -> None:
    delay = Delay()
    assert [delay.increase(NOW), delay.increase(NOW)] == [10, 20]
    assert (delay.settle(NOW + 600), delay.settle(NOW + 601)) == (20, 0)


class World:
    """Answers instructions at random: every interleaving that a runtime, a network and a user may cause."""

    def __init__(self, draw: st.DataObject, subject: Pod) -> None:
        self.draw = draw
        self.machine = PodMachine(subject, NOW)
        self.now = NOW
        self.pending: list[m.Fact] = []
        self.timers: dict[str, float] = {}
        self.runs: dict[str, str] = {}
        self.deleted = False
        self.steps = 0
        self.phases: list[str] = []

    def tell(self, fact: m.Fact) -> None:
        for instruction in self.machine.handle(fact, self.now):
            self.obey(instruction)
        if self.machine.reports:
            status = pod_status(self.machine.pod, self.machine.view(), host_ip="h", runtime="r", now=self.now)
            if not self.phases or self.phases[-1] != status.phase:
                self.phases.append(status.phase)

    def obey(self, instruction: m.Instruction) -> None:
        choose = lambda *options: self.draw.draw(st.sampled_from(options))  # noqa: E731
        match instruction:
            case m.PrepareVolumes():
                self.pending.append(choose(m.VolumesReady(), m.VolumesFailed("no"), m.VolumesReady()))
            case m.RunSandbox(attempt):
                ready = m.SandboxReady(attempt, f"s{attempt}", ("10.0.0.9",))
                self.pending.append(choose(ready, m.SandboxFailed(attempt, "no"), m.SandboxFailed(attempt, "", True)))
            case m.StopSandbox(identity):
                self.pending.append(m.SandboxStopped(identity))
                self.runs = {}
            case m.EnsureImage(name):
                self.pending.append(choose(m.ImageReady(name, "i"), m.ImageFailed(name, "ErrImagePull", "no")))
            case m.StartContainer(name, attempt, _, _):
                identity = f"{name}-{attempt}"
                begun = m.ContainerCreated(name, attempt, identity)
                if choose(True, False):
                    self.tell_later(begun, m.ContainerStarted(name, attempt, identity, self.now))
                    self.runs[name] = identity
                elif choose(True, False):
                    exit_ = m.Exit(identity, 128, "StartError", "no", 0, self.now)
                    self.tell_later(begun, m.ContainerExited(name, exit_, "RunContainerError"))
                else:
                    self.pending.append(m.StartFailed(name, attempt, "CreateContainerError", "no"))
            case m.StopContainer(name, identity, _):
                self.runs.pop(name, None)
                self.pending.append(m.ContainerExited(name, m.Exit(identity, 143, "Error", "", NOW, self.now)))
            case m.RemovePod():
                self.pending.append(m.Removed())
            case m.DeleteFromApi():
                self.pending.append(choose(m.ApiDeleted(), m.Vanished()))
            case m.SetTimer(name, at):
                self.timers[name] = at
            case _:
                pass

    def tell_later(self, *facts: m.Fact) -> None:
        self.pending += facts

    def step(self) -> bool:
        """One thing happens; False when nothing can."""
        # Weighted, or most pods would be deleted before they have seen anything.
        choices = ["pending"] * 3 * bool(self.pending) + ["timer"] * bool(self.timers) + ["exit"] * 2 * bool(self.runs)
        choices += [] if self.deleted else ["lose"]
        choices += ["delete", "vanish"] if self.steps > 20 and not self.deleted else []
        self.steps += 1
        if not choices:
            return False
        match self.draw.draw(st.sampled_from(choices)):
            case "pending":
                self.tell(self.pending.pop(0))
            case "timer":
                name = min(self.timers, key=lambda each: self.timers[each])
                self.now = max(self.now, self.timers.pop(name))
                self.tell(m.TimerFired(name))
            case "exit":  # also of one whose start is still to be told
                name = self.draw.draw(st.sampled_from(sorted(self.runs)))
                identity = self.runs.pop(name)
                code = self.draw.draw(st.sampled_from((0, 1)))
                reason = "Error" if code else "Completed"
                self.tell(m.ContainerExited(name, m.Exit(identity, code, reason, "", self.now, self.now)))
            case "delete":
                self.deleted = True
                self.tell(m.Updated(deleted(self.machine.pod, 5)))
            case "vanish":
                self.deleted = True
                self.tell(m.Vanished())
            case "lose":
                if self.machine.sandbox.state == "ready":
                    self.runs = {}
                    self.tell(m.SandboxLost(self.machine.sandbox.id))
        return True


@settings(max_examples=80, deadline=None)
@given(data=st.data(), policy=st.sampled_from(("Always", "OnFailure", "Never")), shape=st.integers(0, 3))
def test_no_interleaving_breaks_the_machine(data: st.DataObject, policy: str, shape: int) -> None:
    inits = ((), (container("i"),), (container("s", restartPolicy="Always"),), (container("i"), container("s")))[shape]
    world = World(data, pod(container("a"), container("b"), inits=inits, restartPolicy=policy))
    world.tell(m.Assigned())
    for _ in range(60):
        if not world.step():
            break
    if not world.deleted:
        world.deleted = True
        world.tell(m.Updated(deleted(world.machine.pod, 5)))
    for _ in range(200):
        if world.machine.state is PodState.GONE:
            break
        world.timers = {} if not world.pending else world.timers
        assert world.pending, f"stuck in {world.machine.state}"
        world.tell(world.pending.pop(0))
    assert world.machine.state is PodState.GONE
    for index, phase in enumerate(world.phases):
        assert phase not in ("Succeeded", "Failed") or index == len(world.phases) - 1, world.phases
