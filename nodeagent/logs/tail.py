"""Reads a container's log as `kubectl logs` wants it: from a line or a time on, up to a size, and on as it grows.

Follows the file through rotation: when the path leads to another file, the rest of the old one comes first. A
follower ends when the container has ended and everything was read.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO

from componentbase.clock import Clock
from nodeagent.logs.format import Line, is_before, parse

BLOCK_BYTES = 1 << 16
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What the reader asked for. since: Unix time; stream: stdout, stderr or "" for both."""

    follow: bool = False
    tail_lines: int | None = None
    since: float = 0.0
    timestamps: bool = False
    limit_bytes: int | None = None
    stream: str = ""


async def read_log(path: str, options: Options, clock: Clock, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's text, chunk by chunk. Raises FileNotFoundError before the first chunk, unless it follows a container
    that has not ended: then the file may still come."""
    left = options.limit_bytes
    async for records in _records(path, options, clock, ended):
        chunk = b"".join(_render(parse(record), options) for record in records)
        if left is not None:
            chunk = chunk[:left]
            left -= len(chunk)
        if chunk:
            yield chunk
        if left == 0:
            return


def _render(line: Line, options: Options) -> bytes:
    if options.since and is_before(line, options.since):
        return b""
    if options.stream and line.stream != options.stream:
        return b""
    return f"{line.time} ".encode() + line.text if options.timestamps and line.time else line.text


async def _records(path: str, options: Options, clock: Clock, ended: Callable[[], bool]) -> AsyncIterator[list[bytes]]:
    file = await _open(path, options, clock, ended)
    try:
        if options.tail_lines is not None:
            file.seek(tail_offset(file, options.tail_lines))
        rest = b""
        while True:
            # Asked before reading: what was written before the end is then read for sure.
            over = not options.follow or ended()
            while block := file.read(BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                if lines:
                    yield [line + b"\n" for line in lines]
            following = _rotated(path, file)
            if following is not None:
                file.close()
                file = following
                continue
            if over:
                if rest:
                    yield [rest]
                return
            await clock.sleep(POLL_SECONDS)
    finally:
        file.close()


async def _open(path: str, options: Options, clock: Clock, ended: Callable[[], bool]) -> BinaryIO:
    while True:
        over = not options.follow or ended()
        try:
            return open(path, "rb")  # noqa: ASYNC230  the caller closes it; a local file is not waited for
        except FileNotFoundError:
            if over:
                raise
        await clock.sleep(POLL_SECONDS)


def _rotated(path: str, file: BinaryIO) -> BinaryIO | None:
    """The new file, when the path leads to another one than `file` by now."""
    try:
        mine, there = os.fstat(file.fileno()), os.stat(path)
    except FileNotFoundError:
        return None
    if (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino):
        return None
    # What was written to the old file after our last read comes first.
    return None if file.peek(1) else open(path, "rb")  # type: ignore[attr-defined]


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines begin."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    position, wanted = end, lines + 1
    while position > 0:
        start = max(position - BLOCK_BYTES, 0)
        file.seek(start)
        block = file.read(position - start)
        if position == end and not block.endswith(b"\n"):
            wanted -= 1  # the last line has no newline yet
        count = block.count(b"\n")
        if count >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        wanted -= count
        position = start
    return 0


def last_lines(path: str, lines: int, limit_bytes: int) -> str:
    """The end of a log as text: at most so many lines and bytes. "" when there is no log."""
    try:
        with open(path, "rb") as file:
            file.seek(tail_offset(file, lines))
            text = b"".join(parse(record).text for record in file.read().splitlines(keepends=True))
    except OSError:
        return ""
    return text[-limit_bytes:].decode(errors="replace")
