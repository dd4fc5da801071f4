"""Campaign records: each change is one conditional write on the version that was read.

    {tenant}#campaigns / id                    the record
    #unfinished-campaigns / {tenant}/{id}      campaigns that have not ended, for jobs that look after all of them

Of two concurrent changes one wins; the other raises `Conflict`, and its caller reads again. The record and its line among the
unfinished are one atomic write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Any

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.ledger.collection import VERSION, Collection, ListPage, iterate_items
from postroom.model import ids
from postroom.model.campaign import ENDED, TRANSITIONS, Campaign, CampaignRef, CampaignStatus, may_complete
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.tables import Delete, Expect, ItemKey, Put, Tables

_UNFINISHED = "#unfinished-campaigns"


class Campaigns:
    """The campaigns of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._records = Collection(tables, Campaign, "campaign", derived=VERSION)

    def new_ref(self, tenant: str) -> CampaignRef:
        """A new id. It is taken only when `create` stores it."""
        return CampaignRef(tenant, ids.campaign_id(self._clock.now(), self._clock.random(5)))

    def create(self, campaign: Campaign) -> Campaign:
        """Store a new record. Raises `Conflict` if the id is taken."""
        return self._put(campaign, Expect.ABSENT)

    def get(self, ref: CampaignRef) -> Campaign:
        """The current record. Raises `NotFound`."""
        return self._records.get(_key(ref))

    def find(self, ref: CampaignRef) -> Campaign | None:
        """The current record, or None."""
        return self._records.find(_key(ref))

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> ListPage[Campaign]:
        """A tenant's campaigns, newest first. `limit`: 1 to 1,000."""
        return self._records.page(_partition(tenant), cursor=cursor, limit=limit, reverse=True)

    def made_before(self, tenant: str, before: Instant) -> Iterator[Campaign]:
        """A tenant's campaigns created before a time, oldest first (ids begin with their time). Not a snapshot."""
        return takewhile(lambda campaign: campaign.created_at < before, self._records.iterate(_partition(tenant), at_once=100))

    def unfinished(self) -> Iterator[CampaignRef]:
        """The campaigns of all tenants that have not ended. Not a snapshot."""
        for item in iterate_items(self._tables, _UNFINISHED):
            tenant, _, campaign = item.key.sort.partition("/")
            yield CampaignRef(tenant, campaign)

    def change(self, campaign: Campaign, **fields: Any) -> Campaign:
        """Replace fields of the record as it was read; the new record. Raises `Conflict` if it was changed since."""
        return self._put(replace(campaign, **fields), campaign.version)

    def transition(self, campaign: Campaign, to: CampaignStatus, **fields: Any) -> Campaign:
        """Move to another status. Raises `Conflict` if `TRANSITIONS` does not allow it or the record was changed since."""
        if to not in TRANSITIONS[campaign.status]:
            raise Conflict(f"campaign {campaign.ref.campaign} is {campaign.status}: it cannot become {to}")
        fields.setdefault("reason", None)
        now = self._clock.now()
        if to in ENDED:
            fields.setdefault("finished_at", now)
        elif to is CampaignStatus.SENDING:
            fields.update(started_at=campaign.started_at or now, sending_since=now, finished_at=None)
        elif to is CampaignStatus.PAUSED:
            fields["paused_at"] = now
        return self.change(campaign, status=to, **fields)

    def delete(self, ref: CampaignRef) -> None:
        """Delete the record. The caller deletes what it refers to first."""
        self._records.delete(_key(ref), also=[Delete(_unfinished(ref))])

    def _put(self, campaign: Campaign, expect: Expect | int) -> Campaign:
        listed = _unfinished(campaign.ref)
        entry = Delete(listed) if campaign.status in ENDED else Put(listed, {})
        return self._records.put(_key(campaign.ref), campaign, expect, also=[entry])


class CampaignCompletion:
    """Completes campaigns that have nothing left to send. Any process may ask, any number of times."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def complete(self, ref: CampaignRef) -> bool:
        """Complete the campaign if its numbers allow it. True: it is past sending, now or before.

        If no message is left but the numbers do not add up, the ledger is damaged: the campaign fails with that reason.
        """
        campaign = self._campaigns.get(ref)
        if campaign.status is not CampaignStatus.SENDING:
            return True
        if self._messages.next_due(ref) is not None:  # asked often, and `counts` may have to count every batch
            return False
        counts, unsettled = self._messages.counts(ref), self._messages.unsettled(ref)
        source = campaign.source
        try:
            if may_complete(source, counts, unsettled=unsettled):
                self._campaigns.transition(campaign, CampaignStatus.COMPLETED)
            elif counts.waiting or unsettled:
                return False
            else:
                others = source.invalid + source.duplicate + source.suppressed
                reason = f"the ledger does not add up: {source.rows} rows, but {counts.total} messages and {others} other rows"
                self._campaigns.transition(campaign, CampaignStatus.FAILED, reason=reason)
        except Conflict:  # paused, cancelled or completed at the same time
            return self._campaigns.get(ref).status is not CampaignStatus.SENDING
        return True


def _unfinished(ref: CampaignRef) -> ItemKey:
    return ItemKey(_UNFINISHED, f"{ref.tenant}/{ref.campaign}")


def _partition(tenant: str) -> str:
    return f"{tenant}#campaigns"


def _key(ref: CampaignRef) -> ItemKey:
    return ItemKey(_partition(ref.tenant), ref.campaign)
