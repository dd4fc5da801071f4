"""A circuit breaker for one provider: after a few failures in a row it stops tries, then allows probes at growing intervals.

    closed ──(threshold failures in a row, or one that only a person can fix)──→ open
    open ──(its wait is over)──→ half open: one probe at a time ──→ closed, or open again for longer

Pure: the caller passes the time and the random number. No message fails because of it: messages wait in the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """Whether the provider is believed to work."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to stop, and how long to wait."""

    threshold: int = 5
    """Failures in a row that open it."""
    first_wait_s: float = 1.0
    """Doubled with each further failure."""
    longest_wait_s: float = 60.0
    stubborn_wait_s: float = 15.0
    """The shortest wait after a failure that only a person can fix: repeated wrong passwords lock accounts."""


class Breaker:
    """One breaker. `now`: monotonic seconds. `chance`: a random number in [0, 1) that spreads the waits."""

    __slots__ = ("_failures", "_opened", "_policy", "_retry_at", "reason", "state")

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self._failures = 0
        self._opened = 0
        self._retry_at = 0.0
        self.state = BreakerState.CLOSED
        self.reason = ""
        """The last failure in words; empty once something worked."""

    def allows(self, now: float) -> bool:
        """Whether a try may be made now. While half open, the caller must keep to one at a time."""
        if self.state is BreakerState.OPEN and now >= self._retry_at:
            self.state = BreakerState.HALF_OPEN
        return self.state is not BreakerState.OPEN

    def retry_in(self, now: float) -> float:
        """Seconds until the next try, 0 unless open."""
        return max(0.0, self._retry_at - now) if self.state is BreakerState.OPEN else 0.0

    def succeeded(self) -> None:
        """The provider answered a message: close."""
        self.state = BreakerState.CLOSED
        self._failures = self._opened = 0
        self.reason = ""

    def failed(self, now: float, reason: str, *, chance: float, stubborn: bool = False) -> None:
        """A try failed. `stubborn`: only a person can fix it, so open at once and wait longer."""
        self.reason = reason
        self._failures += 1
        if self.state is BreakerState.CLOSED and self._failures < self._policy.threshold and not stubborn:
            return
        self.state = BreakerState.OPEN
        wait = min(self._policy.longest_wait_s, self._policy.first_wait_s * 2.0 ** min(self._opened, 30))
        if stubborn:
            wait = max(wait, self._policy.stubborn_wait_s)
        self._opened += 1
        self._retry_at = now + wait * (0.5 + chance / 2)
