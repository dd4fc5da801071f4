"""Queues: work handed over durably, at least once, in no promised order.

A body is JSON text. `receive` leases an item: no other receiver gets it until the lease expires, is returned, or the item is
deleted. A receipt belongs to one lease (a fence): it is refused with `LeaseLost` once another receiver has the item,
and a backend may refuse it as soon as the lease expired (SQS cannot tell which receiver has an item, so AWS goes by the clock).
An item received `max_receives` times without being deleted becomes a dead letter the next time
it would be received, and stays one until it is redriven or purged, for at least 10 days.

Limits both backends keep: body up to 200 KB of UTF-8 (`TooLarge`), delay 0 to 900 s and lease 0 to 43,200 s (`Invalid`;
longer waits are due records or timers), up to 10 items a call, items kept 4 days, one lease no longer than 12 hours
with all its extensions. `send` is durable when it returns. A `send` repeated after `Unavailable` may deliver twice:
handlers must be idempotent. Queues are created by the first `send` or `receive`; names are letters, digits, `-` and `_`, up to
60 (`Invalid`). Waiting is by polling: `receive` returns at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.limits import utf8

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
    """How often it was received, this time included."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that was received too often without being deleted."""

    id: str
    body: str
    receives: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The number of items: exact on one machine, approximate on AWS."""

    ready: int
    leased: int
    delayed: int
    dead: int


class Queues(Protocol):
    """All queues of an installation."""

    def send(self, queue: str, bodies: Sequence[str], *, delay_s: int = 0) -> None:
        """Add up to 10 items, visible after `delay_s`."""
        ...

    def receive(self, queue: str, *, limit: int = 1, lease_s: int = 30) -> list[Received]:
        """Lease up to `limit` (1 to 10) visible items, often fewer. Moves items that were received too often to the dead
        letters."""
        ...

    def delete(self, queue: str, receipt: str) -> None:
        """Delete a handled item. Harmless if repeated within the lease, or after a redrive. Raises `LeaseLost` (see above)."""
        ...

    def extend(self, queue: str, receipt: str, lease_s: int) -> None:
        """Keep the item `lease_s` seconds from now; 0 returns it at once. Raises `LeaseLost`, also if the item is gone."""
        ...

    def depth(self, queue: str) -> QueueDepth:
        """The numbers of items in the queue."""
        ...

    def dead_letters(self, queue: str, *, limit: int = 10) -> list[DeadLetter]:
        """Some of the dead letters (up to `limit`, 1 to 10), left in place."""
        ...

    def redrive(self, queue: str) -> int:
        """Move every dead letter back, its count reset. Returns how many."""
        ...

    def purge(self, queue: str) -> None:
        """Delete all items and dead letters, for operators. Raises `Unavailable` within a minute of an earlier purge on AWS."""
        ...


def check_body(body: str) -> None:
    """Checks the size of a queue's or timer's body."""
    size = len(utf8(body, "A body"))
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"A body of {size} bytes is too large: up to {MAX_BODY_BYTES}. Store it and send its key.")


def check_bodies(bodies: Sequence[str]) -> None:
    """Checks the items of one `send`."""
    if len(bodies) > MAX_PER_CALL:
        raise Invalid(f"{len(bodies)} items in one call are too many: up to {MAX_PER_CALL}.")
    for body in bodies:
        check_body(body)


def check_delay(delay_s: int) -> None:
    """Checks a delay in seconds."""
    if not 0 <= delay_s <= MAX_DELAY_S:
        raise Invalid(f"A delay of {delay_s} s is out of range: 0 to {MAX_DELAY_S} s. Use a timer for longer waits.")


def check_lease(lease_s: int) -> None:
    """Checks a lease in seconds."""
    if not 0 <= lease_s <= MAX_LEASE_S:
        raise Invalid(f"A lease of {lease_s} s is out of range: 0 to {MAX_LEASE_S} s.")
