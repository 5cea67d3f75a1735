"""What the machine remembers of one container, and how long it waits before it tries again.

Pure: the delays are computed from the times that are passed in. The rules are the kubelet's: a first crash restarts at
once, then 10 s, doubling to 300 s; a container that ran for ten minutes begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from apimachinery.kinds.pod import Container
from nodeagent.podworker.messages import Exit
from nodeagent.podworker.states import LIVE, State, Trigger, next_state
from nodeagent.status import ContainerView

BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 300.0
FORGET_SECONDS = 600.0


class Role(Enum):
    """What a container is in its pod."""

    INIT = "init"  # runs once, before the next
    SIDECAR = "sidecar"  # an init container that keeps running
    MAIN = "main"


@dataclass(slots=True)
class Delay:
    """A delay that doubles from `first` to `most` seconds and is forgotten after `FORGET_SECONDS` of peace."""

    first: float = BACKOFF_SECONDS
    most: float = MAX_BACKOFF_SECONDS
    seconds: float = 0.0
    raised_at: float = 0.0

    def increase(self, now: float) -> float:
        """The next delay in seconds."""
        self.seconds = min(max(self.seconds * 2, self.first), self.most)
        self.raised_at = now
        return self.seconds

    def settle(self, at: float) -> float:
        """The delay that holds for a failure at `at`: zero when the last one is long ago."""
        if at - self.raised_at > FORGET_SECONDS:
            self.seconds = 0.0
        return self.seconds


@dataclass(slots=True)
class ContainerRecord:
    """One container of the pod. `attempt` numbers its creations from 0 and is the restart count."""

    spec: Container
    role: Role
    state: State = State.WAITING
    attempt: int = 0
    id: str = ""
    image_ref: str = ""
    started_at: float = 0.0
    exit: Exit | None = None  # of the current attempt
    last_exit: Exit | None = None  # of the one before
    ever_started: bool = False  # in this sandbox
    early_exit: Exit | None = None  # heard of before the start was
    respawn: bool = False  # stopped by us to be started with a new image
    waiting_reason: str = ""
    waiting_message: str = ""
    crash: Delay = field(default_factory=Delay)
    pull: Delay = field(default_factory=Delay)
    retry: Delay = field(default_factory=lambda: Delay(first=1.0, most=10.0))

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def live(self) -> bool:
        """May there be a process of it?"""
        return self.state in LIVE

    @property
    def failed_for_good(self) -> bool:
        """Done, and not with exit code 0."""
        return self.state is State.DONE and (self.exit is None or self.exit.exit_code != 0)

    def move(self, trigger: Trigger) -> None:
        self.state = next_state(self.state, trigger)

    def wait(self, reason: str, message: str) -> None:
        """What its status says while it waits."""
        self.waiting_reason, self.waiting_message = reason, message

    def next_attempt(self) -> int:
        """The number for the creation that is about to be asked for."""
        if self.id:
            self.attempt += 1
            if self.exit is not None:
                self.last_exit, self.exit = self.exit, None
            self.id = ""
        return self.attempt

    def restarts_after(self, restart_policy: str) -> bool:
        """Does the policy want it started again after the exit it has?"""
        if self.role is Role.SIDECAR or self.respawn:
            return True
        failed = self.exit is None or self.exit.exit_code != 0
        if self.role is Role.INIT:
            return failed and restart_policy != "Never"
        return restart_policy == "Always" or (restart_policy == "OnFailure" and failed)

    def view(self) -> ContainerView:
        """What the status is made of."""
        shows_exit = self.exit is not None and not self.waiting_reason
        if self.state in (State.RUNNING, State.STOPPING):
            current = "running"
        elif shows_exit:
            current = "terminated"
        else:
            current = "waiting"
        return ContainerView(
            name=self.name,
            image=self.spec.image,
            current=current,
            id=self.id or (self.exit.id if shows_exit and self.exit else ""),
            image_ref=self.image_ref,
            restarts=self.attempt,
            started_at=self.started_at,
            started=self.state is State.RUNNING or self.state is State.STOPPING,
            exit=self.exit if current == "terminated" else None,
            last_exit=self.exit if current == "waiting" and self.exit is not None else self.last_exit,
            waiting_reason=self.waiting_reason,
            waiting_message=self.waiting_message,
        )


def duration(seconds: float) -> str:
    """Seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`."""
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
