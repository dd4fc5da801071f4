"""How an import ends: `ready` once every row is accounted for, `failed` with the reason, or as somebody else ended it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from postroom.errors import Conflict, Corrupt
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignRef, CampaignStatus, adds_up
from postroom.pipeline.splitter.checkpoint import Sums
from postroom.platform.ports.messages import Messages

_TRIES = 10


class Ending:
    """Of any import."""

    def __init__(self, campaigns: Campaigns, messages: Messages) -> None:
        self._campaigns = campaigns
        self._messages = messages

    def ready(self, ref: CampaignRef, batches: int, sums: Sums, report: str | None) -> None:
        """Add up, and say so: the only way to `ready`. The batches have been counted. `Corrupt`: it does not add up."""
        result = replace(
            self._campaigns.get(ref).source,
            batches=batches,
            rows=sums.rows,
            invalid=sums.invalid,
            duplicate=sums.duplicate,
            suppressed=sums.suppressed,
            rejected_key=report,
        )
        counts = self._messages.counts(ref)
        if not adds_up(result, counts):
            raise Corrupt(f"The import does not add up: {sums} leave {sums.accepted} messages, the ledger holds {counts.total}.")
        self._move(ref, CampaignStatus.READY, source=result)

    def failed(self, ref: CampaignRef, reason: str) -> None:
        """It cannot be imported."""
        self._move(ref, CampaignStatus.FAILED, reason=reason)

    def _move(self, ref: CampaignRef, to: CampaignStatus, **fields: Any) -> None:
        """The end of importing, unless somebody else ended it."""
        for _ in range(_TRIES):
            campaign = self._campaigns.get(ref)
            if campaign.status is not CampaignStatus.IMPORTING:
                return
            try:
                self._campaigns.transition(campaign, to, **fields)
            except Conflict:  # changed since it was read: look again
                continue
            return
        raise Conflict(f"campaign {ref.campaign} is being changed by others all the time; try again")
