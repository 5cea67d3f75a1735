"""Who still uses which layers: a file for each owner, `<home>/<owner>`, with a chain id on each line.

Files rather than records in the index, because a container is made in milliseconds and an index is fsync'ed. A pin need
survive `kill -9` of the runtime, while its container lives on; it need not survive a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runtime.images.errors import Conflict


class Pins:
    """The pins below `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, owner: str, chains: Sequence[str]) -> None:
        if not owner or "/" in owner or owner.startswith("."):
            raise Conflict(f"{owner!r} cannot own a pin: it must be a plain name")
        temporary = self._home / f".{owner}"
        temporary.write_text("".join(f"{chain}\n" for chain in chains))
        os.rename(temporary, self._home / owner)

    def remove(self, owner: str) -> None:
        (self._home / owner).unlink(missing_ok=True)

    def retain(self, owners: set[str]) -> None:
        for name in os.listdir(self._home):
            if name not in owners:
                (self._home / name).unlink(missing_ok=True)

    def chains(self) -> set[str]:
        """All chain ids that somebody uses."""
        found: set[str] = set()
        for name in os.listdir(self._home):
            try:
                found.update((self._home / name).read_text().split())
            except FileNotFoundError:
                continue  # unpinned just now
        return found
