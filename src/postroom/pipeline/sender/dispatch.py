"""Sending in rounds, where many functions send: one looks what is due, gives each of the others a part, and looks again.

    look     batches with work and without a live lease → a list of portions, one object → as many functions as the rate needs
             the provider's number for today is used up → wait until it is not: no function is paid for waiting
             nothing due yet → wait until the next deferral, or until a lease has run out
             the ledger adds up → completed; no longer sending → the end

A round leaves nothing behind that the next needs: a portion whose function was killed is found due again when its leases have
run out, and a list that nobody read is written over by nobody, since each has a name of its own. So a look may happen twice.
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
"""Messages a second that one function sends: as many functions as the rate needs, and no more, wait for it at the same time."""
FUNCTIONS_WITHOUT_RATE: Final = 10
"""Functions for a provider without a rate."""
_NEVER: Final = Instant(0)
_ALL: Final = 1_000_000
MAX_SHARD_BATCHES: Final = 2_000
"""Batches: a portion is an item of a Distributed Map, which may have 256 KB; and a million messages are more than one sends."""
_SOON_MS: Final = 3_000
"""To a look for work that is in somebody's hands, or that another look is just doing."""
_LONG_MS: Final = 3_600_000
"""A look now and then, whatever is known: a person may have settled something."""


class Next(StrEnum):
    """What is to happen now."""

    SEND = "send"
    WAIT = "wait"
    END = "end"


@dataclass(frozen=True, slots=True)
class DispatchStep:
    """What a look found."""

    next: Next
    key: str = ""
    """SEND: of the object with the portions: a JSON list of lists of batch numbers."""
    portions: int = 0
    until: Instant = _NEVER
    """WAIT: when to look again."""


class Dispatch:
    """See the module's text."""

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
        """`used_up`: until when nothing more may leave today, None: it may. `most` functions at the same time, whatever the
        rate."""
        self._campaigns = campaigns
        self._messages = messages
        self._objects = objects
        self._finish = finish
        self._rate = rate
        self._used_up = used_up
        self._most = most
        self._clock = clock

    def look(self, ref: CampaignRef, name: str) -> DispatchStep:
        """What to do for the campaign now. `name`: the look's own, such as its run and number."""
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
        portions = list(split_into_shards(due[: functions * MAX_SHARD_BATCHES], functions))
        key = f"{campaign.ref.tenant}/campaigns/{campaign.ref.campaign}/rounds/{name}.json"
        self._objects.put(key, orjson.dumps(portions), content_type="application/json")
        return DispatchStep(Next.SEND, key, len(portions))


def functions_for(rate: float | None, most: int) -> int:
    """How many it takes to send that many a second."""
    return max(1, min(most, FUNCTIONS_WITHOUT_RATE if rate is None else math.ceil(rate / RATE_PER_FUNCTION)))


def split_into_shards(batches: Sequence[int], functions: int) -> Iterator[list[int]]:
    """One for each function, nearly equal, none empty."""
    count = min(functions, len(batches))
    for part in range(count):
        yield list(batches[part::count])
