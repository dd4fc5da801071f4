"""Whoever is refused at the hand-over is on the suppression list before the ledger says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.ledger.auto_suppression import AutoSuppression
from postroom.ledger.batches import BatchLeases
from postroom.ledger.suppression import SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.address import parse_address
from postroom.model.campaign import Campaign, CampaignRef, Policies
from postroom.model.ids import Key, recipient_key
from postroom.model.message import MessageRow, MessageStatus, Settlement
from postroom.model.stream import stream_batches, stream_ref
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench

REPLY = "5.1.1 no such user"


class Hand:
    """A worker's hand on batches; `faults` counts what it asks of the stores."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.made = made
        self.tenants = Tenants(made.tables, made.clock)
        self.suppression = SuppressionList(made.tables, made.clock)
        messages = faults.wrap(made.messages)
        auto_suppression = AutoSuppression(
            messages, SuppressionList(faults.wrap(made.tables), made.clock), self.tenants, made.clock
        )
        self.batches = BatchLeases(messages, made.journals, made.clock, lease_ms=1_000, auto_suppression=auto_suppression)

    def refuse(self, ref: CampaignRef, batch: int, key: Key) -> None:
        """A group of one, handed over and refused, with the journal that tells it."""
        journal = self.made.journals.begin(ref.campaign)
        opened = self.batches.open(ref, batch, journal.owner)
        assert opened is not None
        group = self.made.messages.find(ref, batch, [key])
        self.batches.record(ref, opened, [], group)
        settlement = Settlement(key, MessageStatus.BOUNCED, 1, self.made.clock.now(), code=550, reply=REPLY)
        page = journal.page(batch, opened.fence)
        page.handing(key)
        page.answered(settlement)
        try:
            self.batches.finish(ref, opened, [settlement])
        finally:
            page.seal()
            journal.close()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def test_a_campaign_s_recipient_is_entered_with_the_server_s_words(made: Bench) -> None:
    hand, campaign = Hand(made), made.campaign()
    message = next(iter(made.messages.list(campaign.ref).messages))
    hand.refuse(campaign.ref, message.batch, message.key)
    entry = hand.suppression.get("default", message.key)
    assert entry is not None
    assert (entry.reason, entry.address, entry.note) == (SuppressionReason.BOUNCE, message.address, REPLY)
    assert entry.source.endswith("/own.1.bounced")


def test_a_single_message_s_recipient_is_entered_as_a_person(made: Bench) -> None:
    hand, key = Hand(made), Key(b"m" * 12)
    tenant = hand.tenants.get("default")
    ref = stream_ref(tenant, 20_000)
    made.messages.create(ref, stream_batches(ref.campaign))
    made.messages.store(ref, [MessageRow(3, key, 1, "Ann@example.org", None, "{}")], made.clock.now())
    hand.refuse(ref, 3, key)
    person = recipient_key(tenant.secret, parse_address("Ann@example.org").normalised)
    assert hand.suppression.suppressed("default", [person, key]) == {person}


@pytest.mark.parametrize(
    "state", [state for state in MessageStatus if state not in {MessageStatus.BOUNCED, MessageStatus.SENDING}]
)
def test_no_other_outcome_enters_anybody(made: Bench, state: MessageStatus) -> None:
    hand, campaign = Hand(made), made.campaign()
    message = next(iter(made.messages.list(campaign.ref).messages))
    opened = hand.batches.open(campaign.ref, message.batch, "me")
    assert opened is not None
    hand.batches.finish(campaign.ref, opened, [Settlement(message.key, state, 1, made.clock.now())])
    assert hand.suppression.list("default").items == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_leaves_nobody_bounced_who_may_be_written_to(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            campaign, faults = made.campaign(), Faults(number, after=after)
            message = next(iter(made.messages.list(campaign.ref).messages))
            try:
                Hand(made, faults).refuse(campaign.ref, message.batch, message.key)
            except Killed:
                _settled_by_the_next(Hand(made), campaign, message.batch)
            stands = made.messages.get(campaign.ref, message.batch, message.key)
            assert stands is not None
            entered = SuppressionList(made.tables, made.clock).get("default", message.key)
            assert (stands.status is MessageStatus.BOUNCED) <= (entered is not None)
        if len(faults.calls) < number:
            return
        number += 1


def _settled_by_the_next(hand: Hand, campaign: Campaign, batch: int) -> None:
    hand.made.clock.advance(5)
    opened = hand.batches.open(campaign.ref, batch, "next")
    assert opened is not None
    assert hand.batches.settle_left_open(campaign.ref, opened, Policies(), wait=False)
