"""How a starting agent takes up containers that are there already, from the runtime or, failing that, from the API
status.

Pure. Restart counts never go back: they come from the attempt of the newest container or from the status.
"""

from __future__ import annotations

from apimachinery.kinds.pod import ContainerStatus, Pod
from apimachinery.times import parse_time
from nodeagent.podworker.messages import Exit, Found, FoundContainer, RemoveContainer
from nodeagent.podworker.record import ContainerRecord
from nodeagent.podworker.states import Trigger

UNKNOWN = "ContainerStatusUnknown"
UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"


def adopt(records: dict[str, ContainerRecord], found: Found, pod: Pod, now: float) -> list[RemoveContainer]:
    """Put every record where its newest container stands. Returns the removals of containers that were never
    started."""
    leftovers = []
    newest = {}
    for each in found.containers:
        if each.name in records:
            remember(records, each)
            newest[each.name] = each
    statuses = _statuses(pod)
    for record in records.values():
        container = newest.get(record.name)
        if container is None:
            if record.name in statuses:
                _from_status(record, statuses[record.name], now)
        elif container.created_only:
            leftovers.append(RemoveContainer(record.name, container.id))
            record.id = ""
        else:
            record.ever_started = True
            record.move(Trigger.FOUND_EXITED if container.exit else Trigger.FOUND_RUNNING)
    return leftovers


def recall(records: dict[str, ContainerRecord], pod: Pod, now: float) -> None:
    """Of a pod that is over: what the runtime has forgotten since, as after `down`. Its logs may still be there."""
    for name, status in _statuses(pod).items():
        if name in records and not records[name].id:
            _from_status(records[name], status, now)


def _statuses(pod: Pod) -> dict[str, ContainerStatus]:
    return {status.name: status for status in [*pod.status.initContainerStatuses, *pod.status.containerStatuses]}


def remember(records: dict[str, ContainerRecord], container: FoundContainer) -> None:
    """Note one container that the runtime has; called in the order of attempts."""
    record = records.get(container.name)
    if record is None:
        return
    if record.exit is not None:
        record.last_exit = record.exit
    record.exit = container.exit
    record.id, record.attempt = container.id, container.attempt
    record.started_at, record.image_ref = container.started_at, container.image_ref


def _from_status(record: ContainerRecord, status: ContainerStatus, now: float) -> None:
    """The runtime knows nothing of a container that the API has a status of: a reboot, or a runtime that was wiped."""
    record.attempt = status.restartCount
    record.image_ref = status.imageID
    record.last_exit = _exit(status.lastState.terminated) if status.lastState is not None else None
    state = status.state
    if state is None or (state.running is None and state.terminated is None):
        # Was about to be started again: the next creation must get a number of its own.
        record.attempt += record.last_exit is not None
        return
    record.id = _bare_id(status.containerID) or "unknown"
    if state.terminated is not None:
        record.exit = _exit(state.terminated)
    else:
        started_at = parse_time(state.running.startedAt) if state.running and state.running.startedAt else 0.0
        record.exit = Exit(record.id, 137, UNKNOWN, UNKNOWN_MESSAGE, started_at, now)
    record.move(Trigger.FOUND_EXITED)


def _exit(terminated: object) -> Exit | None:
    from apimachinery.kinds.pod import ContainerStateTerminated

    if not isinstance(terminated, ContainerStateTerminated):
        return None
    return Exit(
        id=_bare_id(terminated.containerID),
        exit_code=terminated.exitCode,
        reason=terminated.reason,
        message=terminated.message,
        started_at=parse_time(terminated.startedAt) if terminated.startedAt else 0.0,
        finished_at=parse_time(terminated.finishedAt) if terminated.finishedAt else 0.0,
        signal=terminated.signal or 0,
    )


def _bare_id(text: str) -> str:
    """`pyctl://abc` is abc."""
    return text.rpartition("//")[2]
