"""A clock that moves only when told: sleeping moves it too, and its randomness repeats."""

from __future__ import annotations

import random
import threading

from postroom.clock import Instant

START = Instant(1_790_000_000_000)
"""2026-09-21T14:13:20Z: far from midnight, so that an advance of hours stays within the day."""


class ManualClock:
    """A `postroom.clock.Clock` for tests; safe to share between threads."""

    def __init__(self, now: int = START, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._start = now
        self._passed = 0.0
        self._random = random.Random(seed)
        self.slept: list[float] = []
        """Every pause asked for, in order."""

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if seconds < 0:
            raise ValueError("time only moves forward")
        with self._lock:
            self._passed += seconds

    def now(self) -> Instant:
        with self._lock:
            return Instant(self._start + round(self._passed * 1_000))

    def monotonic(self) -> float:
        with self._lock:
            return self._passed

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
        self.advance(max(0.0, seconds))

    def random(self, size: int) -> bytes:
        with self._lock:
            return self._random.randbytes(size)
