"""Timers: a body put on a queue at an instant, durably.

A timer has a name, unique in the installation. Setting a name again replaces it; cancelling what is not there is
fine. It fires once its time has come, up to 60 seconds late (later after an outage, never early), at least once: the
body arrives on the queue, then the timer is gone. Names follow the rule of queues (letters, digits, `-`, `_`, up to
60; `Invalid`); body up to 200 KB; at most a year ahead (`Invalid`); a time in the past fires at once. The body should
carry the time it was meant for: judging staleness is the receiver's.
"""

from __future__ import annotations

from typing import Protocol

from postroom.clock import Instant

MAX_AHEAD_MS = 366 * 24 * 3_600_000


class Timers(Protocol):
    """See the module's text."""

    def set(self, name: str, at: Instant, queue: str, body: str) -> None:
        """Fire `body` into `queue` at `at`. Durable when it returns."""
        ...

    def cancel(self, name: str) -> None:
        """It will not fire, unless it just did."""
        ...

    def get(self, name: str) -> Instant | None:
        """When it will fire; None if it is not set."""
        ...
