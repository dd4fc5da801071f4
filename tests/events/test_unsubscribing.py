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
from tests.events.feedback_kit import Post
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench

CAMPAIGN = "a" * 16
ANNA, BEN = Key(b"a" * 12), Key(b"b" * 12)
UNSUBSCRIBED, RESUBSCRIBED = EventKind.UNSUBSCRIBED, EventKind.RESUBSCRIBED


class Desk:
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
def desk(made: Bench) -> Desk:
    return Desk(made)


def test_a_wish_is_on_the_list_and_told(desk: Desk) -> None:
    wish = desk.unsubscribing.unsubscribe(desk.token(), source="by hand")
    entry = desk.suppression.get("default", ANNA)
    assert wish.no_mail == entry
    assert entry is not None
    assert (entry.reason, entry.address, entry.topic) == (SuppressionReason.UNSUBSCRIBE, "", None)
    (told,) = desk.arrived()
    assert (told.tenant, told.campaign, told.batch, told.key) == (0, CAMPAIGN, None, ANNA)
    assert (told.event.kind, told.event.attempt, told.event.source) == (UNSUBSCRIBED, 0, "unsubscribe")
    assert told.event.detail == "from all mail, by hand"


@pytest.mark.parametrize(
    ("topic", "everything", "left"),
    [(None, None, {None}), (None, False, {None}), (None, True, {None}), ("news", None, {"news"}), ("news", True, {None})],
)
def test_what_is_left_is_what_was_said(desk: Desk, topic: str | None, everything: bool | None, left: set[str | None]) -> None:
    desk.unsubscribing.unsubscribe(desk.token(topic=topic), everything=everything)
    assert {entry.topic for entry in desk.suppression.entries_for("default", ANNA)} == left
    assert desk.suppression.entries_for("default", BEN) == []


def test_two_clicks_are_one_event_and_changing_ones_mind_twice_is_three(desk: Desk) -> None:
    token = desk.token(topic="news")
    for _ in range(2):
        desk.unsubscribing.unsubscribe(token)
        desk.made.clock.advance(5)
    assert desk.kinds() == [UNSUBSCRIBED]
    desk.unsubscribing.resubscribe(token)
    desk.unsubscribing.resubscribe(token)
    desk.unsubscribing.unsubscribe(token)
    assert desk.kinds() == [RESUBSCRIBED, UNSUBSCRIBED]
    desk.made.clock.advance(5)
    desk.unsubscribing.resubscribe(token)
    assert desk.kinds() == [RESUBSCRIBED]
    assert desk.suppression.entries_for("default", ANNA) == []


def test_topic_and_all_mail_are_two_wishes(desk: Desk) -> None:
    token = desk.token(topic="news")
    desk.unsubscribing.unsubscribe(token)
    wish = desk.unsubscribing.unsubscribe(token, everything=True)
    assert wish.no_mail is not None
    assert wish.no_topic is not None
    assert desk.kinds() == [UNSUBSCRIBED, UNSUBSCRIBED]
    wish = desk.unsubscribing.resubscribe(token, everything=True)
    assert (wish.no_mail, wish.no_topic) == (None, None)
    assert desk.kinds() == [RESUBSCRIBED]


def test_taking_back_leaves_other_topics_and_other_reasons(desk: Desk) -> None:
    for topic in ("news", "offers"):
        desk.unsubscribing.unsubscribe(desk.token(topic=topic))
    desk.suppression.add("default", ANNA, address="a@a.example", reason=SuppressionReason.COMPLAINT)
    desk.arrived()
    wish = desk.unsubscribing.resubscribe(desk.token(topic="news"), everything=True)
    assert wish.no_topic is None
    assert wish.no_mail is not None
    assert wish.no_mail.reason is SuppressionReason.COMPLAINT
    assert [entry.topic for entry in desk.suppression.entries_for("default", ANNA)] == [None, "offers"]
    assert desk.kinds() == [RESUBSCRIBED]


def test_who_never_unsubscribed_takes_nothing_back(desk: Desk) -> None:
    desk.suppression.add("default", ANNA, address="a@a.example", reason=SuppressionReason.BOUNCE)
    wish = desk.unsubscribing.resubscribe(desk.token())
    assert wish.no_mail is not None
    assert wish.no_mail.reason is SuppressionReason.BOUNCE
    assert desk.kinds() == []


def test_looking_changes_nothing(desk: Desk) -> None:
    assert desk.unsubscribing.state(desk.token()).no_mail is None
    assert desk.suppression.entries_for("default", ANNA) == []
    assert desk.kinds() == []


def test_only_tokens_of_ours_say_anything(desk: Desk) -> None:
    token = desk.token(topic="news")
    forged = TokenSealer(Tenant("default", 0, b"x" * 32), CAMPAIGN).unsubscribe(ANNA)
    nobodys = TokenSealer(Tenant("nobody", 77, b"x" * 32), CAMPAIGN).unsubscribe(ANNA)
    for text in (forged, nobodys, token.partition(".")[0], token[:-1], token + "x", "", "é"):
        with pytest.raises((Invalid, NotFound)):
            desk.unsubscribing.unsubscribe(text)
    assert desk.suppression.entries_for("default", ANNA) == []


