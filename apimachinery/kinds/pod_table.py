"""The row of a pod in a table: what `kubectl get pods` shows. Kubernetes' printPod."""

from __future__ import annotations

from typing import Any

from apimachinery.kind import Column
from apimachinery.kinds.pod_spec import Pod
from apimachinery.kinds.pod_status import ContainerState, ContainerStatus
from apimachinery.table import AGE, NAME, age, or_none
from apimachinery.times import parse_time

COLUMNS = (
    NAME,
    Column("Ready", description="The aggregate readiness state of this pod for accepting traffic."),
    Column("Status", description="The aggregate status of the containers in this pod."),
    Column(
        "Restarts",
        description="The number of times the containers in this pod have been restarted and when the last container in "
        "this pod has restarted.",
    ),
    AGE,
    Column("IP", description="IP address allocated to the pod.", priority=1),
    Column("Node", description="Name of the node that this pod is scheduled onto.", priority=1),
    Column("Nominated Node", description="Node on which this pod is to run once others are gone.", priority=1),
    Column("Readiness Gates", description="Conditions that the pod waits for before it is ready.", priority=1),
)


def cells(pod: Pod, now: float) -> list[Any]:
    """Name, ready, status, restarts, age, IP, node, nominated node, readiness gates."""
    summary = _Summary(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({age(summary.last_restart, now)} ago)"
    status = pod.status
    ip = status.podIPs[0].ip if status.podIPs else status.podIP
    gates = "<none>"
    if pod.spec.readinessGates:
        true = {condition.type for condition in status.conditions if condition.status == "True"}
        met = sum(gate.conditionType in true for gate in pod.spec.readinessGates)
        gates = f"{met}/{len(pod.spec.readinessGates)}"
    return [
        pod.metadata.name,
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        age(pod.metadata.creationTimestamp, now),
        or_none(ip),
        or_none(pod.spec.nodeName),
        or_none(status.nominatedNodeName),
        gates,
    ]


def status_text(pod: Pod) -> str:
    """The Status cell: `Running`, `Init:0/1`, `CrashLoopBackOff`, `Terminating`, ..."""
    return _Summary(pod).reason


class _Summary:
    """What the statuses of all containers come to."""

    def __init__(self, pod: Pod) -> None:
        status = pod.status
        self.sidecars = {container.name for container in pod.spec.initContainers if container.restartPolicy == "Always"}
        self.total = len(pod.spec.containers) + len(self.sidecars)
        self.ready = 0
        self.restarts = 0
        self.last_restart = ""
        self.reason = status.reason or status.phase
        if any(c.type == "PodScheduled" and c.reason == "SchedulingGated" for c in status.conditions):
            self.reason = "SchedulingGated"
        initializing = self._init(pod)
        initialized = any(c.type == "Initialized" and c.status == "True" for c in status.conditions)
        if not initializing or initialized:
            self._main(pod)
        if pod.metadata.deletionTimestamp:
            if status.reason == "NodeLost":
                self.reason = "Unknown"
            elif status.phase not in ("Succeeded", "Failed"):
                self.reason = "Terminating"

    def _init(self, pod: Pod) -> bool:
        """Whether an init container is still at work or has failed; the first such one gives the reason."""
        for index, container in enumerate(pod.status.initContainerStatuses):
            self._count(container)
            ended, waiting = container.state.terminated, container.state.waiting
            if ended is not None and ended.exitCode == 0:
                continue
            if container.name in self.sidecars and container.started:
                self.ready += container.ready
                continue
            if ended is not None:
                self.reason = "Init:" + (ended.reason or _exit(container.state))
            elif waiting is not None and waiting.reason not in ("", "PodInitializing"):
                self.reason = "Init:" + waiting.reason
            else:
                self.reason = f"Init:{index}/{len(pod.spec.initContainers)}"
            return True
        return False

    def _main(self, pod: Pod) -> None:
        self.restarts, self.last_restart = 0, ""
        for container in pod.status.initContainerStatuses:
            if container.name in self.sidecars:
                self._count(container)
        running = False
        for container in reversed(pod.status.containerStatuses):
            self._count(container)
            state = container.state
            if state.waiting is not None and state.waiting.reason:
                self.reason = state.waiting.reason
            elif state.terminated is not None:
                self.reason = state.terminated.reason or _exit(state)
            elif container.ready and state.running is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
            self.reason = "Running" if ready else "NotReady"

    def _count(self, container: ContainerStatus) -> None:
        self.restarts += container.restartCount
        ended = container.lastState.terminated
        if ended is not None and ended.finishedAt:
            later = not self.last_restart or parse_time(self.last_restart) < parse_time(ended.finishedAt)
            self.last_restart = ended.finishedAt if later else self.last_restart


def _exit(state: ContainerState) -> str:
    ended = state.terminated
    if ended is None:
        return ""
    return f"Signal:{ended.signal}" if ended.signal else f"ExitCode:{ended.exitCode}"
