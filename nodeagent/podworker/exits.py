"""How a container ended, from what the runtime says of it and what it left behind: exit code, reason, termination
message."""

from __future__ import annotations

from typing import Protocol

from componentbase.clock import Clock
from nodeagent.cri import MESSAGE_POLICY, POD_UID
from nodeagent.logs.files import PodLogs
from nodeagent.podworker.messages import Exit
from nodeagent.volumes.interface import Volumes
from pb.cri.v1 import api_pb2 as cri

NANO = 1_000_000_000
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048


class Sources(Protocol):
    """Where to look."""

    @property
    def clock(self) -> Clock: ...

    @property
    def volumes(self) -> Volumes: ...

    @property
    def logs(self) -> PodLogs: ...


def exit_of(sources: Sources, status: cri.ContainerStatus) -> Exit:
    """The end of a container that has exited. Without a message of its own, one that failed may be told by the end of
    its log, if its policy says so."""
    labels, annotations, meta = status.labels, status.annotations, status.metadata
    reason = status.reason or ("Error" if status.exit_code else "Completed")
    message = sources.volumes.termination_message(labels.get(POD_UID, ""), meta.name, meta.attempt).decode(
        errors="replace"
    )
    if not message and status.exit_code and annotations.get(MESSAGE_POLICY) == "FallbackToLogsOnError":
        message = sources.logs.end_of(status.log_path, lines=FALLBACK_LINES, limit_bytes=FALLBACK_BYTES)
    finished_at = status.finished_at / NANO or sources.clock.now()
    started_at = status.started_at / NANO
    return Exit(status.id, status.exit_code, reason, message or status.message, started_at, finished_at)
