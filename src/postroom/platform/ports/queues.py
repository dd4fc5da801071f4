"""Queues: work handed over durably, at least once, in no promised order.

A body is JSON text. `receive` leases it: nobody else gets it until the lease runs out, is given back, or the item is
deleted. A receipt belongs to one leasing (a fence): it is refused with `LeaseLost` once somebody else received the item,
and a home may refuse it as soon as the lease ran out (SQS cannot tell who has an item, so that home goes by the clock). An
item received `max_receives` times without being deleted goes to the queue's dead letters with its count, the next time
it would be handed out, and stays there until it is redriven or purged, for at least 10 days.

Limits both homes keep: body up to 200 KB of UTF-8 (`TooLarge`), delay 0 to 900 s and lease 0 to 43,200 s (`Invalid`;
longer waits are due records or timers), up to 10 items a call, items kept 4 days, one leasing no longer than 12 hours
with all its extensions. `send` is durable when it returns. A `send` repeated after `Unavailable` may deliver twice:
handlers are idempotent. Queues are made by the first `send` or `receive`; names are letters, digits, `-` and `_`, up to
60 (`Invalid`). Waiting is by polling: `receive` returns at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_BODY_BYTES = 200_000
MAX_DELAY_S = 900
MAX_LEASE_S = 43_200
MAX_PER_CALL = 10
MAX_RECEIVES = 5
"""After this many leases without a delete an item is a dead letter."""


@dataclass(frozen=True, slots=True)
class Received:
    """A leased item."""

    id: str
    body: str
    receipt: str
    receives: int
    """How often it has been handed out, this time included."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item nobody managed to handle."""

    id: str
    body: str
    receives: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """About how many items there are: exact on one machine, eventually right on AWS."""

    ready: int
    leased: int
    delayed: int
    dead: int


class Queues(Protocol):
    """See the module's text."""

    def send(self, queue: str, bodies: Sequence[str], *, delay_s: int = 0) -> None:
        """Add up to 10 items, visible after `delay_s`."""
        ...

    def receive(self, queue: str, *, limit: int = 1, lease_s: int = 30) -> list[Received]:
        """Lease up to `limit` (1 to 10) visible items; often fewer. Dead letters are set aside on the way."""
        ...

    def delete(self, queue: str, receipt: str) -> None:
        """Done with it. Again within the lease, or after a redrive: harmless. `LeaseLost`: see the module's text."""
        ...

    def extend(self, queue: str, receipt: str, lease_s: int) -> None:
        """Keep it `lease_s` from now; 0 gives it back at once. `LeaseLost` once it is gone, too."""
        ...

    def depth(self, queue: str) -> QueueDepth:
        """How much waits."""
        ...

    def dead_letters(self, queue: str, *, limit: int = 10) -> list[DeadLetter]:
        """Some of the dead letters (up to `limit`, 1 to 10), left in place."""
        ...

    def redrive(self, queue: str) -> int:
        """Move every dead letter back with a fresh count; how many."""
        ...

    def purge(self, queue: str) -> None:
        """Delete everything in the queue and its dead letters: an operator's verb. `Unavailable`: SQS does it once a minute."""
        ...
