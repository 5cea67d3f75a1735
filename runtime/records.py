"""What the runtime knows of sandboxes and containers, and its form on disk.

Below `<root>/sandboxes/<id>/`: `config.pb` (the request), `record.json` (ours), the pod's files, the shim's socket
and log, and `containers/<id>/` with `config.pb`, `record.json` and the shim's `state.json`. A sandbox directory whose
record cannot be read is a leftover of a creation that was cut off.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pb.cri.v1 import api_pb2 as cri

VERSION = 1


class SandboxState(StrEnum):
    CREATING = "creating"
    READY = "ready"
    NOT_READY = "not-ready"


@dataclass(kw_only=True)
class SandboxRecord:
    """`unshare` lists the namespaces of its own; `cgroup` is the pod's group. Times in nanoseconds since 1970."""

    id: str
    created_at: int
    handler: str = ""
    state: SandboxState = SandboxState.CREATING
    cgroup: str = ""
    unshare: list[str] = field(default_factory=list)
    shim_pid: int = 0
    address: str = ""
    link: str = ""


@dataclass(kw_only=True)
class ContainerRecord:
    """`image_ref` is what the request asked for, `image_id` what it resolved to; the rest is what execs need again."""

    id: str
    sandbox: str
    created_at: int
    image_id: str = ""
    image_ref: str = ""
    cgroup: str = ""
    log_path: str = ""
    stop_signal: str = ""
    args: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    cwd: str = "/"
    capabilities: int = 0


Record = TypeVar("Record", SandboxRecord, ContainerRecord)


def save(directory: Path, record: SandboxRecord | ContainerRecord) -> None:
    """Replace `record.json` in one step; it must survive our death, not the machine's."""
    temporary = directory / "record.json.new"
    temporary.write_text(json.dumps({"version": VERSION, **asdict(record)}))
    os.replace(temporary, directory / "record.json")


def load(directory: Path, kind: type[Record]) -> Record | None:
    """The record of a directory, None if it has none that can be read."""
    try:
        data = json.loads((directory / "record.json").read_text())
        if data.pop("version") != VERSION:
            return None
        record = kind(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(record, SandboxRecord):
        record.state = SandboxState(record.state)
    return record


def load_state(directory: Path) -> dict[str, Any] | None:
    """What the shim last wrote of a container."""
    try:
        state = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def load_sandbox_config(directory: Path) -> cri.PodSandboxConfig:
    return cri.PodSandboxConfig.FromString((directory / "config.pb").read_bytes())


def load_container_config(directory: Path) -> cri.ContainerConfig:
    return cri.ContainerConfig.FromString((directory / "config.pb").read_bytes())
