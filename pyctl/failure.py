"""The one exception with which a verb gives up: a line for the person, and the exit code."""

from __future__ import annotations


class Failure(Exception):
    """`main` prints `error: <message>`, then `hint` (what to do next) on a line of its own, and exits with `code`."""

    def __init__(self, message: str, *, hint: str = "", code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
