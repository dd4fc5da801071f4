"""A campaign is completed only when every row is accounted for and nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.ledger.batches import Batches
from postroom.model.campaign import CampaignState, Home
from postroom.model.event import Event, EventKind
from postroom.model.message import MessageState, Settlement
from postroom.platform.ports.messages import Reported
from tests.fakes.ledger import Bench, bench


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def _settle_all(made: Bench, home: Home, state: MessageState, due: Instant | None = None) -> None:
    batches = Batches(made.messages, made.journals, made.clock, lease_ms=10_000)
    for number in batches.claim(home, "me", 100):
        opened = batches.open(home, number, "me")
        assert opened is not None
        work = made.messages.load(home, number, made.clock.now(), 1_000)
        batches.record(home, opened, [Settlement(r.key, state, 1, made.clock.now(), due) for r in work], ())
        batches.finish(home, opened)


def test_nothing_is_completed_while_somebody_waits(made: Bench) -> None:
    home = made.campaign().home
    assert not made.finish.finish(home)
    assert made.campaigns.get(home).state is CampaignState.SENDING


@pytest.mark.parametrize("state", [MessageState.SENT, MessageState.FAILED, MessageState.BOUNCED, MessageState.UNKNOWN])
def test_completed_when_all_are_past_sending(made: Bench, state: MessageState) -> None:
    home = made.campaign().home
    _settle_all(made, home, state)
    assert made.finish.finish(home)
    campaign = made.campaigns.get(home)
    assert campaign.state is CampaignState.COMPLETED
    assert campaign.finished_at == made.clock.now()


@pytest.mark.parametrize("state", [MessageState.DEFERRED, MessageState.UNKNOWN])
def test_what_is_due_later_keeps_it_open(made: Bench, state: MessageState) -> None:
    home = made.campaign().home
    _settle_all(made, home, state, Instant(made.clock.now() + 60_000))
    assert not made.finish.finish(home)


def test_what_news_have_settled_keeps_nothing_open_once_it_is_counted(made: Bench) -> None:
    """The chores count within seconds (ledger.recounts); a worker does when it is due."""
    home = made.campaign(people=1, batches=1).home
    _settle_all(made, home, MessageState.DEFERRED, Instant(made.clock.now() + 3_600_000))
    (message,) = made.messages.list(home).messages
    delivered = Event(kind=EventKind.DELIVERED, attempt=1, at=made.clock.now(), id="e", source="dsn")
    made.messages.report(home, [Reported(message.batch, message.key, delivered)], made.clock.now())
    made.messages.recount(home, made.messages.stale(home))
    assert made.finish.finish(home)
    assert made.campaigns.get(home).state is CampaignState.COMPLETED


def test_while_somebody_waits_nothing_is_counted(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle workers ask several times a second, for hours, and events may pour in meanwhile."""
    home = made.campaign().home
    _settle_all(made, home, MessageState.DEFERRED, Instant(made.clock.now() + 60_000))
    monkeypatch.setattr(made.messages, "counts", None)
    monkeypatch.setattr(made.messages, "unsettled", None)
    assert not made.finish.finish(home)


def test_a_ledger_that_cannot_add_up_any_more_is_a_failure_not_a_completion(made: Bench) -> None:
    campaign = made.campaign()
    made.campaigns.change(campaign, source=replace(campaign.source, rows=campaign.source.rows + 1))
    assert not made.finish.finish(campaign.home)  # somebody waits
    _settle_all(made, campaign.home, MessageState.SENT)
    assert made.finish.finish(campaign.home)
    failed = made.campaigns.get(campaign.home)
    assert failed.state is CampaignState.FAILED
    assert failed.reason == "the ledger does not add up: 11 rows, but 10 messages and 0 other rows"


def test_a_paused_campaign_is_not_completed_behind_the_user_s_back(made: Bench) -> None:
    campaign = made.campaign(CampaignState.PAUSED)
    _settle_all(made, campaign.home, MessageState.SENT)
    assert made.finish.finish(campaign.home)
    assert made.campaigns.get(campaign.home).state is CampaignState.PAUSED
