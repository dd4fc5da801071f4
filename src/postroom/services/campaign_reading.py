"""Looking into a campaign: its batches, its messages, one of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from postroom.errors import Invalid, NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.model.batch import BatchSnapshot, batch_of
from postroom.model.campaign import Campaign, CampaignRef
from postroom.model.event import Event
from postroom.model.message import Message, MessageStatus
from postroom.model.provider_status import queued_event
from postroom.model.tokens import parse_message_id
from postroom.platform.ports.messages import MessagePage, Messages

_MAX_BATCH = 2**24


class BatchPage(NamedTuple):
    """Part of a list, by number."""

    batches: list[BatchSnapshot]
    cursor: str | None


class CampaignReader:
    """Every method: `NotFound` for a campaign that the tenant does not have."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def batches(self, ref: CampaignRef, *, cursor: str | None = None, limit: int = 100) -> BatchPage:
        """None before the import. `Invalid`: the cursor is of no such list."""
        self._campaigns.get(ref)
        try:
            found = self._messages.batches(ref, after=_after(cursor), limit=limit)
        except NotFound:
            found = []
        return BatchPage(found, str(found[-1].number) if len(found) == limit else None)

    def messages(
        self, ref: CampaignRef, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> tuple[Campaign, MessagePage]:
        """With the campaign, which knows the names of their values. `Invalid`: the cursor is of no such list."""
        campaign = self._campaigns.get(ref)
        try:
            return campaign, self._messages.list(ref, statuses=statuses, cursor=cursor, limit=limit)
        except NotFound:  # nothing is imported yet
            return campaign, MessagePage((), None)

    def message(self, ref: CampaignRef, message_id: str) -> tuple[Campaign, Message]:
        """`NotFound`: it is no message of this campaign."""
        campaign = self._campaigns.get(ref)
        of, key = parse_message_id(message_id)
        found: Message | None = None
        if of == ref.campaign and campaign.source.batches:
            found = self._messages.get(ref, batch_of(key, campaign.source.batches), key)
        if found is None:
            raise NotFound(f"there is no message {message_id!r} in campaign {ref.campaign}")
        return campaign, found

    def timeline(self, campaign: Campaign, message: Message) -> list[Event]:
        """What happened to it, in order of time: from the making of its campaign on."""
        return [queued_event(campaign.created_at), *self._messages.timeline(campaign.ref, message.batch, message.key)]


def _after(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 8 and int(cursor) <= _MAX_BATCH):
        raise Invalid("This cursor was not given by a listing.")
    return int(cursor)
