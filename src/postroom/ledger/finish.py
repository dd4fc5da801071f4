"""Completing a campaign: only when every row is accounted for and nobody waits."""

from __future__ import annotations

from postroom.errors import Conflict
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignRef, CampaignStatus, may_complete
from postroom.platform.ports.messages import Messages


class Finish:
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
