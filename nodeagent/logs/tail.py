"""Reads a container's log as `kubectl logs` wants it: from a line or a time on, up to a size, and on as it grows.

Follows the file through rotation: when the path leads to another file, the rest of the old one comes first. A
follower ends when the container has ended and everything was read. Other work gets its turn between two blocks,
however fast the reader is.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO

from componentbase.clock import Clock
from nodeagent.logs.format import Line, is_before, parse

BLOCK_BYTES = 1 << 16
POLL_SECONDS = 0.1
# The record of a whole line up to its text: what nearly all are. A block of such is rendered in one go.
WHOLE_LINE = re.compile(rb"^([^ \n]+) std(?:out|err) F ", re.MULTILINE)


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
    text = _Text(options)
    async for records in _records(path, options, clock, ended):
        chunk = text.of(records)
        if left is not None:
            chunk = chunk[:left]
            left -= len(chunk)
        if chunk:
            yield chunk
        if left == 0:
            return


class _Text:
    """Makes text of records. Remembers whether a line is still open: its next part gets no time in front."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._line_open = False
        self._since = options.since

    def of(self, records: bytes) -> bytes:
        """records: whole ones; only the last of a log may have no newline."""
        if self._since and is_before(parse(records[records.rfind(b"\n", 0, -1) + 1 :]), self._since):
            return b""  # times only grow: what its last record is, the whole block is
        if not (self._since or self._options.stream or self._line_open):
            text, found = WHOLE_LINE.subn(rb"\1 " if self._options.timestamps else b"", records)
            if found == records.count(b"\n") and records.endswith(b"\n"):
                return text
        text = b"".join([self._render(parse(record)) for record in split_records(records)])
        self._since = 0.0  # from here on all is new enough
        return text

    def _render(self, line: Line) -> bytes:
        options = self._options
        if self._since and is_before(line, self._since):
            return b""
        if options.stream and line.stream != options.stream:
            return b""
        begins, self._line_open = not self._line_open, line.partial
        return f"{line.time} ".encode() + line.text if options.timestamps and line.time and begins else line.text


def split_records(records: bytes) -> list[bytes]:
    """Not `splitlines`: a text may have carriage returns."""
    *whole, rest = records.split(b"\n")
    return [*whole, rest] if rest else whole


async def _records(path: str, options: Options, clock: Clock, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    file = await _open(path, options, clock, ended)
    try:
        if options.tail_lines is not None:
            file.seek(tail_offset(file, options.tail_lines))
        rest = b""
        while True:
            # Asked before reading: what was written before the end is then read for sure.
            over = not options.follow or ended()
            while block := file.read(BLOCK_BYTES):
                whole, newline, block_rest = block.rpartition(b"\n")
                if newline:
                    yield rest + whole + newline
                    rest = block_rest
                else:
                    rest += block
                await asyncio.sleep(0)
            following = _rotated(path, file)
            if following is not None:
                file.close()
                file = following
                continue
            if over:
                if rest:
                    yield rest
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
            text = b"".join(parse(record).text for record in split_records(file.read()))
    except OSError:
        return ""
    return text[-limit_bytes:].decode(errors="replace")
