"""Completing a campaign: only when every row is accounted for and nobody waits."""

from __future__ import annotations

from postroom.errors import Conflict
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignState, Home, may_complete
from postroom.platform.ports.messages import Messages


class Finish:
    """Anybody may ask, at any time and any number of times."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def finish(self, home: Home) -> bool:
        """Complete the campaign if the ledger allows; whether it is past sending (ended now, or before).

        A ledger that does not add up though nobody waits is damaged: the campaign has failed, and says so."""
        campaign = self._campaigns.get(home)
        if campaign.state is not CampaignState.SENDING:
            return True
        if self._messages.next_due(home) is not None:  # workers ask all the time, and numbers may cost a count of everything
            return False
        counts, unsettled = self._messages.counts(home), self._messages.unsettled(home)
        source = campaign.source
        try:
            if may_complete(source, counts, unsettled=unsettled):
                self._campaigns.transition(campaign, CampaignState.COMPLETED)
            elif counts.waiting or unsettled:
                return False
            else:  # nothing that is still to come can mend it
                others = source.invalid + source.duplicate + source.suppressed
                reason = f"the ledger does not add up: {source.rows} rows, but {counts.total} messages and {others} other rows"
                self._campaigns.transition(campaign, CampaignState.FAILED, reason=reason)
        except Conflict:  # paused, cancelled or completed by somebody else in this moment: ask again
            return self._campaigns.get(home).state is not CampaignState.SENDING
        return True
