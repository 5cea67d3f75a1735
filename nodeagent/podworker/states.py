"""The life of a pod and of a container on a node, as two tables. A pair that is missing is a mistake and raises.

Owns the states, the triggers and nothing else: `machine.py` says which trigger a fact causes and what is to be done
then. The drawing in docs/ is made from these tables by `diagram`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class PodState(StrEnum):
    """Where the work for one pod stands."""

    NEW = "New"  # known, nothing made
    SETUP = "Setup"  # volumes and sandbox are being made
    RUNNING = "Running"  # containers are started and kept as the spec says
    STOPPING = "Stopping"  # containers and sandbox are being stopped
    STOPPED = "Stopped"  # nothing runs; logs and records are kept while the API object is there
    REMOVING = "Removing"  # records, logs and volumes are being removed
    DELETING = "Deleting"  # the API object is being deleted for good
    GONE = "Gone"


class PodTrigger(StrEnum):
    """What moves a pod."""

    BEGIN = "begin"
    WAS_TERMINAL = "was terminal"  # the API says Succeeded or Failed already
    SET_UP = "set up"  # volumes and sandbox are there
    SANDBOX_LOST = "sandbox lost"
    COMPLETED = "completed"  # no container will be restarted
    END = "end"  # deleted, past its deadline, refused
    NOTHING_RUNS = "nothing runs"
    REMOVE = "remove"
    REMOVED = "removed"
    API_DELETED = "API object gone"


POD_TRANSITIONS: dict[tuple[PodState, PodTrigger], PodState] = {
    (PodState.NEW, PodTrigger.BEGIN): PodState.SETUP,
    (PodState.NEW, PodTrigger.WAS_TERMINAL): PodState.STOPPED,
    (PodState.SETUP, PodTrigger.SET_UP): PodState.RUNNING,
    (PodState.SETUP, PodTrigger.COMPLETED): PodState.STOPPING,
    (PodState.SETUP, PodTrigger.END): PodState.STOPPING,
    (PodState.RUNNING, PodTrigger.SANDBOX_LOST): PodState.SETUP,
    (PodState.RUNNING, PodTrigger.COMPLETED): PodState.STOPPING,
    (PodState.RUNNING, PodTrigger.END): PodState.STOPPING,
    (PodState.STOPPING, PodTrigger.NOTHING_RUNS): PodState.STOPPED,
    (PodState.STOPPED, PodTrigger.REMOVE): PodState.REMOVING,
    (PodState.REMOVING, PodTrigger.REMOVED): PodState.DELETING,
    (PodState.DELETING, PodTrigger.API_DELETED): PodState.GONE,
}


class State(StrEnum):
    """Where the work for one container stands."""

    WAITING = "Waiting"  # its turn has not come
    PULLING = "Pulling"  # the image is being made sure of
    PULL_BACKOFF = "PullBackOff"
    STARTING = "Starting"  # create and start are under way
    START_BACKOFF = "StartBackOff"
    RUNNING = "Running"
    STOPPING = "Stopping"
    EXITED = "Exited"  # ended; what follows is decided at once
    CRASH_BACKOFF = "CrashBackOff"
    DONE = "Done"  # will not be started again


class Trigger(StrEnum):
    """What moves a container."""

    TURN = "its turn"
    IMAGE_READY = "image ready"
    IMAGE_FAILED = "image failed"
    STARTED = "started"
    START_FAILED = "start failed"
    EXITED = "exited"
    RETRY = "time to retry"
    RESTART = "restart"
    BACK_OFF = "back off"
    FINISH = "finish"  # the restart policy says: enough
    STOP = "stop"
    END = "end"  # the pod ends
    REWIND = "new sandbox"  # everything starts over
    FOUND_RUNNING = "found running"  # after a restart of the agent
    FOUND_EXITED = "found exited"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.WAITING, Trigger.TURN): State.PULLING,
    (State.WAITING, Trigger.FOUND_RUNNING): State.RUNNING,
    (State.WAITING, Trigger.FOUND_EXITED): State.EXITED,
    (State.WAITING, Trigger.END): State.DONE,
    (State.WAITING, Trigger.REWIND): State.WAITING,
    (State.PULLING, Trigger.IMAGE_READY): State.STARTING,
    (State.PULLING, Trigger.IMAGE_FAILED): State.PULL_BACKOFF,
    (State.PULLING, Trigger.END): State.DONE,
    (State.PULLING, Trigger.REWIND): State.WAITING,
    (State.PULL_BACKOFF, Trigger.RETRY): State.PULLING,
    (State.PULL_BACKOFF, Trigger.END): State.DONE,
    (State.PULL_BACKOFF, Trigger.REWIND): State.WAITING,
    (State.STARTING, Trigger.STARTED): State.RUNNING,
    (State.STARTING, Trigger.START_FAILED): State.START_BACKOFF,
    (State.STARTING, Trigger.EXITED): State.EXITED,
    (State.STARTING, Trigger.REWIND): State.WAITING,
    (State.START_BACKOFF, Trigger.RETRY): State.PULLING,
    (State.START_BACKOFF, Trigger.END): State.DONE,
    (State.START_BACKOFF, Trigger.REWIND): State.WAITING,
    (State.RUNNING, Trigger.EXITED): State.EXITED,
    (State.RUNNING, Trigger.STOP): State.STOPPING,
    (State.STOPPING, Trigger.STOP): State.STOPPING,
    (State.STOPPING, Trigger.EXITED): State.EXITED,
    (State.EXITED, Trigger.RESTART): State.PULLING,
    (State.EXITED, Trigger.BACK_OFF): State.CRASH_BACKOFF,
    (State.EXITED, Trigger.FINISH): State.DONE,
    (State.EXITED, Trigger.END): State.DONE,
    (State.EXITED, Trigger.REWIND): State.WAITING,
    (State.CRASH_BACKOFF, Trigger.RETRY): State.PULLING,
    (State.CRASH_BACKOFF, Trigger.END): State.DONE,
    (State.CRASH_BACKOFF, Trigger.REWIND): State.WAITING,
    (State.DONE, Trigger.END): State.DONE,
    (State.DONE, Trigger.REWIND): State.WAITING,
}

Table = Mapping[tuple[Any, Any], StrEnum]

# States in which a process of the container may be there.
LIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})


class Impossible(Exception):
    """The tables have no answer: a mistake in the machine, never the user's."""


def next_pod_state(state: PodState, trigger: PodTrigger) -> PodState:
    """Where the trigger leads. Raises Impossible for a missing pair."""
    try:
        return POD_TRANSITIONS[state, trigger]
    except KeyError:
        raise Impossible(f"pod state {state!s} has no answer to {trigger!s}") from None


def next_state(state: State, trigger: Trigger) -> State:
    """Where the trigger leads. Raises Impossible for a missing pair."""
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise Impossible(f"container state {state!s} has no answer to {trigger!s}") from None


def diagram(table: Table) -> str:
    """The table as a Mermaid state diagram; triggers between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, trigger), target in table.items():
        arrows.setdefault((str(state), str(target)), []).append(str(trigger))
    first = str(next(iter(table))[0])
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {state} --> {target}: {' / '.join(names)}" for (state, target), names in arrows.items()]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Both drawings as they stand in docs/pod-life.md."""
    drawings = (("A pod", POD_TRANSITIONS), ("A container", TRANSITIONS))
    return "".join(f"\n## {title}\n\n```mermaid\n{diagram(table)}```\n" for title, table in drawings)


if __name__ == "__main__":
    print(page(), end="")
