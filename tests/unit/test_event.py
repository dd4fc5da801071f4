"""Reports from outside: idempotent, order-free, and never undoing a newer attempt."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.model.event import Event, EventKind, StatusRank, status_after
from postroom.model.message import MessageStatus
from postroom.model.tokens import MAX_ATTEMPT


def event(kind: EventKind, attempt: int, at: int = 0) -> Event:
    return Event(kind=kind, attempt=attempt, at=Instant(at), id=f"{kind}-{attempt}-{at}", source="dsn")


events = st.lists(st.builds(event, st.sampled_from(EventKind), st.integers(1, 3), st.integers(0, 9)), max_size=8)
standings = st.builds(StatusRank, st.integers(0, 3), st.sampled_from(MessageStatus))


def _apply_all(standing: StatusRank, reports: list[Event]) -> StatusRank:
    for report in reports:
        standing = status_after(standing, report)
    return standing


@given(standings, events, st.integers())
def test_any_order_and_any_repetition_end_at_the_same_standing(standing: StatusRank, reports: list[Event], seed: int) -> None:
    shuffled = reports + reports[: len(reports) // 2]
    random.Random(seed).shuffle(shuffled)
    assert _apply_all(standing, shuffled) == _apply_all(standing, reports)


@given(standings, events)
def test_a_standing_never_goes_back(standing: StatusRank, reports: list[Event]) -> None:
    for report in reports:
        after = status_after(standing, report)
        assert after.rank >= standing.rank
        standing = after


def test_news_of_an_old_attempt_leaves_a_newer_one_alone() -> None:
    standing = StatusRank(2, MessageStatus.DEFERRED)
    assert status_after(standing, event(EventKind.BOUNCED, 1, 0)) == standing


def test_a_late_report_settles_what_was_unknown() -> None:
    standing = StatusRank(1, MessageStatus.UNKNOWN)
    assert status_after(standing, event(EventKind.SENT, 1, 0)).status is MessageStatus.SENT


def test_a_bounce_after_delivery_counts_and_delivery_after_a_bounce_does_not() -> None:
    delivered = StatusRank(1, MessageStatus.DELIVERED)
    bounced = status_after(delivered, event(EventKind.BOUNCED, 1, 0))
    assert bounced.status is MessageStatus.BOUNCED
    assert status_after(bounced, event(EventKind.DELIVERED, 1, 1)) == bounced


def test_a_report_of_the_last_attempt_the_wire_can_tell_is_about_the_newest() -> None:
    assert (
        status_after(StatusRank(40, MessageStatus.SENT), event(EventKind.BOUNCED, MAX_ATTEMPT, 0)).status is MessageStatus.BOUNCED
    )


@given(standings, st.integers(1, 3))
def test_what_people_do_with_a_mail_moves_nothing(standing: StatusRank, attempt: int) -> None:
    for kind in (EventKind.OPENED, EventKind.CLICKED, EventKind.UNSUBSCRIBED, EventKind.DELAYED, EventKind.QUEUED):
        assert status_after(standing, event(kind, attempt)) == standing
