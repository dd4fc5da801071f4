"""Where a recipient lives: a hash shard of its campaign.

The key is an HMAC of the normalised address under the tenant's secret, so a duplicate address lands on the same key
whatever row or worker it came from, storing a row twice is harmless, no partition gets hot, and every batch is an
independent unit of work. The address cannot be guessed back from a key without the secret.

A batch is one shard of a campaign's messages and the unit a worker leases.

Intent before effect: the keys a worker is about to hand to a provider stand in the batch's *open group*, durably, before
the first byte leaves. Whoever opens the batch next finds the group there and knows exactly who is in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.ids import Key
from postroom.model.message import Counts, Engagement

"""12 bytes: one recipient of a tenant."""
BATCH_SIZE = 500
"""Recipients a batch, about: many enough to amortise a lease, few enough for one DynamoDB query and one Lambda run."""


def batches_for(rows: int) -> int:
    """How many batches a campaign of `rows` rows gets; frozen before its first row is stored."""
    return max(1, -(-rows // BATCH_SIZE))


def batch_of(key: Key, batches: int) -> int:
    """The batch that holds `key`, 0 to `batches` - 1."""
    return int.from_bytes(key, "big") % batches


GROUP_SIZE = 128
"""Keys in one open group at most: bounds what a power cut leaves in doubt, and fits a DynamoDB item."""


class Group(NamedTuple):
    """Messages that may be with the provider."""

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
    """A batch as last counted."""

    number: int
    counts: Counts
    next_due: Instant | None
    """When it has work next: 0 for now, None for never."""
    owner: str | None
    lease_until: Instant | None
    engagement: Engagement = field(default_factory=Engagement)
