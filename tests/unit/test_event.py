"""Reports from outside: idempotent, order-free, and never undoing a newer attempt."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.model.event import Event, Report, Standing, apply
from postroom.model.message import MessageState
from postroom.model.wire import MAX_ATTEMPT

events = st.lists(st.builds(Event, st.sampled_from(Report), st.integers(1, 3), st.integers(0, 9).map(Instant)), max_size=8)
standings = st.builds(Standing, st.integers(0, 3), st.sampled_from(MessageState))


def _apply_all(standing: Standing, reports: list[Event]) -> Standing:
    for event in reports:
        standing = apply(standing, event)
    return standing


@given(standings, events, st.integers())
def test_any_order_and_any_repetition_end_at_the_same_standing(standing: Standing, reports: list[Event], seed: int) -> None:
    shuffled = reports + reports[: len(reports) // 2]
    random.Random(seed).shuffle(shuffled)
    assert _apply_all(standing, shuffled) == _apply_all(standing, reports)


@given(standings, events)
def test_a_standing_never_goes_back(standing: Standing, reports: list[Event]) -> None:
    for event in reports:
        after = apply(standing, event)
        assert after.rank >= standing.rank
        standing = after


def test_news_of_an_old_attempt_leaves_a_newer_one_alone() -> None:
    standing = Standing(2, MessageState.DEFERRED)
    assert apply(standing, Event(Report.BOUNCED, 1, Instant(0))) == standing


def test_a_late_report_settles_what_was_unknown() -> None:
    standing = Standing(1, MessageState.UNKNOWN)
    assert apply(standing, Event(Report.SENT, 1, Instant(0))).state is MessageState.SENT


def test_a_bounce_after_delivery_counts_and_delivery_after_a_bounce_does_not() -> None:
    delivered = Standing(1, MessageState.DELIVERED)
    bounced = apply(delivered, Event(Report.BOUNCED, 1, Instant(0)))
    assert bounced.state is MessageState.BOUNCED
    assert apply(bounced, Event(Report.DELIVERED, 1, Instant(1))) == bounced


def test_a_report_of_the_last_attempt_the_wire_can_tell_is_about_the_newest() -> None:
    assert apply(Standing(40, MessageState.SENT), Event(Report.BOUNCED, MAX_ATTEMPT, Instant(0))).state is MessageState.BOUNCED
