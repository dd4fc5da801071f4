"""A campaign is completed only when every row is accounted for and nobody waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.ledger.batches import Batches
from postroom.model.campaign import CampaignState, Home
from postroom.model.message import MessageState, Settlement
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
