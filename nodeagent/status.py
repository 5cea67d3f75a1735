"""What the API says of a pod: phase, conditions and container statuses, computed from what the machine knows.

Pure functions over `PodView`; the rules are the kubelet's. Conditions that others own are kept as they are, and a
transition time moves only when the condition's status does. Leaves sending to `podworker.reporter`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from apimachinery.kinds.pod import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
)
from apimachinery.kinds.pod_status import HostIP
from apimachinery.quantity import parse
from apimachinery.times import format_time
from nodeagent.podworker.messages import Exit

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
NOT_LOCATED = Exit("", 137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated")


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container as it stands. current: waiting, running or terminated; `exit` belongs to terminated."""

    name: str
    image: str
    current: str = "waiting"
    id: str = ""
    image_ref: str = ""
    restarts: int = 0
    started_at: float = 0.0
    started: bool = False
    ready: bool = False
    exit: Exit | None = None
    last_exit: Exit | None = None
    waiting_reason: str = ""
    waiting_message: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a pod was ended from outside. `phase` is set when that decides the phase."""

    phase: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod as it stands, containers by name. terminal: nothing of it will run any more."""

    containers: dict[str, ContainerView] = field(default_factory=dict)
    sandbox_ready: bool = False
    ips: tuple[str, ...] = ()
    started_at: float = 0.0
    ending: Ending | None = None
    terminal: bool = False


def pod_status(
    pod: Pod, view: PodView, *, host_ip: str, runtime: str, now: float, before: PodStatus | None = None
) -> PodStatus:
    """The whole status. runtime: its name, the scheme of container ids; before: what was said last, when that is newer
    than what `pod` carries."""
    inits, mains = pod.spec.initContainers, pod.spec.containers
    views = view.containers
    lost = view.terminal and initialized(pod, views)
    statuses = {each.name: container_status(views[each.name], pod, runtime, lost) for each in [*inits, *mains]}
    phase = pod_phase(pod, statuses, terminal=view.terminal)
    ending = view.ending or Ending()
    if ending.phase and view.terminal:
        phase = ending.phase
    elif ending.phase:
        # A terminal phase gives away what the pod has: not while anything of it may run.
        phase, ending = (before or pod.status).phase or PENDING, Ending()
    ips = view.ips or ((host_ip,) if pod.spec.hostNetwork else ())
    status = PodStatus(
        phase=phase,
        reason=ending.reason,
        message=ending.message,
        hostIP=host_ip,
        hostIPs=[HostIP(ip=host_ip)],
        podIP=ips[0] if ips else "",
        podIPs=[PodIP(ip=ip) for ip in ips],
        startTime=format_time(view.started_at),
        initContainerStatuses=[statuses[each.name] for each in inits],
        containerStatuses=[statuses[each.name] for each in mains],
        qosClass=pod.status.qosClass or qos_class(pod),
        nominatedNodeName=pod.status.nominatedNodeName,
    )
    status.conditions = conditions(pod, status, view, now, before or pod.status)
    return status


# Containers.


def container_status(view: ContainerView, pod: Pod, runtime: str, lost: bool = False) -> ContainerStatus:
    """lost: the pod is over, so what never ended is reported as lost."""
    sidecar_or_main = not any(each.name == view.name and not is_sidecar(each) for each in pod.spec.initContainers)
    running = view.current == "running"
    if lost and view.current != "terminated":
        state = ContainerState(terminated=terminated(NOT_LOCATED, runtime))
    elif running:
        state = ContainerState(running=ContainerStateRunning(startedAt=format_time(view.started_at)))
    elif view.current == "terminated" and view.exit is not None:
        state = ContainerState(terminated=terminated(view.exit, runtime))
    else:
        reason = view.waiting_reason or ("PodInitializing" if pod.spec.initContainers else "ContainerCreating")
        state = ContainerState(waiting=ContainerStateWaiting(reason=reason, message=view.waiting_message))
    completed = state.terminated is not None and state.terminated.exitCode == 0
    identity = view.id or (view.last_exit.id if view.last_exit is not None else "")
    return ContainerStatus(
        name=view.name,
        state=state,
        lastState=ContainerState(terminated=terminated(view.last_exit, runtime) if view.last_exit else None),
        # An init container that has done its work is ready, as in Kubernetes.
        ready=running and view.started if sidecar_or_main else completed,
        restartCount=view.restarts,
        image=view.image,
        imageID=view.image_ref,
        containerID=f"{runtime}://{identity}" if identity else "",
        started=running and view.started,
    )


