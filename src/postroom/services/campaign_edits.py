"""Changing a campaign that is not sending: its name, when it starts, how fast it goes.

One conditional write on the record as it was read, then a note for the scheduler; a crash between the two delays a changed
schedule until the scheduler looks at the records by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from postroom.clock import Clock
from postroom.errors import Conflict
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import ENDED, Campaign, CampaignStatus, Schedule
from postroom.platform.ports.queues import Queues
from postroom.services.campaign_creation import parse_schedule


class Keep(Enum):
    """What an edit does not speak of."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignChanges:
    """What is to be different."""

    name: str | Keep = KEEP
    schedule: tuple[str, str] | Keep | None = KEEP
    """A time and a time zone; None: as soon as it may."""
    rate: float | Keep | None = KEEP
    """Recipients a second; None: as fast as the provider takes them."""


class Edits:
    """See the module's text."""

    def __init__(self, campaigns: Campaigns, queues: Queues, clock: Clock, *, grace_ms: int) -> None:
        self._campaigns = campaigns
        self._queues = queues
        self._clock = clock
        self._grace_ms = grace_ms

    def apply(self, campaign: Campaign, edit: CampaignChanges) -> Campaign:
        """The new record. `Conflict`: somebody changed it since it was read, or it is past such a change. `Invalid`: the time."""
        fields: dict[str, Any] = {}
        if edit.name is not KEEP:
            fields["name"] = edit.name
        if edit.rate is not KEEP:
            _refuse(campaign, "rate", ENDED | {CampaignStatus.SENDING})
            fields["policies"] = replace(campaign.policies, rate=edit.rate)
        if edit.schedule is not KEEP:
            fields["schedule"] = self._schedule(campaign, edit.schedule)
        if not fields:
            return campaign
        spec = replace(campaign.spec, **fields)
        if campaign.status is CampaignStatus.SCHEDULED and edit.schedule is None:
            campaign = self._campaigns.transition(campaign, CampaignStatus.SENDING, spec=spec)
        else:
            campaign = self._campaigns.change(campaign, spec=spec)
        scheduler_messages.notify_changed(self._queues, campaign.ref)
        return campaign

    def _schedule(self, campaign: Campaign, wanted: tuple[str, str] | None) -> Schedule | None:
        _refuse(campaign, "schedule", ENDED | {CampaignStatus.SENDING})
        if campaign.started_at is not None:
            raise Conflict(f"campaign {campaign.ref.campaign} has begun to send: its schedule cannot be changed")
        if wanted is None:
            return None
        at, timezone = wanted
        return parse_schedule(at, timezone, now=self._clock.now(), grace_ms=self._grace_ms)


def _refuse(campaign: Campaign, field: str, statuses: frozenset[CampaignStatus]) -> None:
    if campaign.status in statuses:
        raise Conflict(f"campaign {campaign.ref.campaign} is {campaign.status}: its {field} cannot be changed")
