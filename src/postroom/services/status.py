"""A campaign's status in numbers, as the API answers and `--json` prints it, and the campaigns that are stalled.

    sending      nothing was handed over for ten minutes although something is due, and no daily quota explains it
    scheduled    its time came five minutes ago
    importing    for more than an hour

Whether mail leaves is read from the rate windows that senders write (ledger.rate_windows). Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

from postroom.clock import Clock, Instant, rfc3339
from postroom.errors import NotFound, PostroomError
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.rate_windows import MINUTE_MS, RateWindows
from postroom.model.campaign import ENDED, Campaign, CampaignRef, CampaignStatus
from postroom.model.message import Counts, Engagement, Totals
from postroom.platform.ports.messages import Messages


@dataclass(frozen=True, slots=True)
class StatusReport:
    campaign: Campaign
    counts: Counts
    seconds: float
    """Seconds since the campaign first began to send, until it ended or was paused, or until about now; earlier pauses included.
    """
    engagement: Engagement = field(default_factory=Engagement)
    """Opens and clicks by people, without machines."""
    recent_per_second: float | None = None
    """Messages past sending per second, recently; None: not measured."""
    waiting_for: str | None = None
    """Why a sending campaign has sent nothing for long."""

    @property
    def done(self) -> int:
        return self.counts.total - self.counts.waiting

    @property
    def per_second(self) -> float:
        """Average rate since the start."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As in docs/reference/status.md."""
        campaign, source, counts = self.campaign, self.campaign.source, self.counts.as_dict()
        return {
            "id": campaign.ref.campaign,
            "name": campaign.spec.name,
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
            "scheduled_at": rfc3339(campaign.spec.schedule.at if campaign.spec.schedule else None),
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
    """Default: no provider has a daily quota."""


class StatusService:
    def __init__(
        self,
        campaigns: Campaigns,
        messages: Messages,
        clock: Clock,
        *,
        waiting_for: Callable[[Campaign], str | None] = _for_nothing,
    ) -> None:
        """`waiting_for`: why a sending campaign sends nothing, or None."""
        self._campaigns = campaigns
        self._messages = messages
        self._clock = clock
        self._waiting_for = waiting_for

    def get(self, ref: CampaignRef) -> StatusReport:
        """Raises `NotFound`."""
        return self._status(self._campaigns.get(ref))

    def get_unless(self, ref: CampaignRef, version: int) -> StatusReport | None:
        """As `get`; None if the campaign has ended and its record still has that version: its counts hardly change."""
        campaign = self._campaigns.get(ref)
        return None if campaign.version == version and campaign.status in ENDED else self._status(campaign)

    def list(self, tenant: str, *, limit: int = 100) -> list[StatusReport]:
        """Statuses, newest first."""
        return [self._status(campaign) for campaign in self._campaigns.list(tenant, limit=limit).items]

    def _status(self, campaign: Campaign) -> StatusReport:
        try:
            totals = self._messages.totals(campaign.ref)
        except NotFound:  # nothing is imported yet
            totals = Totals(Counts(), Engagement())
        waits = campaign.status is CampaignStatus.SENDING and totals.counts.waiting
        return StatusReport(
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
    """Rounded to two percent, in steps: if nothing else changes, a status stays equal for a while in every process, so long polls
    do not return needlessly."""
    step = max(256, 1 << max(0, milliseconds // 64).bit_length())
    return max(0, milliseconds) // step * step


STILL_MS: Final = 10 * MINUTE_MS
_LATE_MS: Final = 5 * MINUTE_MS
_IMPORTING_MS: Final = 60 * MINUTE_MS


class StalledCampaign(NamedTuple):
    ref: CampaignRef
    why: str


class StalledCampaigns:
    def __init__(
        self,
        campaigns: Campaigns,
        messages: Messages,
        rate_windows: RateWindows,
        *,
        waiting_for: Callable[[Campaign], str | None],
        clock: Clock,
    ) -> None:
        """`waiting_for`: why a sending campaign sends nothing, or None."""
        self._campaigns = campaigns
        self._messages = messages
        self._rate_windows = rate_windows
        self._waiting_for = waiting_for
        self._clock = clock

    def find(self) -> list[StalledCampaign]:
        """Campaigns that are stalled now, including those with an unreadable record."""
        moved = set(self._moved())
        return [stuck for ref in self._campaigns.unfinished() if (stuck := self._look(ref, moved)) is not None]

    def _look(self, ref: CampaignRef, moved: set[CampaignRef]) -> StalledCampaign | None:
        try:
            campaign = self._campaigns.find(ref)
            why = None if campaign is None else self._why(campaign, moved, self._clock.now())
        except NotFound:  # deleted meanwhile
            return None
        except PostroomError as error:
            why = str(error)
        return None if why is None else StalledCampaign(ref, why)

    def _why(self, campaign: Campaign, moved: set[CampaignRef], now: Instant) -> str | None:
        match campaign.status:
            case CampaignStatus.SENDING if campaign.ref not in moved and (campaign.sending_since or now) <= now - STILL_MS:
                if self._messages.due_batches(campaign.ref, now, 1) and self._waiting_for(campaign) is None:
                    return f"it sends, and nothing left for {STILL_MS // MINUTE_MS} minutes though something is due"
            case CampaignStatus.SCHEDULED if campaign.spec.schedule is not None and campaign.spec.schedule.at <= now - _LATE_MS:
                return f"it is scheduled, and its time came {(now - campaign.spec.schedule.at) // MINUTE_MS} minutes ago"
            case CampaignStatus.IMPORTING if campaign.created_at <= now - _IMPORTING_MS:
                return f"it has been imported for {(now - campaign.created_at) // MINUTE_MS} minutes"
            case _:
                pass
        return None

    def _moved(self) -> Iterator[CampaignRef]:
        now = self._clock.now() // MINUTE_MS
        for minute in range(now - STILL_MS // MINUTE_MS, now + 1):
            for provider in self._rate_windows.read(minute).values():
                yield from (ref for ref, rate in provider.campaigns.items() if rate.sent or rate.hard)