def terminated(exit: Exit, runtime: str) -> ContainerStateTerminated:
    """An exit as the API shows it."""
    return ContainerStateTerminated(
        exitCode=exit.exit_code,
        signal=exit.signal or None,
        reason=exit.reason,
        message=exit.message,
        startedAt=format_time(exit.started_at) if exit.started_at else "",
        finishedAt=format_time(exit.finished_at) if exit.finished_at else "",
        containerID=f"{runtime}://{exit.id}" if exit.id else "",
    )


def is_sidecar(container: Container) -> bool:
    """An init container that keeps running."""
    return container.restartPolicy == "Always"


def initialized(pod: Pod, views: dict[str, ContainerView]) -> bool:
    """Has every init container done its work, or, as a sidecar, started?"""
    if any(views[each.name].started or views[each.name].exit for each in pod.spec.containers):
        return True
    for each in pod.spec.initContainers:
        view = views[each.name]
        if is_sidecar(each):
            if not view.started:
                return False
        elif view.current != "terminated" or view.exit is None or view.exit.exit_code != 0:
            return False
    return True


# Phase.


@dataclass(slots=True)
class Count:
    """How many containers stand where. `stopped` counts those that wait to be restarted, too."""

    waiting: int = 0
    running: int = 0
    stopped: int = 0
    succeeded: int = 0


def pod_phase(pod: Pod, statuses: dict[str, ContainerStatus], *, terminal: bool) -> str:
    """Pending until all init containers are done and every container was started once; Running while one runs or will
    run again; a terminal phase only when nothing will."""
    policy = pod.spec.restartPolicy or "Always"
    pending, failed = _init_progress(pod, statuses)
    count = _count(pod, statuses)
    if failed and policy == "Never":
        return FAILED
    if terminal:
        succeeded = count.stopped == count.succeeded and not pending and not count.waiting and count.stopped
        return SUCCEEDED if succeeded else FAILED
    if pending or count.waiting:
        return PENDING
    if count.running or policy == "Always":
        return RUNNING
    if count.stopped == count.succeeded:
        return SUCCEEDED
    return FAILED if policy == "Never" else RUNNING


def _init_progress(pod: Pod, statuses: dict[str, ContainerStatus]) -> tuple[int, int]:
    """(not done, failed) among the init containers. Once a main container was started they no longer count."""
    if any(statuses[each.name].state.waiting is None for each in pod.spec.containers):
        return 0, 0
    pending = failed = 0
    for each in pod.spec.initContainers:
        status = statuses[each.name]
        ended = status.state.terminated or (status.lastState.terminated if status.state.waiting else None)
        if is_sidecar(each):
            pending += not (status.started or ended)
        elif ended is None or status.state.running is not None:
            pending += 1
        elif ended.exitCode != 0:
            failed += 1
            pending += 1
        elif status.state.terminated is None:
            pending += 1
    return pending, failed


def _count(pod: Pod, statuses: dict[str, ContainerStatus]) -> Count:
    count = Count()
    for each in pod.spec.containers:
        state, last = statuses[each.name].state, statuses[each.name].lastState
        if state.running is not None:
            count.running += 1
        elif state.terminated is not None:
            count.stopped += 1
            count.succeeded += state.terminated.exitCode == 0
        elif last.terminated is not None:
            count.stopped += 1
        else:
            count.waiting += 1
    # A sidecar that still runs keeps the pod running.
    sidecars = [statuses[each.name] for each in pod.spec.initContainers if is_sidecar(each)]
    count.running += any(status.state.running is not None for status in sidecars) and not count.waiting
    return count


