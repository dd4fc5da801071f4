"""Whose mail it was, for the person who holds a link of it: as the mail's own From said, else the tenant's name.

A campaign that is gone took its From along, and a single message's link does not name the message: then it is the tenant's name,
and nothing where the tenant has none.
"""

from __future__ import annotations

from postroom.events.unsubscribing import Wish
from postroom.ledger.campaigns import Campaigns
from postroom.model.address import AddressError, parse
from postroom.model.campaign import CampaignRef
from postroom.model.stream import is_stream


class Letterhead:
    """Of all tenants."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns

    def of(self, wish: Wish) -> str:
        """A name, or empty. `Unavailable`."""
        ref = CampaignRef(wish.tenant.id, wish.token.campaign)
        campaign = None if is_stream(ref.campaign) else self._campaigns.find(ref)
        return _name(campaign.content.from_) if campaign is not None else wish.tenant.name


def _name(sender: str) -> str:
    try:
        address = parse(sender)
    except AddressError:
        return ""
    return address.name or address.mailbox