def test_people_of_a_tenant_that_is_disabled_are_heard(desk: Desk) -> None:
    tenant = desk.tenants.create("closed")
    desk.tenants.disable("closed")
    desk.unsubscribing.unsubscribe(TokenSealer(tenant, CAMPAIGN).unsubscribe(ANNA))
    assert desk.suppression.get("closed", ANNA) is not None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 6))
def test_killed_anywhere_and_said_again_it_is_one_wish(made: Bench, at: int, after: bool) -> None:
    """Or it never was, and nobody was told."""
    desk = Desk(made, Faults(at, after=after))
    with pytest.raises(Killed):
        _repeat(lambda: desk.unsubscribing.unsubscribe(desk.token()))
    told = desk.ids()
    assert desk.suppression.entries_for("default", ANNA) or not told
    made.clock.advance(60)
    again = Desk(made)
    again.unsubscribing.unsubscribe(again.token())
    assert [entry.reason for entry in again.suppression.entries_for("default", ANNA)] == [SuppressionReason.UNSUBSCRIBE]
    assert len(told | again.ids()) == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 5))
def test_killed_anywhere_and_taken_back_again_it_is_taken_back_and_told(made: Bench, at: int, after: bool) -> None:
    Desk(made).unsubscribing.unsubscribe(Desk(made).token())
    Desk(made).arrived()
    desk = Desk(made, Faults(at, after=after))
    with pytest.raises(Killed):
        _repeat(lambda: desk.unsubscribing.resubscribe(desk.token()))
    told = desk.ids()
    assert told or desk.suppression.entries_for("default", ANNA)
    again = Desk(made)
    again.unsubscribing.resubscribe(again.token())
    assert len(told | again.ids()) == 1
    assert again.suppression.entries_for("default", ANNA) == []


def _repeat(call: Callable[[], object]) -> None:
    """So that there are as many calls of the stores as any fault needs."""
    for _ in range(3):
        call()


def test_an_unsubscribe_reaches_the_timeline_of_its_message(made: Bench) -> None:
    """Also when the worker hears of it after the person took it back: it does not enter them again."""
    post, desk = Post(made), Desk(made)
    campaign = made.campaign(people=4)
    message = post.send_all(campaign)[0]
    token = desk.token(message.key, campaign=campaign.ref.campaign)
    desk.unsubscribing.unsubscribe(token)
    made.clock.advance(1)
    desk.unsubscribing.resubscribe(token)
    post.hear()
    assert desk.suppression.entries_for("default", message.key) == []
    timeline = made.messages.timeline(campaign.ref, message.batch, message.key)
    assert [event.kind for event in timeline if event.source == "unsubscribe"] == [UNSUBSCRIBED, RESUBSCRIBED]


@pytest.mark.parametrize("topic", [None, "news"])
def test_the_entry_says_whose_it_is_and_where_it_comes_from_once_the_event_has_found_its_message(
    made: Bench, topic: str | None
) -> None:
    """The link names neither; an export would leave the person out."""
    post, desk = Post(made), Desk(made)
    campaign = made.campaign(people=4)
    message = post.send_all(campaign)[0]
    token = desk.token(message.key, campaign=campaign.ref.campaign, topic=topic)
    desk.unsubscribing.unsubscribe(token, source="by the link")
    before = desk.suppression.get("default", message.key, topic=topic)
    assert before is not None
    post.hear()
    (entry,) = desk.suppression.entries_for("default", message.key)
    timeline = made.messages.timeline(campaign.ref, message.batch, message.key)
    (event,) = (event for event in timeline if event.kind is UNSUBSCRIBED)
    assert entry == replace(
        before,
        address=message.address,
        note=f"from {topic or 'all mail'}, by the link",
        source=f"{message_id(campaign.ref, message.key)}/{event.id}",
    )
    desk.unsubscribing.resubscribe(token)
    assert desk.suppression.entries_for("default", message.key) == []


def test_no_other_entry_is_explained_by_an_unsubscribe(made: Bench) -> None:
    """Nor one of a person who was erased in between."""
    post, desk = Post(made), Desk(made)
    campaign = made.campaign(people=4)
    message, erased = post.send_all(campaign)[:2]
    desk.suppression.add("default", message.key, address="", reason=SuppressionReason.BOUNCE)
    desk.unsubscribing.unsubscribe(desk.token(message.key, campaign=campaign.ref.campaign, topic="news"))
    desk.unsubscribing.unsubscribe(desk.token(erased.key, campaign=campaign.ref.campaign))
    now = made.clock.now()
    opened = made.messages.open(campaign.ref, erased.batch, "w", now, lease_ms=1_000)
    assert opened is not None
    made.messages.erase(campaign.ref, erased.batch, opened.fence, erased.key, now)
    post.hear()
    assert [entry.address for entry in desk.suppression.entries_for("default", message.key)] == ["", message.address]
    assert [entry.address for entry in desk.suppression.entries_for("default", erased.key)] == [""]
