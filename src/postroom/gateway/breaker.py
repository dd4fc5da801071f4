"""When what is behind the door is sick, calls are answered at once instead of piling up in front of it.

    closed ──(so many temporary failures in a row, none older than the window)──→ open ──(wait)──→ one probe
      ↑                                                                           ↑                  │
      └────────────────────────────(it was answered)──────────────────────────────┼──────────────────┤
                                                                                  └─(failed: twice the wait)

Each service has its own (`Breakers.of`), so that one whose neighbour is away does not shut the others. A full disk opens none: it
fails at once by itself, and reading still works. What was refused on its own merits, or for want of room at the door, says
nothing about what is behind. Only the event loop touches them.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from postroom.clock import Clock
from postroom.errors import StorageFull, Temporary
from postroom.gateway.errors import CircuitOpen, Overloaded


class ServiceHealth(Enum):
    """What a call says about what is behind the door."""

    WELL = "well"
    SICK = "sick"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Seconds and counts."""

    failures: int = 5
    window_s: float = 10.0
    wait_s: float = 2.0
    longest_s: float = 30.0
    probe_s: float = 30.0
    """A probe that is silent for so long has failed."""


class CircuitBreaker:
    """One service's."""

    def __init__(self, options: BreakerOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=options.failures)
        self._wait = options.wait_s
        self._shut_until: float | None = None
        """None: closed. Past: a probe may go."""

    def enter(self) -> bool:
        """Let one call pass, or `CircuitOpen`; whether it is the probe."""
        if self._shut_until is None:
            return False
        now = self._clock.monotonic()
        if now < self._shut_until:
            raise CircuitOpen(max(1, math.ceil(self._shut_until - now)))
        self._shut_until = now + self._options.probe_s
        return True

    def leave(self, outcome: ServiceHealth, *, probe: bool) -> None:
        """How the call ended. Calls that were on their way when it opened can only close it."""
        if outcome is ServiceHealth.WELL:
            self._failures.clear()
            self._shut_until, self._wait = None, self._options.wait_s
        elif probe:
            self._probed(outcome, self._clock.monotonic())
        elif outcome is ServiceHealth.SICK and self._shut_until is None:
            self._failed(self._clock.monotonic())

    def _probed(self, outcome: ServiceHealth, now: float) -> None:
        if outcome is ServiceHealth.SICK:
            self._wait = min(self._wait * 2, self._options.longest_s)
            self._shut_until = now + self._wait
        else:  # it told nothing: let another go
            self._shut_until = now

    def _failed(self, now: float) -> None:
        self._failures.append(now)
        if len(self._failures) == self._options.failures and now - self._failures[0] <= self._options.window_s:
            self._shut_until = now + self._wait


class CircuitBreakers:
    """One a service."""

    def __init__(self, options: BreakerOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._breakers: dict[str, CircuitBreaker] = {}

    def of(self, service: str) -> CircuitBreaker:
        """The one of a service: the first tag of its routes, so there are few."""
        if service not in self._breakers:
            self._breakers[service] = CircuitBreaker(self._options, self._clock)
        return self._breakers[service]


def health_from_response(status: int, error: Exception | None) -> ServiceHealth:
    """What an answer says."""
    if isinstance(error, Temporary) and not isinstance(error, StorageFull | Overloaded):
        return ServiceHealth.SICK
    return ServiceHealth.WELL if status < 400 or status in {404, 409, 412} else ServiceHealth.NOTHING
