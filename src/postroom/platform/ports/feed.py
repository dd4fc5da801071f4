"""Feed: every change of a message, in order, for its consumers: callbacks, search, analytics.

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
    """A message's status after one write."""

    ref: CampaignRef
    batch: int
    key: Key
    status: MessageStatus
    attempt: int
    at: Instant
    code: int
    reply: str
    event: Event | None = None
    """The reported event (without `raw`), or the recorded outcome if the reported status is ahead of it. None if the message was
    stored, settled or erased."""
    sequence: int = 0
    """Rises with each change of a message, with gaps, so that the newest is known even out of order."""
    noted_at: Instant = Instant(0)
    """When the change was written here. `at` may be much older, or be by the reporter's clock."""


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Part of a shard. Pass `position` to the next `read`. `changes` is empty if there is nothing new yet."""

    changes: Sequence[MessageChange]
    position: str


class Feed(Protocol):
    """All changes of all messages, in shards."""

    def shards(self) -> list[str]:
        """The current shards, in no particular order."""
        ...

    def read(self, shard: str, position: str | None, *, limit: int = 1_000) -> FeedPage:
        """Changes after `position` (None: from the oldest kept). May exceed `limit` by one group. Raises `NotFound` if the
        shard is gone."""
        ...

    def trim(self, shard: str, before: Instant) -> None:
        """Delete changes older than `before`, which must be at least 24 hours ago. Called by maintenance."""
        ...
