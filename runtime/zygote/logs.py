"""Container logs in the CRI format: `TIME STREAM TAG CONTENT`, one record a line.

TAG is F for a full line and P for a piece of one that is longer than 16 KiB. Content is the program's own bytes.
`records` is pure; `LogFile` writes them and can be given a new descriptor when the file was rotated.
"""

from __future__ import annotations

import os
import time

MAX_LINE = 16 * 1024


class LineSplitter:
    """Cuts one stream into records. Keeps the unfinished last line."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._rest = b""

    def records(self, data: bytes, now_ns: int, *, end: bool = False) -> bytes:
        """The log records that `data` completes; `end` flushes what has no newline yet."""
        data = self._rest + data
        prefix = timestamp(now_ns) + b" " + self._stream
        lines = data.split(b"\n")
        self._rest = lines.pop()
        out: list[bytes] = []
        for line in lines:
            while len(line) > MAX_LINE:
                out.append(prefix + b" P " + line[:MAX_LINE])
                line = line[MAX_LINE:]
            out.append(prefix + b" F " + line)
        while len(self._rest) > MAX_LINE:
            out.append(prefix + b" P " + self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        if end and self._rest:
            out.append(prefix + b" F " + self._rest)
            self._rest = b""
        return b"\n".join(out) + b"\n" if out else b""


_second = -1
_second_text = b""


def timestamp(now_ns: int) -> bytes:
    """RFC 3339 in UTC with nine digits, as kubelet parses it."""
    global _second, _second_text
    second, nanos = divmod(now_ns, 1_000_000_000)
    if second != _second:
        t = time.gmtime(second)
        _second_text = b"%04d-%02d-%02dT%02d:%02d:%02d" % (t[0], t[1], t[2], t[3], t[4], t[5])
        _second = second
    return b"%s.%09dZ" % (_second_text, nanos)


class LogFile:
    """The log of one container, -1 for none. A full disk loses lines, never the container."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._streams = {name: LineSplitter(name) for name in (b"stdout", b"stderr")}

    def write(self, stream: bytes, data: bytes, *, end: bool = False) -> None:
        records = self._streams[stream].records(data, time.time_ns(), end=end)
        while records and self._fd >= 0:
            try:
                written = os.write(self._fd, records)
            except OSError:
                return
            records = records[written:]

    def reopen(self, fd: int) -> None:
        self.close()
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
