"""A person's wish is on the list before anybody is answered, and on the timeline once, however often it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.errors import Invalid, NotFound
from postroom.events.unsubscribe import UnsubscribeService
from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEvent, InboundEventQueue, parse_inbound_events
from postroom.ledger.suppression import SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.event import EventKind
from postroom.model.ids import Key
from postroom.model.tenant import Tenant
from postroom.model.tokens import TokenSealer, message_id
from tests.events.feedback_kit import FeedbackSetup
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench

CAMPAIGN = "a" * 16
ANNA, BEN = Key(b"a" * 12), Key(b"b" * 12)
UNSUBSCRIBED, RESUBSCRIBED = EventKind.UNSUBSCRIBED, EventKind.RESUBSCRIBED


class UnsubscribeSetup:
    """Somebody who unsubscribes people of the tenant `default`."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.made = made
        self.tenants = Tenants(made.tables, made.clock)
        self.suppression = SuppressionList(made.tables, made.clock)
        self.unsubscribing = UnsubscribeService(
            self.tenants, faults.wrap(self.suppression), faults.wrap(InboundEventQueue(made.queues)), made.clock
        )

    def token(self, key: Key = ANNA, *, topic: str | None = None, campaign: str = CAMPAIGN) -> str:
        return TokenSealer(self.tenants.get("default"), campaign, topic=topic).unsubscribe(key)

    def arrived(self) -> list[InboundEvent]:
        """What was told since the last look, each event once."""
        found = {}
        while items := self.made.queues.receive(FEEDBACK_QUEUE, limit=10):
            for item in items:
                found.update({(each.key, each.event.id): each for each in parse_inbound_events(item.body)})
                self.made.queues.delete(FEEDBACK_QUEUE, item.receipt)
        return list(found.values())

    def ids(self) -> set[str]:
        return {each.event.id for each in self.arrived()}

    def kinds(self) -> list[EventKind]:
        return [each.event.kind for each in self.arrived()]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def setup(made: Bench) -> UnsubscribeSetup:
    return UnsubscribeSetup(made)


def test_a_wish_is_on_the_list_and_told(setup: UnsubscribeSetup) -> None:
    wish = setup.unsubscribing.unsubscribe(setup.token(), source="by hand")
    entry = setup.suppression.get("default", ANNA)
    assert wish.no_mail == entry
    assert entry is not None
    assert (entry.reason, entry.address, entry.topic) == (SuppressionReason.UNSUBSCRIBE, "", None)
    (told,) = setup.arrived()
    assert (told.tenant, told.campaign, told.batch, told.key) == (0, CAMPAIGN, None, ANNA)
    assert (told.event.kind, told.event.attempt, told.event.source) == (UNSUBSCRIBED, 0, "unsubscribe")
    assert told.event.detail == "from all mail, by hand"


@pytest.mark.parametrize(
    ("topic", "everything", "left"),
    [(None, None, {None}), (None, False, {None}), (None, True, {None}), ("news", None, {"news"}), ("news", True, {None})],
)
def test_what_is_left_is_what_was_said(
    setup: UnsubscribeSetup, topic: str | None, everything: bool | None, left: set[str | None]
) -> None:
    setup.unsubscribing.unsubscribe(setup.token(topic=topic), everything=everything)
    assert {entry.topic for entry in setup.suppression.entries_for("default", ANNA)} == left
    assert setup.suppression.entries_for("default", BEN) == []


def test_two_clicks_are_one_event_and_changing_ones_mind_twice_is_three(setup: UnsubscribeSetup) -> None:
    token = setup.token(topic="news")
    for _ in range(2):
        setup.unsubscribing.unsubscribe(token)
        setup.made.clock.advance(5)
    assert setup.kinds() == [UNSUBSCRIBED]
    setup.unsubscribing.resubscribe(token)
    setup.unsubscribing.resubscribe(token)
    setup.unsubscribing.unsubscribe(token)
    assert setup.kinds() == [RESUBSCRIBED, UNSUBSCRIBED]
    setup.made.clock.advance(5)
    setup.unsubscribing.resubscribe(token)
    assert setup.kinds() == [RESUBSCRIBED]
    assert setup.suppression.entries_for("default", ANNA) == []


