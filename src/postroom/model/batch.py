"""A batch is one shard of a campaign's messages and the unit a worker leases.

Intent before effect: the keys a worker is about to hand to a provider stand in the batch's *open group*, durably, before
the first byte leaves. Whoever opens the batch next finds the group there and knows exactly who is in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.message import Counts, Engagement
from postroom.model.shard import Key

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
