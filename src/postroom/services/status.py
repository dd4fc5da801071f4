"""A campaign's standing in numbers: the object that `--json` prints and the API answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from postroom.clock import Clock
from postroom.clock import rfc3339 as rfc3339
from postroom.errors import NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import ENDED, Campaign, CampaignRef, CampaignStatus
from postroom.model.message import Counts, Engagement, Totals
from postroom.platform.ports.messages import Messages


@dataclass(frozen=True, slots=True)
class Status:
    """See the module's text."""

    campaign: Campaign
    counts: Counts
    seconds: float
    """Since it first began to send, until it ended, was paused, or about now; earlier pauses included."""
    engagement: Engagement = field(default_factory=Engagement)
    """What recipients did; people, not machines."""
    recent_per_second: float | None = None
    """Messages past sending a second, lately; None: nobody watched."""
    waiting_for: str | None = None
    """Why it sends and nothing leaves for long, for people."""

    @property
    def done(self) -> int:
        """Messages past sending."""
        return self.counts.total - self.counts.waiting

    @property
    def per_second(self) -> float:
        """Messages past sending, a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As in docs/reference/status.md."""
        campaign, source, counts = self.campaign, self.campaign.source, self.counts.as_dict()
        return {
            "id": campaign.ref.campaign,
            "name": campaign.name,
            "status": campaign.status.value,
            "reason": campaign.reason,
            "waiting_for": self.waiting_for,
            "counts": {
                "rows": source.rows,
                "accepted": self.counts.total,
                "invalid": source.invalid,
                "duplicate": source.duplicate,
                "suppressed": source.suppressed,
                **{name: counts[name] for name in _ORDER},
            },
            "engagement": asdict(self.engagement),
            "created_at": rfc3339(campaign.created_at),
            "scheduled_at": rfc3339(campaign.schedule.at if campaign.schedule else None),
            "started_at": rfc3339(campaign.started_at),
            "finished_at": rfc3339(campaign.finished_at),
            "messages_per_second": round(self.per_second, 1),
            "recent_messages_per_second": None if self.recent_per_second is None else round(self.recent_per_second, 1),
            "rejected_report": source.rejected_key,
        }


_ORDER = (
    "pending",
    "sending",
    "sent",
    "delivered",
    "deferred",
    "bounced",
    "complained",
    "failed",
    "unknown",
    "skipped",
)


def _for_nothing(_campaign: Campaign) -> None:
    """Where no provider has a limit a day."""


class StatusService:
    """Reads only."""

    def __init__(
        self,
        campaigns: Campaigns,
        messages: Messages,
        clock: Clock,
        *,
        waiting_for: Callable[[Campaign], str | None] = _for_nothing,
    ) -> None:
        """`waiting_for`: why nothing leaves of a campaign that sends, if there is a reason."""
        self._campaigns = campaigns
        self._messages = messages
        self._clock = clock
        self._waiting_for = waiting_for

    def get(self, ref: CampaignRef) -> Status:
        """One campaign's; `NotFound`."""
        return self._status(self._campaigns.get(ref))

    def get_unless(self, ref: CampaignRef, version: int) -> Status | None:
        """The same; None for one that has ended and whose record has that version still: counts of those hardly change."""
        campaign = self._campaigns.get(ref)
        return None if campaign.version == version and campaign.status in ENDED else self._status(campaign)

    def list(self, tenant: str, *, limit: int = 100) -> list[Status]:
        """Newest first."""
        return [self._status(campaign) for campaign in self._campaigns.list(tenant, limit=limit).campaigns]

    def _status(self, campaign: Campaign) -> Status:
        try:
            totals = self._messages.totals(campaign.ref)
        except NotFound:  # nothing is imported yet
            totals = Totals(Counts(), Engagement())
        waits = campaign.status is CampaignStatus.SENDING and totals.counts.waiting
        return Status(
            campaign,
            totals.counts,
            self._sending_ms(campaign) / 1000,
            totals.engagement,
            waiting_for=self._waiting_for(campaign) if waits else None,
        )

    def _sending_ms(self, campaign: Campaign) -> int:
        if campaign.started_at is None:
            return 0
        if campaign.status in ENDED and campaign.finished_at is not None:
            return campaign.finished_at - campaign.started_at
        if campaign.status is CampaignStatus.PAUSED:
            return max(0, (campaign.paused_at or campaign.started_at) - campaign.started_at)
        return _coarse(self._clock.now() - campaign.started_at)


def _coarse(milliseconds: int) -> int:
    """Right to two parts in a hundred, in steps: while nothing else changes, a status stays the same for a while, in every
    process, and whoever waits for a change is left in peace."""
    step = max(256, 1 << max(0, milliseconds // 64).bit_length())
    return max(0, milliseconds) // step * step
