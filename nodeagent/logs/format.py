"""The CRI's log format: `2025-01-01T00:00:00.000000000Z stdout F text`, one record a line; P marks a part of a longer
line.

Pure. What does not parse is handed through as it is, so that nothing a container wrote is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from apimachinery.times import parse_time


@dataclass(frozen=True, slots=True)
class Line:
    """One record. `text` ends with a newline unless it is `partial`."""

    time: str
    stream: str
    partial: bool
    text: bytes


def parse(record: bytes) -> Line:
    """A record, without or with its newline."""
    parts = record.rstrip(b"\n").split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return Line("", "stdout", False, record if record.endswith(b"\n") else record + b"\n")
    partial = parts[2].split(b":")[0] == b"P"
    text = parts[3] if len(parts) == 4 else b""
    return Line(parts[0].decode("ascii", "replace"), parts[1].decode(), partial, text if partial else text + b"\n")


def is_before(line: Line, since: float) -> bool:
    """Was it written before Unix time `since`? Never, when its time cannot be read."""
    try:
        return bool(line.time) and parse_time(line.time) < since
    except ValueError:
        return False
