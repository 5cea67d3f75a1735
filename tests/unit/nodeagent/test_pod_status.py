"""Phase, conditions, container statuses and QoS from what the machine knows: the kubelet's rules as tables."""

from __future__ import annotations

from typing import Any

import pytest

from apimachinery.kinds.pod import ContainerStatus, Pod, PodCondition
from apimachinery.kinds.pod import PodStatus as Status
from apimachinery.kinds.pod_container import ResourceRequirements
from nodeagent.podworker.messages import Exit
from nodeagent.podworker.reporter import status_patch, to_json
from nodeagent.status import ContainerView, Ending, PodView, pod_status, qos_class
from tests.unit.nodeagent.pods import NOW, container, pod

OK = Exit("x", 0, "Completed", "", NOW, NOW)
BAD = Exit("x", 1, "Error", "", NOW, NOW)


def waiting(name: str = "c", last: Exit | None = None, reason: str = "") -> ContainerView:
    return ContainerView(name, "i", last_exit=last, waiting_reason=reason)


def running(name: str = "c") -> ContainerView:
    return ContainerView(name, "i", "running", "id", started_at=NOW, started=True)


def ended(exit_: Exit, name: str = "c") -> ContainerView:
    return ContainerView(name, "i", "terminated", "id", exit=exit_)


def status_of(subject: Pod, *views: ContainerView, **fields: Any) -> Status:
    view = PodView({each.name: each for each in views}, sandbox_ready=True, started_at=NOW, **fields)
    return pod_status(subject, view, host_ip="10.0.0.1", runtime="r", now=NOW)


TWO = (container("a"), container("b"))


@pytest.mark.parametrize(
    ("policy", "a", "b", "terminal", "phase"),
    [
        ("Always", waiting("a"), waiting("b"), False, "Pending"),
        ("Always", running("a"), waiting("b"), False, "Pending"),
        ("Always", running("a"), running("b"), False, "Running"),
        ("Always", running("a"), ended(OK, "b"), False, "Running"),
        ("Always", ended(OK, "a"), ended(BAD, "b"), False, "Running"),
        ("Always", waiting("a", BAD, "CrashLoopBackOff"), waiting("b", BAD), False, "Running"),
        ("OnFailure", ended(OK, "a"), ended(OK, "b"), False, "Succeeded"),
        ("OnFailure", ended(OK, "a"), ended(BAD, "b"), False, "Running"),
        ("Never", ended(OK, "a"), ended(OK, "b"), False, "Succeeded"),
        ("Never", ended(OK, "a"), ended(BAD, "b"), False, "Failed"),
        ("Never", running("a"), ended(BAD, "b"), False, "Running"),
        ("Always", ended(OK, "a"), ended(OK, "b"), True, "Succeeded"),
        ("Always", ended(OK, "a"), ended(BAD, "b"), True, "Failed"),
        ("Always", waiting("a"), waiting("b"), True, "Failed"),
    ],
)
def test_phase(policy: str, a: ContainerView, b: ContainerView, terminal: bool, phase: str) -> None:
    assert status_of(pod(*TWO, restartPolicy=policy), a, b, terminal=terminal).phase == phase


@pytest.mark.parametrize(
    ("policy", "init", "main", "phase", "done"),
    [
        ("Always", waiting("i"), waiting(), "Pending", "False"),
        ("Always", running("i"), waiting(), "Pending", "False"),
        ("Always", ended(OK, "i"), waiting(), "Pending", "True"),
        ("Always", ended(OK, "i"), running(), "Running", "True"),
        ("Always", waiting("i", BAD, "CrashLoopBackOff"), waiting(), "Pending", "False"),
        ("Never", ended(BAD, "i"), waiting(), "Failed", "False"),
    ],
)
def test_init_containers(policy: str, init: ContainerView, main: ContainerView, phase: str, done: str) -> None:
    status = status_of(pod(inits=(container("i"),), restartPolicy=policy), init, main)
    assert (status.phase, condition(status, "Initialized").status) == (phase, done)


def test_a_running_sidecar_keeps_the_pod_running() -> None:
    subject = pod(inits=(container("s", restartPolicy="Always"),), restartPolicy="Never")
    assert status_of(subject, running("s"), ended(OK)).phase == "Running"
    assert status_of(subject, ended(OK, "s"), ended(OK)).phase == "Succeeded"
    assert status_of(subject, running("s"), waiting()).phase == "Pending"


def condition(status: Status, kind: str) -> PodCondition:
    return next(each for each in status.conditions if each.type == kind)


def test_conditions_say_who_is_not_ready() -> None:
    status = status_of(pod(*TWO), running("a"), waiting("b"))
    ready = condition(status, "Ready")
    assert (ready.status, ready.reason) == ("False", "ContainersNotReady")
    assert ready.message == "containers with unready status: [b]"
    done = condition(status_of(pod(restartPolicy="Never"), ended(OK)), "Ready")
    assert (done.status, done.reason) == ("False", "PodCompleted")


