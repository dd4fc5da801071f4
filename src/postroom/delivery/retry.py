"""When a deferred recipient is tried again: a small value asked one question."""

from __future__ import annotations

from dataclasses import dataclass

from postroom.clock import Instant

_DOUBLINGS = 20  # enough to pass any cap: keeps the power small


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits with jitter. The defaults suit greylisting (RFC 6647 §4.5: minutes) and a full mailbox (hours)."""

    first_ms: int = 60_000
    most_ms: int = 3_600_000
    jitter: float = 0.2
    """A wait is up to this part shorter or longer, so that those deferred together do not come back together."""

    def due(self, attempt: int, now: Instant, chance: float) -> Instant:
        """When to try again after `attempt` (from 1) failed at `now`; `chance` from 0 to 1 picks the jitter."""
        wait = min(self.first_ms << min(attempt - 1, _DOUBLINGS), self.most_ms)
        return Instant(now + round(wait * (1 + self.jitter * (2 * chance - 1))))


THROTTLED = Backoff(first_ms=2_000, most_ms=60_000, jitter=0.5)
"""After "too fast": it says nothing about the recipient, and the bucket is slowed as well."""
