"""Whoever is refused at the hand-over is on the suppression list before the ledger says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.ledger.batches import Batches
from postroom.ledger.refusals import Refusals
from postroom.ledger.suppression import Reason, Suppression
from postroom.ledger.tenants import Tenants
from postroom.model.address import parse
from postroom.model.campaign import Campaign, Home, Policies
from postroom.model.message import MessageState, NewMessage, Settlement
from postroom.model.shard import Key, recipient_key
from postroom.model.stream import stream_batches, stream_home
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench

REPLY = "5.1.1 no such user"


class Hand:
    """A worker's hand on batches; `faults` counts what it asks of the stores."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.made = made
        self.tenants = Tenants(made.tables, made.clock)
        self.suppression = Suppression(made.tables, made.clock)
        messages = faults.wrap(made.messages)
        refusals = Refusals(messages, Suppression(faults.wrap(made.tables), made.clock), self.tenants, made.clock)
        self.batches = Batches(messages, made.journals, made.clock, lease_ms=1_000, refusals=refusals)

    def refuse(self, home: Home, batch: int, key: Key) -> None:
        """A group of one, handed over and refused, with the journal that tells it."""
        journal = self.made.journals.begin(home.campaign)
        opened = self.batches.open(home, batch, journal.owner)
        assert opened is not None
        group = self.made.messages.find(home, batch, [key])
        self.batches.record(home, opened, [], group)
        settlement = Settlement(key, MessageState.BOUNCED, 1, self.made.clock.now(), code=550, reply=REPLY)
        page = journal.page(batch, opened.fence)
        page.handing(key)
        page.answered(settlement)
        try:
            self.batches.finish(home, opened, [settlement])
        finally:
            page.seal()
            journal.close()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def test_a_campaign_s_recipient_is_entered_with_the_server_s_words(made: Bench) -> None:
    hand, campaign = Hand(made), made.campaign()
    message = next(iter(made.messages.list(campaign.home).messages))
    hand.refuse(campaign.home, message.batch, message.key)
    entry = hand.suppression.get("default", message.key)
    assert entry is not None
    assert (entry.reason, entry.address, entry.note) == (Reason.BOUNCE, message.address, REPLY)
    assert entry.source.endswith("/own.1.bounced")


def test_a_single_message_s_recipient_is_entered_as_a_person(made: Bench) -> None:
    hand, key = Hand(made), Key(b"m" * 12)
    tenant = hand.tenants.get("default")
    home = stream_home(tenant, 20_000)
    made.messages.create(home, stream_batches(home.campaign))
    made.messages.store(home, [NewMessage(3, key, 1, "Ann@example.org", None, "{}")], made.clock.now())
    hand.refuse(home, 3, key)
    person = recipient_key(tenant.secret, parse("Ann@example.org").normalised)
    assert hand.suppression.suppressed("default", [person, key]) == {person}


@pytest.mark.parametrize("state", [state for state in MessageState if state not in {MessageState.BOUNCED, MessageState.SENDING}])
def test_no_other_outcome_enters_anybody(made: Bench, state: MessageState) -> None:
    hand, campaign = Hand(made), made.campaign()
    message = next(iter(made.messages.list(campaign.home).messages))
    opened = hand.batches.open(campaign.home, message.batch, "me")
    assert opened is not None
    hand.batches.finish(campaign.home, opened, [Settlement(message.key, state, 1, made.clock.now())])
    assert hand.suppression.list("default").entries == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_leaves_nobody_bounced_who_may_be_written_to(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            campaign, faults = made.campaign(), Faults(number, after=after)
            message = next(iter(made.messages.list(campaign.home).messages))
            try:
                Hand(made, faults).refuse(campaign.home, message.batch, message.key)
            except Killed:
                _settled_by_the_next(Hand(made), campaign, message.batch)
            stands = made.messages.get(campaign.home, message.batch, message.key)
            assert stands is not None
            entered = Suppression(made.tables, made.clock).get("default", message.key)
            assert (stands.state is MessageState.BOUNCED) <= (entered is not None)
        if len(faults.calls) < number:
            return
        number += 1


def _settled_by_the_next(hand: Hand, campaign: Campaign, batch: int) -> None:
    hand.made.clock.advance(5)
    opened = hand.batches.open(campaign.home, batch, "next")
    assert opened is not None
    assert hand.batches.settle_left_open(campaign.home, opened, Policies(), wait=False)
