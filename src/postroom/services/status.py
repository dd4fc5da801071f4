"""A campaign's standing in numbers: the object that `--json` prints and the API answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from postroom.clock import Clock, Instant
from postroom.errors import NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import ENDED, Campaign, Home
from postroom.model.message import Counts
from postroom.platform.ports.messages import Messages


@dataclass(frozen=True, slots=True)
class Engagement:
    """What recipients did; people, not machines."""

    opened: int = 0
    clicked: int = 0
    unsubscribed: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """See the module's text."""

    campaign: Campaign
    counts: Counts
    seconds: float
    """Since it first began to send, until it ended or now; pauses included."""
    engagement: Engagement = field(default_factory=Engagement)

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
            "id": campaign.home.campaign,
            "name": campaign.name,
            "status": campaign.state.value,
            "reason": campaign.reason,
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


class StatusService:
    """Reads only."""

    def __init__(self, campaigns: Campaigns, messages: Messages, clock: Clock) -> None:
        self._campaigns = campaigns
        self._messages = messages
        self._clock = clock

    def get(self, home: Home) -> Status:
        """One campaign's; `NotFound`."""
        return self._status(self._campaigns.get(home))

    def list(self, tenant: str, *, limit: int = 100) -> list[Status]:
        """Newest first."""
        return [self._status(campaign) for campaign in self._campaigns.list(tenant, limit=limit).campaigns]

    def _status(self, campaign: Campaign) -> Status:
        try:
            counts = self._messages.counts(campaign.home)
        except NotFound:  # nothing is imported yet
            counts = Counts()
        end = campaign.finished_at if campaign.state in ENDED and campaign.finished_at else self._clock.now()
        seconds = (end - campaign.started_at) / 1000 if campaign.started_at else 0.0
        return Status(campaign, counts, seconds)


def rfc3339(instant: Instant | None) -> str | None:
    """UTC, to the millisecond."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