def test_topic_and_all_mail_are_two_wishes(setup: UnsubscribeSetup) -> None:
    token = setup.token(topic="news")
    setup.unsubscribing.unsubscribe(token)
    wish = setup.unsubscribing.unsubscribe(token, everything=True)
    assert wish.no_mail is not None
    assert wish.no_topic is not None
    assert setup.kinds() == [UNSUBSCRIBED, UNSUBSCRIBED]
    wish = setup.unsubscribing.resubscribe(token, everything=True)
    assert (wish.no_mail, wish.no_topic) == (None, None)
    assert setup.kinds() == [RESUBSCRIBED]


def test_taking_back_leaves_other_topics_and_other_reasons(setup: UnsubscribeSetup) -> None:
    for topic in ("news", "offers"):
        setup.unsubscribing.unsubscribe(setup.token(topic=topic))
    setup.suppression.add("default", ANNA, address="a@a.example", reason=SuppressionReason.COMPLAINT)
    setup.arrived()
    wish = setup.unsubscribing.resubscribe(setup.token(topic="news"), everything=True)
    assert wish.no_topic is None
    assert wish.no_mail is not None
    assert wish.no_mail.reason is SuppressionReason.COMPLAINT
    assert [entry.topic for entry in setup.suppression.entries_for("default", ANNA)] == [None, "offers"]
    assert setup.kinds() == [RESUBSCRIBED]


def test_who_never_unsubscribed_takes_nothing_back(setup: UnsubscribeSetup) -> None:
    setup.suppression.add("default", ANNA, address="a@a.example", reason=SuppressionReason.BOUNCE)
    wish = setup.unsubscribing.resubscribe(setup.token())
    assert wish.no_mail is not None
    assert wish.no_mail.reason is SuppressionReason.BOUNCE
    assert setup.kinds() == []


def test_looking_changes_nothing(setup: UnsubscribeSetup) -> None:
    assert setup.unsubscribing.state(setup.token()).no_mail is None
    assert setup.suppression.entries_for("default", ANNA) == []
    assert setup.kinds() == []


def test_only_tokens_of_ours_say_anything(setup: UnsubscribeSetup) -> None:
    token = setup.token(topic="news")
    forged = TokenSealer(Tenant("default", 0, b"x" * 32), CAMPAIGN).unsubscribe(ANNA)
    nobodys = TokenSealer(Tenant("nobody", 77, b"x" * 32), CAMPAIGN).unsubscribe(ANNA)
    for text in (forged, nobodys, token.partition(".")[0], token[:-1], token + "x", "", "é"):
        with pytest.raises((Invalid, NotFound)):
            setup.unsubscribing.unsubscribe(text)
    assert setup.suppression.entries_for("default", ANNA) == []


def test_people_of_a_tenant_that_is_disabled_are_heard(setup: UnsubscribeSetup) -> None:
    tenant = setup.tenants.create("closed")
    setup.tenants.disable("closed")
    setup.unsubscribing.unsubscribe(TokenSealer(tenant, CAMPAIGN).unsubscribe(ANNA))
    assert setup.suppression.get("closed", ANNA) is not None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 6))
