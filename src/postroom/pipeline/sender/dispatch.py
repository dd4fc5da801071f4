"""Dispatch cycles, for AWS, where many functions send: one looks for due batches, assigns each function a shard, and looks again.

    look     due batches without a live lease → a list of shards, one object → as many functions as the rate needs
             the provider's daily quota is used up → wait until it is not: no function is paid for waiting
             nothing due yet → wait until the next deferral, or until a lease has run out
             the ledger adds up → completed; the campaign is not `sending` any more → the end

A cycle leaves nothing behind that the next one needs. A shard whose function was killed is found due again when its leases have
run out. A list that no function read is never overwritten, because each has its own name. So a look may happen twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from postroom.clock import Clock, Instant
from postroom.errors import NotFound
from postroom.ledger.campaigns import CampaignCompletion, Campaigns
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.objects import Objects

RATE_PER_FUNCTION: Final = 150.0
"""Messages a second that one function sends. A campaign gets as many functions as its rate needs, and no more."""
FUNCTIONS_WITHOUT_RATE: Final = 10
"""Functions for a campaign whose provider has no rate."""
_NEVER: Final = Instant(0)
_ALL: Final = 1_000_000
MAX_SHARD_BATCHES: Final = 2_000
"""Batches in a shard. A shard is an item of a Distributed Map, at most 256 KB; and a million messages are more than one function
sends in its time."""
_SOON_MS: Final = 3_000
"""How soon to look again for work that is leased, or that another look is assigning."""
_LONG_MS: Final = 3_600_000
"""How long to wait at most: an operator may have settled something meanwhile."""


class Next(StrEnum):
    """What the state machine does next."""

    SEND = "send"
    WAIT = "wait"
    END = "end"


@dataclass(frozen=True, slots=True)
class DispatchStep:
    """The result of a look."""

    next: Next
    key: str = ""
    """SEND: key of the object with the shards, a JSON list of lists of batch numbers."""
    shards: int = 0
    until: Instant = _NEVER
    """WAIT: when to look again."""


class Dispatch:
    """Looks for due batches and divides them into shards."""

    def __init__(
        self,
        campaigns: Campaigns,
        messages: Messages,
        objects: Objects,
        finish: CampaignCompletion,
        *,
        rate: Callable[[Campaign], float | None],
        used_up: Callable[[Campaign], Instant | None],
        most: int,
        clock: Clock,
    ) -> None:
        """`rate`: messages a second the campaign may be sent at, None for no limit. `used_up`: until when its daily quota is used
        up, None if it is not. `most`: functions at the same time, whatever the rate."""
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects
        self._finish = finish
        self._rate = rate
        self._used_up = used_up
        self._most = most
        self._clock = clock

    def look(self, ref: CampaignRef, name: str) -> DispatchStep:
        """What to do for the campaign now. `name`: unique to this look, such as its run and number."""
        try:
            campaign = self._campaigns.get(ref)
        except NotFound:  # deleted
            return DispatchStep(Next.END)
        if campaign.status is not CampaignStatus.SENDING:
            return DispatchStep(Next.END)
        now = self._clock.now()
        due = self._messages.due_batches(ref, now, _ALL)
        if due:
            return self._send(campaign, due, name)
        if self._finish.complete(ref):
            return DispatchStep(Next.END)
        at = self._messages.next_due(ref)
        return DispatchStep(Next.WAIT, until=Instant(min(max(at or 0, now + _SOON_MS), now + _LONG_MS)))

    def _send(self, campaign: Campaign, due: Sequence[int], name: str) -> DispatchStep:
        functions, now = functions_for(self._rate(campaign), self._most), self._clock.now()
        until = self._used_up(campaign)
        if until is not None:
            return DispatchStep(Next.WAIT, until=Instant(min(max(until, now + _SOON_MS), now + _LONG_MS)))
        shards = list(split_into_shards(due[: functions * MAX_SHARD_BATCHES], functions))
        key = f"{campaign.ref.tenant}/campaigns/{campaign.ref.campaign}/rounds/{name}.json"
        self._objects.put(key, orjson.dumps(shards), content_type="application/json")
        return DispatchStep(Next.SEND, key, len(shards))


def functions_for(rate: float | None, most: int) -> int:
    """How many functions it takes to send `rate` messages a second, at most `most`. None: no rate limit."""
    return max(1, min(most, FUNCTIONS_WITHOUT_RATE if rate is None else math.ceil(rate / RATE_PER_FUNCTION)))


def split_into_shards(batches: Sequence[int], functions: int) -> Iterator[list[int]]:
    """One shard for each function, nearly equal in size, none empty."""
    count = min(functions, len(batches))
    for part in range(count):
        yield list(batches[part::count])