def test_transition_times_move_only_with_the_status_and_others_conditions_are_kept() -> None:
    subject = pod()
    subject.status.conditions = [
        PodCondition(type="Ready", status="True", lastTransitionTime="2020-01-01T00:00:00Z"),
        PodCondition(type="ContainersReady", status="False", lastTransitionTime="2020-01-01T00:00:00Z"),
        PodCondition(type="example.com/mine", status="True", lastTransitionTime="2020-01-01T00:00:00Z"),
    ]
    status = status_of(subject, running())
    assert condition(status, "Ready").lastTransitionTime == "2020-01-01T00:00:00Z"
    assert condition(status, "ContainersReady").lastTransitionTime == "2025-01-01T00:00:00Z"
    assert condition(status, "example.com/mine") is subject.status.conditions[2]


def test_readiness_gates() -> None:
    subject = pod(readinessGates=[{"conditionType": "x/y"}])
    subject.spec.readinessGates = [type("Gate", (), {"conditionType": "x/y"})()]
    ready = condition(status_of(subject, running()), "Ready")
    assert (ready.status, ready.reason) == ("False", "ReadinessGatesNotReady")
    subject.status.conditions = [PodCondition(type="x/y", status="True")]
    assert condition(status_of(subject, running()), "Ready").status == "True"


def test_why_a_container_waits() -> None:
    def reason(subject: Pod, view: ContainerView) -> str:
        statuses = status_of(subject, *([waiting("i")] if subject.spec.initContainers else []), view)
        found = statuses.containerStatuses[0].state.waiting
        assert found is not None
        return found.reason

    assert reason(pod(), waiting()) == "ContainerCreating"
    assert reason(pod(inits=(container("i"),)), waiting()) == "PodInitializing"
    assert reason(pod(), waiting(reason="ErrImagePull")) == "ErrImagePull"


def test_container_status_fields() -> None:
    view = ContainerView("c", "i", "running", "abc", "sha256:9", 2, NOW, True, last_exit=BAD)
    status: ContainerStatus = status_of(pod(), view).containerStatuses[0]
    assert (status.containerID, status.imageID, status.restartCount, status.ready, status.started) == (
        "r://abc",
        "sha256:9",
        2,
        True,
        True,
    )
    assert status.lastState.terminated is not None and status.lastState.terminated.containerID == "r://x"


def test_what_never_ended_is_lost_when_the_pod_is_over() -> None:
    status = status_of(pod(*TWO), ended(OK, "a"), waiting("b"), terminal=True)
    lost = status.containerStatuses[1].state.terminated
    assert lost is not None and (lost.reason, lost.exitCode) == ("ContainerStatusUnknown", 137)


def test_an_ending_decides_phase_and_reason_once_nothing_runs() -> None:
    late = Ending("Failed", "DeadlineExceeded", "too long")
    status = status_of(pod(), ended(OK), ending=late, terminal=True)
    assert (status.phase, status.reason, status.message) == ("Failed", "DeadlineExceeded", "too long")
    subject = pod()
    subject.status.phase = "Running"
    status = status_of(subject, running(), ending=late)
    assert (status.phase, status.reason, status.message) == ("Running", "", "")
    assert status_of(pod(), waiting(), ending=late).phase == "Pending"


def test_addresses() -> None:
    status = status_of(pod(), running(), ips=("10.1.0.2", "fd00::2"))
    assert (status.podIP, [each.ip for each in status.podIPs]) == ("10.1.0.2", ["10.1.0.2", "fd00::2"])
    assert status_of(pod(hostNetwork=True), running()).podIP == "10.0.0.1"
    over = PodView({"c": ended(OK)}, terminal=True)
    hosted = pod_status(pod(hostNetwork=True), over, host_ip="10.0.0.1", runtime="r", now=NOW)
    assert hosted.podIP == "10.0.0.1", "kept when the sandbox is gone"


def resources(requests: dict[str, str], limits: dict[str, str]) -> ResourceRequirements:
    return ResourceRequirements(requests=requests, limits=limits)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([({}, {})], "BestEffort"),
        ([({"cpu": "100m"}, {})], "Burstable"),
        ([({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([({}, {"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([({"cpu": "1000m"}, {"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"})], "Burstable"),
        ([({}, {"cpu": "1", "memory": "1Gi"}), ({}, {})], "Burstable"),
        ([({"ephemeral-storage": "1Gi"}, {})], "BestEffort"),
    ],
)
def test_qos(given: list[tuple[dict[str, str], dict[str, str]]], expected: str) -> None:
    containers = [container(f"c{n}", resources=resources(*each)) for n, each in enumerate(given)]
    assert qos_class(pod(*containers)) == expected


def test_patch_carries_only_what_changed() -> None:
    first = to_json(status_of(pod(*TWO), waiting("a"), waiting("b"), ips=("10.1.0.2",)))
    second = to_json(status_of(pod(*TWO), running("a"), running("b"), ips=("10.1.0.3",)))
    patch = status_patch(first, second)
    assert status_patch(first, first) == {}
    assert set(patch) == {"phase", "podIP", "podIPs", "conditions", "containerStatuses"}
    assert patch["podIPs"] == [{"ip": "10.1.0.3"}, {"$patch": "delete", "ip": "10.1.0.2"}]
    assert {each["type"] for each in patch["conditions"]} == {"Ready", "ContainersReady"}
    ready = next(each for each in patch["conditions"] if each["type"] == "Ready")
    assert ready["reason"] is None and ready["message"] is None
    assert status_patch({"message": "x"}, {}) == {"message": None}
