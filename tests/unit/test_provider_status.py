"""The reported half of a message's record: the same whatever the order, and never undone by the other half."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.model.event import MAX_DETAIL, MAX_RAW, Bounce, BounceClass, BounceType, Event, EventKind, StatusRank, status_after
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Settlement
from postroom.model.provider_status import (
    MAX_ENGAGEMENT_EVENTS,
    MAX_EVENTS,
    ReportedStatus,
    event_from_settlement,
    redact_event,
    reply_text,
    sort_events,
    truncate_event,
)
from postroom.model.tokens import MAX_ATTEMPT

KEY = Key(bytes(12))


def event(kind: EventKind, attempt: int = 1, at: int = 0, *, machine: bool = False, detail: str = "") -> Event:
    return Event(kind=kind, attempt=attempt, at=Instant(at), id="e", source="dsn", machine=machine, detail=detail)


events = st.lists(
    st.builds(
        event,
        st.sampled_from(EventKind),
        st.sampled_from([1, 2, 3, MAX_ATTEMPT, MAX_ATTEMPT + 9]),
        st.integers(0, 5),
        machine=st.booleans(),
        detail=st.sampled_from(["", "a", "b"]),
    ),
    max_size=9,
)
standings = st.builds(StatusRank, st.integers(0, 40), st.sampled_from(MessageStatus))


def heard(reports: list[Event]) -> ReportedStatus:
    news = ReportedStatus()
    for report in reports:
        news = news.hear(report)
    return news


@given(events, st.integers())
def test_any_order_of_events_makes_the_same_news(reports: list[Event], seed: int) -> None:
    shuffled = list(reports)
    random.Random(seed).shuffle(shuffled)
    assert heard(shuffled) == heard(reports)


@given(standings, events)
def test_a_message_stands_where_the_rule_for_single_events_leaves_it(outcome: StatusRank, reports: list[Event]) -> None:
    expected = outcome
    for report in reports:
        expected = status_after(expected, report)
    stands = heard(reports).ahead_of(outcome) or outcome
    if any(report.attempt > MAX_ATTEMPT for report in reports):
        return  # no token says that
    assert stands.rank == expected.rank


def test_machines_are_heard_and_are_nobody() -> None:
    news = heard([event(EventKind.OPENED, machine=True), event(EventKind.CLICKED, machine=True)])
    assert (news.opened, news.clicked, news.events) == (None, None, 2)
    assert news.hear(event(EventKind.OPENED, at=7)).opened == 7


def test_the_last_wish_counts() -> None:
    news = heard([event(EventKind.RESUBSCRIBED, at=5), event(EventKind.UNSUBSCRIBED, at=3)])
    assert news.unsubscribed_at is None
    assert news.hear(event(EventKind.UNSUBSCRIBED, at=6)).unsubscribed_at == 6


def test_a_link_that_is_fetched_without_end_fills_no_store() -> None:
    full = ReportedStatus(events=MAX_ENGAGEMENT_EVENTS)
    assert not full.takes(event(EventKind.OPENED))
    assert full.takes(event(EventKind.BOUNCED))
    assert full.takes(event(EventKind.UNSUBSCRIBED))


def test_an_event_is_stored_within_its_limits_and_as_text_that_any_store_gives_back() -> None:
    odd = event(EventKind.BOUNCED, detail="a\0b\ud800" + "x" * 999)
    tidied = truncate_event(odd)
    assert tidied.detail.startswith("a\N{REPLACEMENT CHARACTER}b?x")
    assert len(tidied.detail) == MAX_DETAIL
    assert truncate_event(tidied) == tidied
    assert (
        len(truncate_event(Event(kind=EventKind.SENT, attempt=1, at=Instant(0), id="i", source="s", raw="r" * 9_999)).raw)
        == MAX_RAW
    )


def test_the_recipient_s_own_traces_go_and_the_rest_of_an_event_stays() -> None:
    bounce = Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")
    told = Event(
        kind=EventKind.BOUNCED, attempt=1, at=Instant(3), id="i", source="dsn", bounce=bounce, detail="d", url="u", raw="r"
    )
    assert redact_event(told) == Event(kind=EventKind.BOUNCED, attempt=1, at=Instant(3), id="i", source="dsn", bounce=bounce)


def test_the_record_shows_the_code_once() -> None:
    bounce = Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")
    made = Event(kind=EventKind.BOUNCED, attempt=1, at=Instant(3), id="i", source="dsn", bounce=bounce, detail="no such user")
    assert reply_text(made) == "5.1.1 no such user"
    assert reply_text(truncate_event(event(EventKind.BOUNCED, detail="5.1.1 no"))) == "5.1.1 no"


def test_our_own_outcomes_become_events_of_the_common_vocabulary() -> None:
    def told(state: MessageStatus, code: int, reply: str, attempt: int = 2) -> Event | None:
        return event_from_settlement(Settlement(KEY, state, attempt, Instant(9), None, code, reply))

    refused = told(MessageStatus.BOUNCED, 550, "5.1.1 no such user")
    assert refused is not None
    assert (refused.kind, refused.attempt, refused.at) == (EventKind.BOUNCED, 2, 9)
    assert refused.bounce == Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")
    plain, nowhere = told(MessageStatus.BOUNCED, 550, "no"), told(MessageStatus.BOUNCED, 550, "5.1.2 no such host")
    assert plain is not None
    assert nowhere is not None
    assert plain.bounce == Bounce(BounceType.HARD, BounceClass.MAILBOX, "550")
    assert nowhere.bounce == Bounce(BounceType.HARD, BounceClass.DOMAIN, "5.1.2")
    kinds = [made and made.kind for made in (told(state, 0, "") for state in MessageStatus)]
    assert kinds.count(EventKind.DELAYED) == 2
    assert kinds.count(EventKind.REJECTED) == 1
    assert told(MessageStatus.SKIPPED, 0, "") is None
    assert told(MessageStatus.FAILED, 0, "", attempt=0) is None


def test_a_timeline_is_in_the_order_of_time() -> None:
    told = [event(EventKind.CLICKED, at=9), event(EventKind.DELIVERED, at=5), event(EventKind.SENT, at=5)]
    assert [each.kind for each in sort_events(told)] == [EventKind.SENT, EventKind.DELIVERED, EventKind.CLICKED]


def test_a_message_of_which_reports_never_end_hears_only_what_moves_it() -> None:
    full = heard([event(EventKind.DELAYED)] * MAX_EVENTS)
    assert not any(full.takes(event(kind)) for kind in (EventKind.DELAYED, EventKind.UNSUBSCRIBED, EventKind.RESUBSCRIBED))
    assert full.takes(event(EventKind.BOUNCED))
    bounced = full.hear(event(EventKind.BOUNCED))
    assert not bounced.takes(event(EventKind.BOUNCED, at=-1))
    assert bounced.takes(event(EventKind.COMPLAINED))
