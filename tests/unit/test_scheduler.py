"""When a campaign starts: each note may come twice, late, or for a schedule that was replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.ledger import scheduler_messages
from postroom.ledger.streams import DailyStreams
from postroom.model.campaign import Campaign, CampaignStatus, Schedule
from postroom.pipeline.scheduler import Scheduler
from tests.fakes.clock import START
from tests.fakes.ledger import Bench, bench

AT = Instant(START + 3_600_000)
SCHEDULE = Schedule(AT, "Europe/Paris", grace_ms=600_000)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def _scheduler(made: Bench) -> Scheduler:
    streams = DailyStreams(made.messages, made.workflows, made.queues)
    return Scheduler(made.campaigns, streams, timers=made.timers, workflows=made.workflows, clock=made.clock)


def _look(made: Bench, campaign: Campaign) -> Campaign:
    _scheduler(made).handle(scheduler_messages.SchedulerMessage(scheduler_messages.SchedulerStep.LOOK, campaign.ref).body())
    return made.campaigns.get(campaign.ref)


def _due(made: Bench, campaign: Campaign, at: Instant = AT) -> Campaign:
    _scheduler(made).handle(scheduler_messages.timer_body(campaign.ref, at))
    return made.campaigns.get(campaign.ref)


def test_without_a_schedule_a_ready_campaign_is_sent_at_once(made: Bench) -> None:
    campaign = _look(made, made.campaign(CampaignStatus.READY))
    assert campaign.status is CampaignStatus.SENDING
    assert campaign.sending_since == made.clock.now()
    assert [run.execution for run in made.workflows.running(scheduler_messages.SEND)] == [campaign.ref.campaign]


def test_a_second_note_changes_nothing(made: Bench) -> None:
    campaign = _look(made, made.campaign(CampaignStatus.READY))
    assert _look(made, campaign) == campaign
    assert len(made.workflows.running(scheduler_messages.SEND)) == 1


def test_a_campaign_that_is_not_to_start_yet_waits(made: Bench) -> None:
    campaign = made.campaigns.change(made.campaign(CampaignStatus.READY), start_when_ready=False)
    assert _look(made, campaign).status is CampaignStatus.READY


def test_a_schedule_sets_a_timer_whose_note_starts_it(made: Bench) -> None:
    campaign = _look(made, made.campaign(CampaignStatus.READY, schedule=SCHEDULE))
    assert campaign.status is CampaignStatus.SCHEDULED
    assert made.timers.get(scheduler_messages.timer_name(campaign.ref)) == AT
    made.clock.advance(3_601)
    assert made.timers.fire_due(made.clock.now()) == 1
    (item,) = made.queues.receive(scheduler_messages.SCHEDULER_QUEUE)
    _scheduler(made).handle(item.body)
    assert made.campaigns.get(campaign.ref).status is CampaignStatus.SENDING


def test_dying_before_the_timer_is_set_is_mended_by_the_note_coming_again(made: Bench) -> None:
    campaign = made.campaign(CampaignStatus.SCHEDULED, schedule=SCHEDULE)
    _look(made, campaign)
    assert made.timers.get(scheduler_messages.timer_name(campaign.ref)) == AT


def test_dying_before_the_workers_know_is_mended_by_the_note_coming_again(made: Bench) -> None:
    campaign = made.campaign(CampaignStatus.SENDING)
    _look(made, campaign)
    assert len(made.workflows.running(scheduler_messages.SEND)) == 1


def test_within_its_grace_a_late_campaign_is_sent(made: Bench) -> None:
    campaign = made.campaign(CampaignStatus.SCHEDULED, schedule=SCHEDULE)
    made.clock.advance(3_600 + 599)
    assert _due(made, campaign).status is CampaignStatus.SENDING


def test_a_stale_schedule_does_not_fire_blindly(made: Bench) -> None:
    campaign = made.campaign(CampaignStatus.SCHEDULED, schedule=SCHEDULE)
    made.clock.advance(3_600 + 660)
    paused = _due(made, campaign)
    assert paused.status is CampaignStatus.PAUSED
    assert paused.reason is not None
    assert "11 minutes ago" in paused.reason


def test_the_timer_of_a_replaced_schedule_is_ignored(made: Bench) -> None:
    campaign = made.campaign(CampaignStatus.SCHEDULED, schedule=SCHEDULE)
    assert _due(made, campaign, Instant(AT - 1_000)).status is CampaignStatus.SCHEDULED


@pytest.mark.parametrize("state", [CampaignStatus.PAUSED, CampaignStatus.CANCELLED, CampaignStatus.COMPLETED])
def test_a_campaign_at_rest_is_left_alone(made: Bench, state: CampaignStatus) -> None:
    campaign = made.campaign(state, schedule=SCHEDULE)
    assert _due(made, campaign) == campaign
    assert made.workflows.running(scheduler_messages.SEND) == []


def test_a_note_that_is_none_is_refused(made: Bench) -> None:
    with pytest.raises(Invalid):
        _scheduler(made).handle('{"step": "dance"}')
