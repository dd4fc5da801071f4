"""Campaign records: each change is one conditional write on the version that was read.

So two who change the same campaign at the same time have one winner; the other gets `Conflict` and reads again. In the same
write a campaign that has not ended is entered in a list of the installation's: whoever looks after those asks no tenant.

Completing a campaign: only when every row is accounted for and nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.ledger.collection import every
from postroom.model import ids
from postroom.model.campaign import ENDED, TRANSITIONS, Campaign, CampaignRef, CampaignStatus, may_complete
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables

_UNFINISHED = "#unfinished-campaigns"


class CampaignPage(NamedTuple):
    """Part of a list, newest first. `cursor` asks for the next part."""

    campaigns: list[Campaign]
    cursor: str | None


class Campaigns:
    """The campaigns of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def new_ref(self, tenant: str) -> CampaignRef:
        """An id nobody has used; `create` is what claims it."""
        return CampaignRef(tenant, ids.campaign_id(self._clock.now(), self._clock.random(5)))

    def create(self, campaign: Campaign) -> Campaign:
        """Store a new record. `Conflict`: the id is taken."""
        return self._put(campaign, Expect.ABSENT)

    def get(self, ref: CampaignRef) -> Campaign:
        """The record as it is now; `NotFound`."""
        found = self.find(ref)
        if found is None:
            raise NotFound(f"there is no campaign {ref.campaign}")
        return found

    def find(self, ref: CampaignRef) -> Campaign | None:
        """The record as it is now, or None."""
        item = self._tables.get(_key(ref))
        return None if item is None else _campaign(item)

    def list(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> CampaignPage:
        """A tenant's campaigns, newest first."""
        page = self._tables.query(_partition(tenant), cursor=cursor, limit=limit, reverse=True)
        return CampaignPage([_campaign(item) for item in page.items], page.cursor)

    def made_before(self, tenant: str, before: Instant) -> Iterator[Campaign]:
        """A tenant's campaigns that were made before, oldest first: ids begin with their time. Not one snapshot."""
        campaigns = map(_campaign, every(self._tables, _partition(tenant), at_once=100))
        return takewhile(lambda campaign: campaign.created_at < before, campaigns)

    def unfinished(self) -> Iterator[CampaignRef]:
        """Every tenant's campaigns that have not ended; not one snapshot."""
        for item in every(self._tables, _UNFINISHED):
            tenant, _, campaign = item.key.sort.partition("/")
            yield CampaignRef(tenant, campaign)

    def change(self, campaign: Campaign, **fields: Any) -> Campaign:
        """Replace fields of the record as it was read; the new record. `Conflict`: somebody changed it since."""
        return self._put(replace(campaign, **fields), campaign.version)

    def transition(self, campaign: Campaign, to: CampaignStatus, **fields: Any) -> Campaign:
        """Move to another state, or raise `Conflict` where the rules or another's write forbid it."""
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
        """Forget the record. What it refers to is deleted by the caller, before."""
        self._tables.write([Delete(_key(ref)), Delete(_unfinished(ref))])

    def _put(self, campaign: Campaign, expect: Expect | int) -> Campaign:
        data = msgspec.to_builtins(campaign)
        del data["version"]
        listed = _unfinished(campaign.ref)
        entry = Delete(listed) if campaign.status in ENDED else Put(listed, {})
        version, _ = self._tables.write([Put(_key(campaign.ref), data, expect), entry])
        return replace(campaign, version=version)


def _unfinished(ref: CampaignRef) -> ItemKey:
    return ItemKey(_UNFINISHED, f"{ref.tenant}/{ref.campaign}")


def _partition(tenant: str) -> str:
    return f"{tenant}#campaigns"


def _key(ref: CampaignRef) -> ItemKey:
    return ItemKey(_partition(ref.tenant), ref.campaign)


def _campaign(item: Item) -> Campaign:
    data: Mapping[str, Any] = {**item.data, "version": item.version}
    try:
        return msgspec.convert(data, Campaign)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the record of campaign {item.key.sort} cannot be read: {error}") from error


class CampaignCompletion:
    """Anybody may ask, at any time and any number of times."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def finish(self, ref: CampaignRef) -> bool:
        """Complete the campaign if the ledger allows; whether it is past sending (ended now, or before).

        A ledger that does not add up though nobody waits is damaged: the campaign has failed, and says so."""
        campaign = self._campaigns.get(ref)
        if campaign.status is not CampaignStatus.SENDING:
            return True
        if self._messages.next_due(ref) is not None:  # workers ask all the time, and numbers may cost a count of everything
            return False
        counts, unsettled = self._messages.counts(ref), self._messages.unsettled(ref)
        source = campaign.source
        try:
            if may_complete(source, counts, unsettled=unsettled):
                self._campaigns.transition(campaign, CampaignStatus.COMPLETED)
            elif counts.waiting or unsettled:
                return False
            else:  # nothing that is still to come can mend it
                others = source.invalid + source.duplicate + source.suppressed
                reason = f"the ledger does not add up: {source.rows} rows, but {counts.total} messages and {others} other rows"
                self._campaigns.transition(campaign, CampaignStatus.FAILED, reason=reason)
        except Conflict:  # paused, cancelled or completed by somebody else in this moment: ask again
            return self._campaigns.get(ref).status is not CampaignStatus.SENDING
        return True
