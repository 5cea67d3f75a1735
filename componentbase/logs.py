"""Logging for every component: one line per record on stderr, UTC, the component's name in it."""

from __future__ import annotations

import logging
import sys
import time

LEVELS = ("debug", "info", "warning", "error")


class _Formatter(logging.Formatter):
    converter = time.gmtime  # type: ignore[assignment]

    def format(self, record: logging.LogRecord) -> str:
        # One record, one line: a traceback is indented behind its message, so that grep and tail stay useful.
        return super().format(record).replace("\n", "\n    ")


def setup(component: str, level: str = "info") -> None:
    """Send the records of this process to stderr as `<time> <level> <component> <logger>: <message>`.

    Raises ValueError for a level that is not one of LEVELS.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: must be one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {component} %(name)s: %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
