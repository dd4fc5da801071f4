"""A batch is one hash shard of a campaign's messages, about 500, and the unit that a worker leases.

A recipient's key is an HMAC of the address (model.ids), so a duplicate address has the same key in the same batch whatever row it
came from, storing a row twice is harmless, and batches are independent units of work.

Intent before effect: the keys that a worker is about to hand to a provider are stored in the batch's *open group* before the
first byte is sent. The next worker that opens the batch finds the group and knows exactly which messages are in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.ids import Key
from postroom.model.message import Counts, Engagement

BATCH_SIZE = 500
"""Recipients per batch, about: enough to amortise a lease, few enough for one DynamoDB query and one Lambda run."""


def batches_for(rows: int) -> int:
    """How many batches a campaign of `rows` rows gets; frozen before its first row is stored."""
    return max(1, -(-rows // BATCH_SIZE))


def batch_of(key: Key, batches: int) -> int:
    """The batch that holds `key`, 0 to `batches` - 1."""
    return int.from_bytes(key, "big") % batches


GROUP_SIZE = 128
"""Keys in one open group at most: bounds what a power cut leaves in doubt, and fits a DynamoDB item."""


class Group(NamedTuple):
    """The open group: messages that may be with the provider."""

    owner: str
    """The worker that opened it: the name of its hand-over journal."""
    fence: int
    """The fence it was opened under."""
    keys: tuple[Key, ...]
    at: Instant


class OpenBatch(NamedTuple):
    """A batch under lease."""

    number: int
    fence: int
    """Rises with each opening; every write carries it, and an older one is refused."""
    left_open: Group | None
    """The group the previous holder opened and never settled."""


@dataclass(frozen=True, slots=True)
class BatchSnapshot:
    """A batch's numbers as last counted."""

    number: int
    counts: Counts
    next_due: Instant | None
    """When it has work next: 0 for now, None for never."""
    owner: str | None
    lease_until: Instant | None
    engagement: Engagement = field(default_factory=Engagement)
