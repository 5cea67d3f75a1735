"""What the supervisor has written down about itself and the components, and how to ask it to stop some.

`supervisor.json` lies in the cluster's run directory, is readable by everybody, and is believed only as far as the
processes in it are still the very same ones.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyctl.cluster.processes import Identity

STATE_NAME = "supervisor.json"
SOCKET_NAME = "supervisor.sock"


@dataclass(frozen=True, slots=True)
class Record:
    """One component as it was last seen. Times are unix seconds; `failures` counts ends without a steady run
    between."""

    process: Identity | None
    state: str
    started_at: float
    restarts: int
    last_exit: str
    fingerprint: str
    failures: int = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive


@dataclass(frozen=True, slots=True)
class State:
    """The supervisor and its components; all empty where none was started since the host booted."""

    supervisor: Identity | None = None
    version: str = ""
    components: dict[str, Record] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive

    @property
    def leftovers(self) -> list[Identity]:
        """The components that still run, with or without a supervisor."""
        return [each.process for each in self.components.values() if each.process is not None and each.alive]


def _identity(document: dict[str, Any] | None) -> Identity | None:
    return Identity(**document) if document else None


def read_state(run_directory: Path) -> State:
    """The state as last written; an empty one if there is none or it cannot be understood."""
    try:
        document = json.loads((run_directory / STATE_NAME).read_bytes())
        components = {
            name: Record(**{**record, "process": _identity(record["process"])})
            for name, record in document["components"].items()
        }
        return State(_identity(document["supervisor"]), document["version"], components)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def ask_to_stop(run_directory: Path, names: list[str], *, seconds: float) -> bool:
    """Have the supervisor stop components for good and wait until they are gone; False if it did not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(run_directory / SOCKET_NAME))
            connection.sendall(json.dumps({"stop": names}).encode() + b"\n")
            return bool(connection.recv(16))
        except OSError:
            return False
