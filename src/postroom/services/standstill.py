"""Which campaigns should move and do not: for whoever is to be woken at night.

    sending      nothing was handed over for ten minutes, though something is due, and no limit of a day explains it
    scheduled    its time came five minutes ago
    importing    for more than an hour

Whether mail leaves is seen in the tallies that senders write (ledger.tallies), so one that moves costs nothing. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import NotFound, PostroomError
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.rate_windows import MINUTE_MS, RateWindows
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.platform.ports.messages import Messages

STILL_MS: Final = 10 * MINUTE_MS
_LATE_MS: Final = 5 * MINUTE_MS
_IMPORTING_MS: Final = 60 * MINUTE_MS


class Stuck(NamedTuple):
    """One."""

    ref: CampaignRef
    why: str


class Standstill:
    """See the module's text."""

    def __init__(
        self,
        campaigns: Campaigns,
        messages: Messages,
        tallies: RateWindows,
        *,
        waiting_for: Callable[[Campaign], str | None],
        clock: Clock,
    ) -> None:
        """`waiting_for`: why nothing leaves of a campaign that sends, if there is a reason."""
        self._campaigns = campaigns
        self._messages = messages
        self._tallies = tallies
        self._waiting_for = waiting_for
        self._clock = clock

    def find(self) -> list[Stuck]:
        """Those that stand still now. One whose record cannot be read is among them."""
        moved = set(self._moved())
        return [stuck for ref in self._campaigns.unfinished() if (stuck := self._look(ref, moved)) is not None]

    def _look(self, ref: CampaignRef, moved: set[CampaignRef]) -> Stuck | None:
        try:
            campaign = self._campaigns.find(ref)
            why = None if campaign is None else self._why(campaign, moved, self._clock.now())
        except NotFound:  # deleted in this moment
            return None
        except PostroomError as error:
            why = str(error)
        return None if why is None else Stuck(ref, why)

    def _why(self, campaign: Campaign, moved: set[CampaignRef], now: Instant) -> str | None:
        match campaign.status:
            case CampaignStatus.SENDING if campaign.ref not in moved and (campaign.sending_since or now) <= now - STILL_MS:
                if self._messages.due_batches(campaign.ref, now, 1) and self._waiting_for(campaign) is None:
                    return f"it sends, and nothing left for {STILL_MS // MINUTE_MS} minutes though something is due"
            case CampaignStatus.SCHEDULED if campaign.schedule is not None and campaign.schedule.at <= now - _LATE_MS:
                return f"it is scheduled, and its time came {(now - campaign.schedule.at) // MINUTE_MS} minutes ago"
            case CampaignStatus.IMPORTING if campaign.created_at <= now - _IMPORTING_MS:
                return f"it has been imported for {(now - campaign.created_at) // MINUTE_MS} minutes"
            case _:
                pass
        return None

    def _moved(self) -> Iterator[CampaignRef]:
        now = self._clock.now() // MINUTE_MS
        for minute in range(now - STILL_MS // MINUTE_MS, now + 1):
            for provider in self._tallies.of(minute).values():
                yield from (ref for ref, rate in provider.campaigns.items() if rate.sent or rate.hard)
