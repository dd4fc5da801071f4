"""Time and randomness, injectable so that no test waits and none is left to chance.

Instants are whole milliseconds since 1970 UTC (`int`) wherever they are stored or compared.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import NewType, Protocol

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""


def rfc3339(instant: Instant | None) -> str | None:
    """As programs read it (RFC 3339): UTC, to the millisecond. None stays None."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A lease must not seem younger to its holder because the machine slept; elsewhere than on Linux both clocks count sleep."""


class Clock(Protocol):
    """Where the time, pauses and random bytes come from."""

    def now(self) -> Instant:
        """The wall clock, in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards and go on while the machine sleeps; its zero means nothing."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread; zero or less returns at once."""
        ...

    def random(self, size: int) -> bytes:
        """`size` unpredictable bytes."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Instant:
        return Instant(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        return time.clock_gettime(_STEADY)

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)

    def random(self, size: int) -> bytes:
        return os.urandom(size)
