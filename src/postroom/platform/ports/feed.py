"""Feed: every change of a message, in order, for those who follow: callbacks, search, analytics.

Written in the same transaction as the change: a change is in the feed if and only if it happened. Read at least once,
ordered per message, kept at least 24 hours. The feed is split in shards (a campaign's ledger on one machine, a
stream's shard on AWS); order holds within a shard and a message stays in one. A reader keeps its own position for
each shard, and saves it after its effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.ids import Key
from postroom.model.message import MessageStatus

RETENTION_MS = 24 * 3_600_000


class MessageChange(NamedTuple):
    """One message as it stood after one write."""

    ref: CampaignRef
    batch: int
    key: Key
    status: MessageStatus
    attempt: int
    at: Instant
    code: int
    reply: str
    event: Event | None = None
    """What was reported of it (its `raw` left out), or what was settled after a report had put it further; None: it was stored,
    settled as it stands here, or erased."""
    sequence: int = 0
    """Rises from change to change of a message, with gaps: whoever gets them out of order knows the newest."""
    noted_at: Instant = Instant(0)
    """When it was written here. What happened may be older by far, or by the clock of whoever reported it."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """`position` goes into the next `read`; `changes` empty: nothing new yet."""

    changes: Sequence[MessageChange]
    position: str


class Feed(Protocol):
    """See the module's text."""

    def shards(self) -> list[str]:
        """The shards there are now, in no promised order."""
        ...

    def read(self, shard: str, position: str | None, *, limit: int = 1_000) -> FeedPage:
        """Changes after `position` (None: the oldest kept). May pass `limit` by one group. `NotFound`: the shard is gone."""
        ...

    def trim(self, shard: str, before: Instant) -> None:
        """Forget changes older than `before`, which is at least 24 hours ago: housekeeping."""
        ...
