"""Timers: a body put on a queue at an instant, durably.

A timer has a name, unique in the installation. Setting a name again replaces the timer; cancelling an absent one is
fine. It fires once its time has come, up to 60 seconds late (later after an outage, never early), at least once: the
body arrives on the queue, then the timer is gone. Names follow the rule of queues (letters, digits, `-`, `_`, up to
60; `Invalid`); body up to 200 KB; at most a year ahead (`Invalid`); a time in the past fires at once. The body should
carry the time it was meant for: the receiver decides whether it is too late.
"""

from __future__ import annotations

from typing import Protocol

from postroom.clock import Instant

MAX_AHEAD_MS = 366 * 24 * 3_600_000


class Timers(Protocol):
    """All timers of an installation."""

    def set(self, name: str, at: Instant, queue: str, body: str) -> None:
        """Put `body` on `queue` at `at`. Durable when it returns."""
        ...

    def cancel(self, name: str) -> None:
        """Cancel the timer, unless it has just fired."""
        ...

    def get(self, name: str) -> Instant | None:
        """When the timer will fire, or None if it is not set."""
        ...
