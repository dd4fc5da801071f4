"""Starts campaigns: at once, or at a set time, guarded against a stale schedule.

The scheduler receives messages (ledger.scheduler_messages) and does what the campaign's record asks. Every step may happen twice;
after any crash the same message is delivered again:

    ready, to be started   → sending, or scheduled
    scheduled              → set its timer (again)
    scheduled, timer fired → sending; or paused with the reason if the machine was off for too long: mail about yesterday's
                             sale helps no reader, so a person decides
    sending                → start the workflow that sends it

A daily stream of transactional messages (ledger.streams) is woken if it owes any.
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
"""A timer fires a moment late even when all is well: without any grace no campaign would ever start. Default: 1 s."""


class Scheduler:
    """Handles the scheduler's messages."""

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
        """`prompt_ms`: how late timers may fire when all is well."""
        self._prompt_ms = prompt_ms
        self._campaigns = campaigns
        self._streams = streams
        self._timers = timers
        self._workflows = workflows
        self._clock = clock

    def handle(self, body: str) -> None:
        """Handle one message. On `Conflict` (the record was changed meanwhile) and temporary errors: deliver it again."""
        message = SchedulerMessage.parse(body)
        if message.step is SchedulerStep.STREAM:
            self._streams.look(message.ref)
        else:
            self._look(message)

    def look(self, ref: CampaignRef) -> None:
        """The same for a campaign whose message may be lost. Errors as for `handle`."""
        self._look(SchedulerMessage(SchedulerStep.LOOK, ref))

    def _look(self, message: SchedulerMessage) -> None:
        campaign = self._campaigns.get(message.ref)
        if campaign.status is CampaignStatus.READY and campaign.start_when_ready:
            campaign = self._begin(campaign)
        elif campaign.status is CampaignStatus.SCHEDULED and message.step is SchedulerStep.DUE and _is_current(campaign, message):
            campaign = self._start_or_pause(campaign)
        if campaign.status is CampaignStatus.SCHEDULED and campaign.spec.schedule is not None:
            self._set_timer(campaign.ref, campaign.spec.schedule.at)
        elif campaign.status is CampaignStatus.SENDING:
            scheduler_messages.start_send(self._workflows, campaign.ref)

    def _set_timer(self, ref: CampaignRef, at: Instant) -> None:
        if self._timers.get(scheduler_messages.timer_name(ref)) != at:
            self._timers.set(
                scheduler_messages.timer_name(ref), at, scheduler_messages.SCHEDULER_QUEUE, scheduler_messages.timer_body(ref, at)
            )

    def _begin(self, campaign: Campaign) -> Campaign:
        if campaign.spec.schedule is not None:
            return self._campaigns.transition(campaign, CampaignStatus.SCHEDULED)
        return self._campaigns.transition(campaign, CampaignStatus.SENDING)

    def _start_or_pause(self, campaign: Campaign) -> Campaign:
        schedule, now = campaign.spec.schedule, self._clock.now()
        if schedule is not None and now > schedule.at + max(schedule.grace_ms, self._prompt_ms):
            late = (now - schedule.at) // 60_000
            reason = f"its time passed {late} minutes ago while nothing was running: resume it to send now, or cancel it"
            return self._campaigns.transition(campaign, CampaignStatus.PAUSED, reason=reason)
        return self._campaigns.transition(campaign, CampaignStatus.SENDING)


def _is_current(campaign: Campaign, message: SchedulerMessage) -> bool:
    """Whether the timer was set for the schedule the campaign has now."""
    return campaign.spec.schedule is not None and campaign.spec.schedule.at == message.at
