"""Whether a campaign is being sent: then what came back can wait, for what is to leave cannot."""

from __future__ import annotations

from typing import Final

from postroom.clock import Clock
from postroom.errors import Corrupt
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignRef, CampaignStatus

_MOMENT_S: Final = 1.0


class Sending:
    """As of a moment ago."""

    def __init__(self, campaigns: Campaigns, clock: Clock) -> None:
        self._campaigns = campaigns
        self._clock = clock
        self._known_until = 0.0
        self._known = False

    def __call__(self) -> bool:
        now = self._clock.monotonic()
        if now >= self._known_until:
            self._known = any(self._is_sent(ref) for ref in self._campaigns.unfinished())
            self._known_until = now + _MOMENT_S
        return self._known

    def _is_sent(self, ref: CampaignRef) -> bool:
        try:
            campaign = self._campaigns.find(ref)
        except Corrupt:  # nobody can send it
            return False
        return campaign is not None and campaign.status is CampaignStatus.SENDING
