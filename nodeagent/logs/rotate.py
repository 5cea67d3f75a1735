"""Keeps the logs of running containers small: a log above the limit is put aside and the runtime begins a new one.

The parts are named `<attempt>.log.<time>`; of those the newest few are kept. The rules are the kubelet's defaults: 10
MiB, five files.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime

from componentbase.clock import Clock
from nodeagent.cri import CRI, CRIError

log = logging.getLogger(__name__)

LIMIT_BYTES = 10 << 20
FILES = 5


async def rotate(
    path: str, container_id: str, runtime: CRI, clock: Clock, *, limit_bytes: int = LIMIT_BYTES, files: int = FILES
) -> bool:
    """Rotate the log if it has grown above the limit; True when it was. A runtime that cannot begin a new one keeps
    the old."""
    if _size(path) < limit_bytes:
        return False
    stamp = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%d-%H%M%S.%f")
    aside = f"{path}.{stamp}"
    try:
        _drop_old(path, files - 2)
        os.rename(path, aside)
        await runtime.reopen_container_log(container_id)
    except (OSError, CRIError) as error:
        log.warning("log %s cannot be rotated: %s", path, error)
        _put_back(aside, path)
        return False
    return True


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _put_back(aside: str, path: str) -> None:
    if os.path.exists(aside) and not os.path.exists(path):
        os.rename(aside, path)


def _drop_old(path: str, keep: int) -> None:
    directory, name = os.path.split(path)
    parts = sorted(each for each in os.listdir(directory) if each.startswith(f"{name}."))
    for each in parts[: max(len(parts) - keep, 0)]:
        os.unlink(os.path.join(directory, each))
