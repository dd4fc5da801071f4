"""A campaign is completed only when every row is accounted for and nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.ledger.batches import BatchLeases
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.model.event import Event, EventKind
from postroom.model.message import MessageStatus, Settlement
from postroom.platform.ports.messages import ReportedEvent
from tests.fakes.ledger import Bench, bench


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def _settle_all(made: Bench, ref: CampaignRef, state: MessageStatus, due: Instant | None = None) -> None:
    batches = BatchLeases(made.messages, made.journals, made.clock, lease_ms=10_000)
    for number in batches.claim(ref, "me", 100):
        opened = batches.open(ref, number, "me")
        assert opened is not None
        work = made.messages.load(ref, number, made.clock.now(), 1_000)
        batches.record(ref, opened, [Settlement(r.key, state, 1, made.clock.now(), due) for r in work], ())
        batches.finish(ref, opened)


def test_nothing_is_completed_while_somebody_waits(made: Bench) -> None:
    ref = made.campaign().ref
    assert not made.finish.complete(ref)
    assert made.campaigns.get(ref).status is CampaignStatus.SENDING


@pytest.mark.parametrize("state", [MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.BOUNCED, MessageStatus.UNKNOWN])
def test_completed_when_all_are_past_sending(made: Bench, state: MessageStatus) -> None:
    ref = made.campaign().ref
    _settle_all(made, ref, state)
    assert made.finish.complete(ref)
    campaign = made.campaigns.get(ref)
    assert campaign.status is CampaignStatus.COMPLETED
    assert campaign.finished_at == made.clock.now()


@pytest.mark.parametrize("state", [MessageStatus.DEFERRED, MessageStatus.UNKNOWN])
def test_what_is_due_later_keeps_it_open(made: Bench, state: MessageStatus) -> None:
    ref = made.campaign().ref
    _settle_all(made, ref, state, Instant(made.clock.now() + 60_000))
    assert not made.finish.complete(ref)


def test_what_news_have_settled_keeps_nothing_open_once_it_is_counted(made: Bench) -> None:
    """The maintenance count within seconds (ledger.recounts); a worker does when it is due."""
    ref = made.campaign(people=1, batches=1).ref
    _settle_all(made, ref, MessageStatus.DEFERRED, Instant(made.clock.now() + 3_600_000))
    (message,) = made.messages.list(ref).messages
    delivered = Event(kind=EventKind.DELIVERED, attempt=1, at=made.clock.now(), id="e", source="dsn")
    made.messages.record_events(ref, [ReportedEvent(message.batch, message.key, delivered)], made.clock.now())
    made.messages.recount(ref, made.messages.stale(ref))
    assert made.finish.complete(ref)
    assert made.campaigns.get(ref).status is CampaignStatus.COMPLETED


def test_while_somebody_waits_nothing_is_counted(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle workers ask several times a second, for hours, and events may pour in meanwhile."""
    ref = made.campaign().ref
    _settle_all(made, ref, MessageStatus.DEFERRED, Instant(made.clock.now() + 60_000))
    monkeypatch.setattr(made.messages, "counts", None)
    monkeypatch.setattr(made.messages, "unsettled", None)
    assert not made.finish.complete(ref)


def test_a_ledger_that_cannot_add_up_any_more_is_a_failure_not_a_completion(made: Bench) -> None:
    campaign = made.campaign()
    made.campaigns.change(campaign, source=replace(campaign.source, rows=campaign.source.rows + 1))
    assert not made.finish.complete(campaign.ref)  # somebody waits
    _settle_all(made, campaign.ref, MessageStatus.SENT)
    assert made.finish.complete(campaign.ref)
    failed = made.campaigns.get(campaign.ref)
    assert failed.status is CampaignStatus.FAILED
    assert failed.reason == "the ledger does not add up: 11 rows, but 10 messages and 0 other rows"


def test_a_paused_campaign_is_not_completed_behind_the_user_s_back(made: Bench) -> None:
    campaign = made.campaign(CampaignStatus.PAUSED)
    _settle_all(made, campaign.ref, MessageStatus.SENT)
    assert made.finish.complete(campaign.ref)
    assert made.campaigns.get(campaign.ref).status is CampaignStatus.PAUSED