# Conditions.

OWNED = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def conditions(pod: Pod, status: PodStatus, view: PodView, now: float, last: PodStatus) -> list[PodCondition]:
    """The agent's conditions in their usual order, then those of others, untouched."""
    before = {each.type: each for each in pod.status.conditions}
    before |= {each.type: each for each in last.conditions if each.type in OWNED}
    ready = _containers_ready(pod, status)
    wanted = [
        PodCondition(type="PodReadyToStartContainers", status=_bool(view.sandbox_ready)),
        _initialized(pod, status, view),
        _ready(pod, ready, before),
        ready,
        PodCondition(type="PodScheduled", status="True"),
    ]
    for each in wanted:
        old = before.get(each.type)
        same = old is not None and old.status == each.status and old.lastTransitionTime
        each.lastTransitionTime = old.lastTransitionTime if same and old is not None else format_time(now)
    return wanted + [each for each in pod.status.conditions if each.type not in OWNED]


def _initialized(pod: Pod, status: PodStatus, view: PodView) -> PodCondition:
    if status.phase == SUCCEEDED:
        return PodCondition(type="Initialized", status="True", reason="PodCompleted")
    if initialized(pod, view.containers):
        return PodCondition(type="Initialized", status="True")
    incomplete = [each.name for each in status.initContainerStatuses if not each.ready]
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return PodCondition(type="Initialized", status="False", reason="ContainersNotInitialized", message=message)


def _containers_ready(pod: Pod, status: PodStatus) -> PodCondition:
    if status.phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if status.phase == SUCCEEDED else "PodFailed"
        return PodCondition(type="ContainersReady", status="False", reason=reason)
    sidecars = {each.name for each in pod.spec.initContainers if is_sidecar(each)}
    counted = [each for each in status.initContainerStatuses if each.name in sidecars] + status.containerStatuses
    unready = [each.name for each in counted if not each.ready]
    if not unready:
        return PodCondition(type="ContainersReady", status="True")
    message = f"containers with unready status: [{' '.join(unready)}]"
    return PodCondition(type="ContainersReady", status="False", reason="ContainersNotReady", message=message)


def _ready(pod: Pod, containers: PodCondition, before: dict[str, PodCondition]) -> PodCondition:
    """Ready is ContainersReady and every readiness gate."""
    if containers.status != "True":
        return PodCondition(type="Ready", status="False", reason=containers.reason, message=containers.message)
    missing = []
    for gate in pod.spec.readinessGates:
        condition = before.get(gate.conditionType)
        if condition is None:
            missing.append(f'corresponding condition of pod readiness gate "{gate.conditionType}" does not exist.')
        elif condition.status != "True":
            text = f'the status of pod readiness gate "{gate.conditionType}" is not "True", but {condition.status}'
            missing.append(text)
    if missing:
        return PodCondition(type="Ready", status="False", reason="ReadinessGatesNotReady", message=", ".join(missing))
    return PodCondition(type="Ready", status="True")


def _bool(value: bool) -> str:
    return "True" if value else "False"


# Quality of service.


def qos_class(pod: Pod) -> str:
    """Guaranteed: every container limits cpu and memory and requests just that. BestEffort: none asks for anything."""
    asked, guaranteed = False, True
    for each in [*pod.spec.initContainers, *pod.spec.containers]:
        requests, limits = each.resources.requests, each.resources.limits
        for name in ("cpu", "memory"):
            limit, request = _amount(limits.get(name)), _amount(requests.get(name, limits.get(name)))
            asked = asked or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and request == limit
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _amount(text: str | None) -> int:
    return parse(text).nanos if text else 0
