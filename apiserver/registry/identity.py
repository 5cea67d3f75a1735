"""Uids and generated names, all from one seed, so that a run can be repeated."""

from __future__ import annotations

import random
import uuid

# No vowels and no look-alikes, so that no words and no riddles appear (Kubernetes' own alphabet).
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5
LONGEST_PREFIX = 63 - SUFFIX_LENGTH


class Identities:
    """A stream of uids and name suffixes. Not for secrets."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(f"apiserver identities {seed}")

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def name(self, prefix: str) -> str:
        """`generateName` plus five characters."""
        return prefix[:LONGEST_PREFIX] + "".join(self._random.choices(ALPHABET, k=SUFFIX_LENGTH))

    def between(self, low: float, high: float) -> float:
        """For spreading things over time."""
        return self._random.uniform(low, high)
