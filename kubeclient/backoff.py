"""How long to wait before the next try: doubling delays with jitter from a seeded generator.

Knows no clock: it says seconds, the caller sleeps. The same seed gives the same delays.
"""

from __future__ import annotations

import random
from collections.abc import Hashable


class Backoff:
    """Delays for one thing that is tried again: initial, initial*factor, ... at most cap, each times 1..1+jitter."""

    def __init__(
        self,
        initial_seconds: float,
        cap_seconds: float,
        *,
        factor: float = 2.0,
        jitter: float = 0.5,
        seed: int | str = 0,
    ) -> None:
        if initial_seconds <= 0 or cap_seconds < initial_seconds or factor < 1 or jitter < 0:
            raise ValueError(
                f"backoff from {initial_seconds} to {cap_seconds} by {factor} with jitter {jitter} is none"
            )
        self._initial = initial_seconds
        self._cap = cap_seconds
        self._factor = factor
        self._jitter = jitter
        # A string seeds by its digest, an object would seed by hash(), which differs between processes.
        self._random = random.Random(str(seed))
        self._next = initial_seconds

    def next_seconds(self) -> float:
        """The delay before the next try; the one after that is longer."""
        delay = self._next
        self._next = min(self._cap, self._next * self._factor)
        return min(self._cap, delay) * (1.0 + self._jitter * self._random.random())

    def reset(self) -> None:
        """It worked: start over with the initial delay."""
        self._next = self._initial


class KeyedBackoff:
    """Doubling delays for many keys, as client-go's item rate limiter: no jitter, `forget` starts a key over."""

    def __init__(self, initial_seconds: float, cap_seconds: float, *, factor: float = 2.0) -> None:
        self._initial = initial_seconds
        self._cap = cap_seconds
        self._factor = factor
        self._failures: dict[Hashable, int] = {}

    def next_seconds(self, key: Hashable) -> float:
        """Count one more failure of `key` and say how long it should wait."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # The exponent is bounded so that a key that fails for weeks does not overflow a float.
        return min(self._cap, self._initial * self._factor ** min(failures, 64))

    def failures(self, key: Hashable) -> int:
        return self._failures.get(key, 0)

    def forget(self, key: Hashable) -> None:
        self._failures.pop(key, None)
