"""What goes into a pod's machine (facts) and what comes out of it (instructions).

Plain records without behaviour. Times are Unix seconds. A fact about a container carries the attempt or the id that
it is about, so that the machine can drop an answer that nobody waits for any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from apimachinery.kinds.pod import Pod


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. `message` is its termination message. `started_at` is 0 when it never ran."""

    id: str
    exit_code: int
    reason: str
    message: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    signal: int = 0


@dataclass(frozen=True, slots=True)
class FoundContainer:
    """A container that the runtime has. Running when `exit` is None, unless it was only `created`."""

    name: str
    id: str
    attempt: int
    started_at: float = 0.0
    image_ref: str = ""
    created_only: bool = False
    exit: Exit | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a starting agent finds of a pod in the runtime. `containers` in the order of their attempts."""

    sandbox_id: str = ""
    sandbox_attempt: int = 0
    sandbox_ready: bool = False
    ips: tuple[str, ...] = ()
    containers: tuple[FoundContainer, ...] = ()


# Facts.


@dataclass(frozen=True, slots=True)
class Assigned:
    """The pod belongs to this node. `found`: what is there of it already."""

    found: Found | None = None


@dataclass(frozen=True, slots=True)
class Updated:
    """The API object changed, possibly to one that is to be deleted."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Vanished:
    """The API object is gone."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The node will not run the pod."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class VolumesReady:
    pass


@dataclass(frozen=True, slots=True)
class VolumesFailed:
    """permanent: trying again cannot help."""

    message: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class SandboxReady:
    attempt: int
    id: str
    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SandboxFailed:
    """quiet: the runtime is away, which is no failure of this pod."""

    attempt: int
    message: str
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class SandboxLost:
    id: str


@dataclass(frozen=True, slots=True)
class SandboxStopped:
    id: str


@dataclass(frozen=True, slots=True)
class ImageReady:
    container: str
    image_ref: str


@dataclass(frozen=True, slots=True)
class ImageFailed:
    container: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ImagesChanged:
    """Images have come to the node, or gone, by other ways than this pod's."""


@dataclass(frozen=True, slots=True)
class ContainerCreated:
    container: str
    attempt: int
    id: str


@dataclass(frozen=True, slots=True)
class ContainerStarted:
    container: str
    attempt: int
    id: str
    started_at: float
    image_ref: str = ""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The container could not be made or started, and there is no exit to look at."""

    container: str
    attempt: int
    reason: str
    message: str
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class ContainerExited:
    """failed_start: the command could not be run at all; the reason to show while it waits to be tried again."""

    container: str
    exit: Exit
    failed_start: str = ""


@dataclass(frozen=True, slots=True)
class TimerFired:
    name: str


@dataclass(frozen=True, slots=True)
class Removed:
    """Nothing of the pod is left on the node."""


@dataclass(frozen=True, slots=True)
class ApiDeleted:
    """The API server has deleted the object, or had."""


Fact = (
    Assigned | Updated | Vanished | Refused | VolumesReady | VolumesFailed | SandboxReady | SandboxFailed
    | SandboxLost | SandboxStopped | ImageReady | ImageFailed | ImagesChanged | ContainerCreated
    | ContainerStarted | StartFailed | ContainerExited | TimerFired | Removed | ApiDeleted
)  # fmt: skip


# Instructions.


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    pass


@dataclass(frozen=True, slots=True)
class TeardownVolumes:
    pass


@dataclass(frozen=True, slots=True)
class RunSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class StopSandbox:
    id: str


@dataclass(frozen=True, slots=True)
class EnsureImage:
    container: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    container: str
    attempt: int
    sandbox_id: str
    image_ref: str


@dataclass(frozen=True, slots=True)
class StopContainer:
    container: str
    id: str
    grace_seconds: int


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """An old attempt is of no more use: its record and its log go."""

    container: str
    id: str


@dataclass(frozen=True, slots=True)
class RemovePod:
    """Remove all that the node has of the pod: sandboxes, containers, logs, volumes."""


@dataclass(frozen=True, slots=True)
class DeleteFromApi:
    """After the last status is written, delete the object with grace 0 and its uid as precondition."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire TimerFired(name) at Unix time `at`; replaces a timer of the same name."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Record:
    """An event for the user. type: Normal or Warning; container: whom it is about, if one."""

    type: str
    reason: str
    message: str
    container: str = ""


Instruction = (
    PrepareVolumes | TeardownVolumes | RunSandbox | StopSandbox | EnsureImage | StartContainer | StopContainer
    | RemoveContainer | RemovePod | DeleteFromApi | SetTimer | Record
)  # fmt: skip


@dataclass(slots=True)
class Step:
    """The fact that is being worked on: when, and the instructions that it has led to so far."""

    now: float = 0.0
    instructions: list[Instruction] = field(default_factory=list)

    def begin(self, now: float) -> None:
        self.now, self.instructions = now, []

    def add(self, *instructions: Instruction) -> None:
        self.instructions += instructions

    def warn(self, reason: str, message: str, container: str = "") -> None:
        self.instructions.append(Record("Warning", reason, message, container))

    def tell(self, reason: str, message: str, container: str = "") -> None:
        self.instructions.append(Record("Normal", reason, message, container))
