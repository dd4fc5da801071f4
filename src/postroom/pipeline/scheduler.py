"""The scheduler: when a campaign starts. At once, or at an instant, guarded against a stale schedule.

It works from notes (ledger.notes) and does what the campaign's record asks; every step may happen twice, and any crash is
followed by another delivery of the same note:

    ready, to be started   → sending, or scheduled
    scheduled              → its timer is set (again)
    scheduled, timer fired → sending; or paused with the reason, when the machine was off for too long: mail about
                             yesterday's sale helps nobody, so a person decides
    sending                → the workers know of it

A stream of single messages (ledger.streams) is woken if it owes any.
"""

from __future__ import annotations

from postroom.clock import Clock, Instant
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.scheduler_messages import SchedulerMessage, SchedulerStep
from postroom.ledger.streams import DailyStreams
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.platform.ports.timers import Timers
from postroom.platform.ports.workflows import Workflows

PROMPT_MS = 1_000
"""A timer fires a moment after its time even when all is well: without any grace nothing would ever start."""


class Scheduler:
    """See the module's text."""

    def __init__(
        self,
        campaigns: Campaigns,
        streams: DailyStreams,
        *,
        timers: Timers,
        workflows: Workflows,
        clock: Clock,
        prompt_ms: int = PROMPT_MS,
    ) -> None:
        """`prompt_ms`: how late timers fire when all is well."""
        self._prompt_ms = prompt_ms
        self._campaigns = campaigns
        self._streams = streams
        self._timers = timers
        self._workflows = workflows
        self._clock = clock

    def handle(self, body: str) -> None:
        """One note. `Conflict` (somebody changed the record meanwhile) and temporary errors: deliver it again."""
        note = SchedulerMessage.parse(body)
        if note.step is SchedulerStep.STREAM:
            self._streams.look(note.ref)
        else:
            self._look(note)

    def look(self, ref: CampaignRef) -> None:
        """The same for a campaign whose note may be lost: nothing may wait for ever for a note. Errors as `handle`."""
        self._look(SchedulerMessage(SchedulerStep.LOOK, ref))

    def _look(self, note: SchedulerMessage) -> None:
        campaign = self._campaigns.get(note.ref)
        if campaign.status is CampaignStatus.READY and campaign.start_when_ready:
            campaign = self._begin(campaign)
        elif campaign.status is CampaignStatus.SCHEDULED and note.step is SchedulerStep.DUE and _meant(campaign, note):
            campaign = self._start_or_pause(campaign)
        if campaign.status is CampaignStatus.SCHEDULED and campaign.schedule is not None:
            self._set_timer(campaign.ref, campaign.schedule.at)
        elif campaign.status is CampaignStatus.SENDING:
            scheduler_messages.start_send(self._workflows, campaign.ref)

    def _set_timer(self, ref: CampaignRef, at: Instant) -> None:
        if self._timers.get(scheduler_messages.timer_name(ref)) != at:
            self._timers.set(
                scheduler_messages.timer_name(ref), at, scheduler_messages.SCHEDULER_QUEUE, scheduler_messages.timer_body(ref, at)
            )

    def _begin(self, campaign: Campaign) -> Campaign:
        if campaign.schedule is not None:
            return self._campaigns.transition(campaign, CampaignStatus.SCHEDULED)
        return self._campaigns.transition(campaign, CampaignStatus.SENDING)

    def _start_or_pause(self, campaign: Campaign) -> Campaign:
        schedule, now = campaign.schedule, self._clock.now()
        if schedule is not None and now > schedule.at + max(schedule.grace_ms, self._prompt_ms):
            late = (now - schedule.at) // 60_000
            reason = f"its time passed {late} minutes ago while nothing was running: resume it to send now, or cancel it"
            return self._campaigns.transition(campaign, CampaignStatus.PAUSED, reason=reason)
        return self._campaigns.transition(campaign, CampaignStatus.SENDING)


def _meant(campaign: Campaign, note: SchedulerMessage) -> bool:
    """Whether the timer was set for the schedule the campaign has now."""
    return campaign.schedule is not None and campaign.schedule.at == note.at