def test_killed_anywhere_and_said_again_it_is_one_wish(made: Bench, at: int, after: bool) -> None:
    """Or it never was, and nobody was told."""
    setup = UnsubscribeSetup(made, Faults(at, after=after))
    with pytest.raises(Killed):
        _repeat(lambda: setup.unsubscribing.unsubscribe(setup.token()))
    told = setup.ids()
    assert setup.suppression.entries_for("default", ANNA) or not told
    made.clock.advance(60)
    again = UnsubscribeSetup(made)
    again.unsubscribing.unsubscribe(again.token())
    assert [entry.reason for entry in again.suppression.entries_for("default", ANNA)] == [SuppressionReason.UNSUBSCRIBE]
    assert len(told | again.ids()) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_killed_anywhere_and_taken_back_again_it_is_taken_back_and_told(made: Bench, at: int, after: bool) -> None:
    UnsubscribeSetup(made).unsubscribing.unsubscribe(UnsubscribeSetup(made).token())
    UnsubscribeSetup(made).arrived()
    setup = UnsubscribeSetup(made, Faults(at, after=after))
    with pytest.raises(Killed):
        _repeat(lambda: setup.unsubscribing.resubscribe(setup.token()))
    told = setup.ids()
    assert told or setup.suppression.entries_for("default", ANNA)
    again = UnsubscribeSetup(made)
    again.unsubscribing.resubscribe(again.token())
    assert len(told | again.ids()) == 1
    assert again.suppression.entries_for("default", ANNA) == []


def _repeat(call: Callable[[], object]) -> None:
    """So that there are as many calls of the stores as any fault needs."""
    for _ in range(3):
        call()


def test_an_unsubscribe_reaches_the_timeline_of_its_message(made: Bench) -> None:
    """Also when the worker hears of it after the person took it back: it does not enter them again."""
    post, setup = FeedbackSetup(made), UnsubscribeSetup(made)
    campaign = made.campaign(people=4)
    message = post.send_all(campaign)[0]
    token = setup.token(message.key, campaign=campaign.ref.campaign)
    setup.unsubscribing.unsubscribe(token)
    made.clock.advance(1)
    setup.unsubscribing.resubscribe(token)
    post.hear()
    assert setup.suppression.entries_for("default", message.key) == []
    timeline = made.messages.timeline(campaign.ref, message.batch, message.key)
    assert [event.kind for event in timeline if event.source == "unsubscribe"] == [UNSUBSCRIBED, RESUBSCRIBED]


@pytest.mark.parametrize("topic", [None, "news"])
def test_the_entry_says_whose_it_is_and_where_it_comes_from_once_the_event_has_found_its_message(
    made: Bench, topic: str | None
) -> None:
    """The link names neither; an export would leave the person out."""
    post, setup = FeedbackSetup(made), UnsubscribeSetup(made)
    campaign = made.campaign(people=4)
    message = post.send_all(campaign)[0]
    token = setup.token(message.key, campaign=campaign.ref.campaign, topic=topic)
    setup.unsubscribing.unsubscribe(token, source="by the link")
    before = setup.suppression.get("default", message.key, topic=topic)
    assert before is not None
    post.hear()
    (entry,) = setup.suppression.entries_for("default", message.key)
    timeline = made.messages.timeline(campaign.ref, message.batch, message.key)
    (event,) = (event for event in timeline if event.kind is UNSUBSCRIBED)
    assert entry == replace(
        before,
        address=message.address,
        note=f"from {topic or 'all mail'}, by the link",
        source=f"{message_id(campaign.ref, message.key)}/{event.id}",
    )
    setup.unsubscribing.resubscribe(token)
    assert setup.suppression.entries_for("default", message.key) == []


def test_no_other_entry_is_explained_by_an_unsubscribe(made: Bench) -> None:
    """Nor one of a person who was erased in between."""
    post, setup = FeedbackSetup(made), UnsubscribeSetup(made)
    campaign = made.campaign(people=4)
    message, erased = post.send_all(campaign)[:2]
    setup.suppression.add("default", message.key, address="", reason=SuppressionReason.BOUNCE)
    setup.unsubscribing.unsubscribe(setup.token(message.key, campaign=campaign.ref.campaign, topic="news"))
    setup.unsubscribing.unsubscribe(setup.token(erased.key, campaign=campaign.ref.campaign))
    now = made.clock.now()
    opened = made.messages.open(campaign.ref, erased.batch, "w", now, lease_ms=1_000)
    assert opened is not None
    made.messages.erase(campaign.ref, erased.batch, opened.fence, erased.key, now)
    post.hear()
    assert [entry.address for entry in setup.suppression.entries_for("default", message.key)] == ["", message.address]
    assert [entry.address for entry in setup.suppression.entries_for("default", erased.key)] == [""]
