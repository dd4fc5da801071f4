"""The promise of `ports.messages.report` on every backend: what comes back is noted once, and undoes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound
from postroom.model.event import Event, EventKind
from postroom.model.message import ERASED, Counts, Engagement, Totals
from postroom.model.provider_status import MAX_ENGAGEMENT_EVENTS
from postroom.platform.ports.messages import MAX_EVENTS_PER_CALL, Messages, ReportedEvent
from tests.contract.backend import Backend
from tests.contract.messages_kit import (
    CAMPAIGN,
    HARD,
    LEASE_MS,
    NOW,
    K,
    S,
    at,
    event,
    key,
    listed,
    opened,
    outcome,
    record,
    row,
    stands,
    states,
    stored,
)

pytestmark = pytest.mark.backends("embedded", "aws", "dynamodb")


def report(messages: Messages, n: int, *events: Event, batch: int = 0) -> Sequence[bool]:
    return messages.record_events(CAMPAIGN, [ReportedEvent(batch, key(n), one) for one in events], at(9))


def kinds(messages: Messages, n: int) -> list[EventKind]:
    return [one.kind for one in messages.timeline(CAMPAIGN, 0, key(n))]


def sent(messages: Messages, *numbers: int) -> int:
    """A campaign of three, these recorded as sent and the batch given back; the fence it had."""
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(n) for n in numbers])
    messages.close(CAMPAIGN, 0, fence)
    return fence


def test_a_report_moves_the_record_and_the_sums_and_stands_on_the_timeline(backend: Backend, messages: Messages) -> None:
    sent(messages, 0, 1)
    bounced = event(K.BOUNCED, ms=5, detail="no such user")
    assert report(messages, 0, bounced) == [True]
    other = backend.messages()
    found = stands(other, 0)
    assert (found.status, found.attempt, found.at, found.due, found.code, found.reply, found.provider_id) == (
        *(S.BOUNCED, 1, at(5), None, 0, "5.1.1 no such user"),
        "id-0",
    )
    assert kinds(other, 0) == [K.SENT, K.BOUNCED]
    assert other.timeline(CAMPAIGN, 0, key(0))[1] == bounced
    assert other.counts(CAMPAIGN) == Counts(pending=1, sent=1, bounced=1)
    assert [found.key for found in listed(other, wanted=[S.BOUNCED])] == [key(0)]
    assert [found.key for found in listed(other, wanted=[S.SENT])] == [key(1)]
    assert [one.status for one in other.find(CAMPAIGN, 0, [key(0)])] == [S.BOUNCED]


def test_it_is_counted_when_asked_and_cheap_again_after_a_recount(messages: Messages) -> None:
    sent(messages, 0)
    assert messages.stale(CAMPAIGN) == []
    report(messages, 0, event(K.DELIVERED))
    assert messages.stale(CAMPAIGN) == [0]
    assert messages.batches(CAMPAIGN)[0].counts == Counts(pending=2, delivered=1)
    messages.recount(CAMPAIGN, messages.stale(CAMPAIGN))
    assert messages.stale(CAMPAIGN) == []
    assert messages.counts(CAMPAIGN) == Counts(pending=2, delivered=1)
    assert messages.batches(CAMPAIGN)[0].counts == Counts(pending=2, delivered=1)


def test_again_it_changes_nothing(messages: Messages) -> None:
    sent(messages, 0)
    assert report(messages, 0, event(K.BOUNCED), event(K.BOUNCED)) == [True, False]
    before = stands(messages, 0)
    assert report(messages, 0, event(K.BOUNCED), event(K.DELIVERED)) == [False, True]
    assert stands(messages, 0) == before
    assert kinds(messages, 0) == [K.SENT, K.DELIVERED, K.BOUNCED]


def test_answers_are_aligned_whatever_the_mix(messages: Messages) -> None:
    sent(messages, 0, 1)
    reports = [
        ReportedEvent(0, key(1), event(K.DELIVERED)),
        ReportedEvent(0, key(77), event(K.DELIVERED)),
        ReportedEvent(0, key(0), event(K.OPENED, ms=1)),
        ReportedEvent(0, key(1), event(K.DELIVERED)),
        ReportedEvent(0, key(1), event(K.CLICKED, ms=2)),
    ]
    assert messages.record_events(CAMPAIGN, reports, NOW) == [True, False, True, False, True]
    assert kinds(messages, 1) == [K.SENT, K.DELIVERED, K.CLICKED]
    assert messages.get(CAMPAIGN, 0, key(77)) is None


def test_one_call_tells_of_many_batches(messages: Messages) -> None:
    stored(messages, 0, 1, 2)
    reports = [ReportedEvent(batch, key(n), event(K.DELIVERED)) for n in range(2) for batch in (2, 0)]
    assert messages.record_events(CAMPAIGN, reports, NOW) == [True] * 4
    assert messages.stale(CAMPAIGN) == [0, 2]
    assert messages.counts(CAMPAIGN) == Counts(pending=5, delivered=4)
    assert [batch.counts.delivered for batch in messages.batches(CAMPAIGN)] == [2, 0, 2]
    assert messages.record_events(CAMPAIGN, reports, NOW) == [False] * 4


def test_who_did_what_is_counted_once_a_message_and_machines_are_nobody(messages: Messages) -> None:
    sent(messages, 0, 1)
    report(messages, 0, event(K.OPENED, ms=8), event(K.OPENED, ms=4), event(K.CLICKED, ms=6))
    report(messages, 1, event(K.OPENED, ms=3, machine=True), event(K.UNSUBSCRIBED, ms=7))
    first, second = stands(messages, 0), stands(messages, 1)
    assert (first.status, first.opened_at, first.clicked_at, first.unsubscribed_at) == (S.SENT, at(4), at(6), None)
    assert (second.opened_at, second.clicked_at, second.unsubscribed_at) == (None, None, at(7))
    engagement = Engagement(opened=1, clicked=1, unsubscribed=1)
    assert messages.totals(CAMPAIGN) == Totals(Counts(pending=1, sent=2), engagement)
    messages.recount(CAMPAIGN)
    assert messages.totals(CAMPAIGN).engagement == engagement
    assert messages.batches(CAMPAIGN)[0].engagement == engagement
    assert [one.machine for one in messages.timeline(CAMPAIGN, 0, key(1))] == [False, True, False]


def test_who_takes_an_unsubscribe_back_is_not_counted(messages: Messages) -> None:
    sent(messages, 0)
    report(messages, 0, event(K.RESUBSCRIBED, ms=5))
    report(messages, 0, event(K.UNSUBSCRIBED, ms=2))
    assert stands(messages, 0).unsubscribed_at is None
    assert messages.totals(CAMPAIGN).engagement == Engagement()
    report(messages, 0, event(K.UNSUBSCRIBED, ms=6))
    assert messages.totals(CAMPAIGN).engagement == Engagement(unsubscribed=1)


def test_a_report_that_comes_before_the_worker_has_recorded_is_not_undone(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [], [0, 1])
    assert report(messages, 0, event(K.BOUNCED, ms=3)) == [True]
    assert stands(messages, 0).status is S.BOUNCED
    record(messages, fence, [outcome(0, ms=4), outcome(1, ms=4)])
    found = stands(messages, 0)
    assert (found.status, found.at, found.provider_id) == (S.BOUNCED, at(3), "id-0")
    assert kinds(messages, 0) == [K.BOUNCED, K.SENT]
    assert states(messages) == [S.BOUNCED, S.SENT, S.PENDING]
    messages.close(CAMPAIGN, 0, fence)
    assert messages.counts(CAMPAIGN) == Counts(pending=1, sent=1, bounced=1)


def test_a_report_needs_no_lease_and_breaks_none(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0)], [1])
    report(messages, 0, event(K.DELIVERED))
    assert messages.counts(CAMPAIGN) == Counts(pending=1, sending=1, delivered=1)
    messages.extend(CAMPAIGN, 0, fence, NOW, lease_ms=LEASE_MS)
    record(messages, fence, [outcome(1)])
    assert messages.close(CAMPAIGN, 0, fence).counts == Counts(pending=1, sent=1, delivered=1)


@pytest.mark.parametrize("kind", [K.BOUNCED, K.COMPLAINED, K.DELIVERED, K.REJECTED])
def test_what_has_ended_meanwhile_is_no_work_whatever_was_to_become_of_it(messages: Messages, kind: EventKind) -> None:
    stored(messages, 0, each=4)
    fence = opened(messages)
    record(messages, fence, [outcome(0, S.DEFERRED, due=10), outcome(1, S.UNKNOWN, due=10), outcome(2, S.FAILED)])
    record(messages, fence, [outcome(2, S.PENDING)])
    messages.close(CAMPAIGN, 0, fence)
    for n in range(3):
        report(messages, n, event(kind))
    assert [one.key for one in messages.load(CAMPAIGN, 0, at(20), 100)] == [key(3)]
    assert messages.unsettled(CAMPAIGN) == 0
    assert messages.counts(CAMPAIGN).waiting == 1
    messages.recount(CAMPAIGN)
    assert messages.unsettled(CAMPAIGN) == 0
    fence = opened(messages, "w2", ms=LEASE_MS)
    record(messages, fence, [outcome(2, S.PENDING)])
    assert [one.key for one in messages.load(CAMPAIGN, 0, at(20), 100)] == [key(3)]


def test_news_of_an_old_attempt_leave_a_newer_one_alone(messages: Messages) -> None:
    sent(messages)
    fence = opened(messages, "w2")
    record(messages, fence, [outcome(0, S.DEFERRED, due=10)])
    record(messages, fence, [outcome(0, attempt=2, ms=11)])
    report(messages, 0, event(K.BOUNCED, attempt=1))
    assert (stands(messages, 0).status, stands(messages, 0).attempt) == (S.SENT, 2)
    report(messages, 0, event(K.DELIVERED, attempt=2))
    assert stands(messages, 0).status is S.DELIVERED


def test_the_timeline_tells_each_attempt_that_was_no_success(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    deferred = outcome(0, S.DEFERRED, due=10)._replace(code=451, reply="4.7.1 later")
    record(messages, fence, [deferred])
    record(messages, fence, [deferred])
    record(messages, fence, [outcome(0, S.BOUNCED, attempt=2, ms=11)._replace(code=550, reply="5.1.1 no such user")])
    told = messages.timeline(CAMPAIGN, 0, key(0))
    assert [(one.kind, one.attempt, one.at, one.detail) for one in told] == [
        (K.DELAYED, 1, at(0), "4.7.1 later"),
        (K.BOUNCED, 2, at(11), "5.1.1 no such user"),
    ]
    assert told[1].bounce == HARD
    assert messages.timeline(CAMPAIGN, 0, key(1)) == []
    assert messages.timeline(CAMPAIGN, 0, key(77)) == []


def test_nobody_to_report_of(messages: Messages) -> None:
    stored(messages, 0)
    assert report(messages, 0, event(K.DELIVERED), batch=1) == [False]
    assert messages.batches(CAMPAIGN)[0].counts == Counts(pending=3)
    messages.drop(CAMPAIGN)
    with pytest.raises(NotFound):
        report(messages, 0, event(K.DELIVERED))
    with pytest.raises(NotFound):
        messages.timeline(CAMPAIGN, 0, key(0))
    stored(messages, 0)
    assert messages.timeline(CAMPAIGN, 0, key(0)) == []


def test_a_dropped_campaign_keeps_no_event(messages: Messages) -> None:
    sent(messages, 0)
    report(messages, 0, event(K.BOUNCED))
    messages.drop(CAMPAIGN)
    stored(messages, 0)
    assert messages.timeline(CAMPAIGN, 0, key(0)) == []


def test_a_hundred_reports_a_call_and_no_more(messages: Messages) -> None:
    sent(messages, 0)
    many = [event(K.OPENED, ms=ms) for ms in range(MAX_EVENTS_PER_CALL)]
    assert report(messages, 0, *many) == [True] * MAX_EVENTS_PER_CALL
    with pytest.raises(Invalid):
        report(messages, 0, *many, event(K.CLICKED))
    assert report(messages, 0) == []


def test_odd_text_is_kept_as_text(messages: Messages) -> None:
    sent(messages, 0)
    odd = event(K.BOUNCED, name="\ud800<x@y>\0 #", detail="a\0\ud800" + "ü" * 999)
    assert report(messages, 0, odd, odd) == [True, False]
    assert report(messages, 0, odd) == [False]
    told = messages.timeline(CAMPAIGN, 0, key(0))[1]
    assert told.detail.startswith("a\N{REPLACEMENT CHARACTER}?üü")
    assert stands(messages, 0).reply.startswith("5.1.1 a")


def test_an_erased_recipient_is_told_of_no_more(backend: Backend, messages: Messages) -> None:
    sent(messages, 0)
    report(messages, 0, event(K.BOUNCED, detail="<r0@example.org> unknown"), event(K.CLICKED, ms=5))
    fence = opened(messages, "w2")
    assert messages.erase(CAMPAIGN, 0, fence, key(0), at(9))
    report(messages, 0, event(K.COMPLAINED, ms=8, detail="r0@example.org"))
    found, told = stands(messages, 0), backend.messages().timeline(CAMPAIGN, 0, key(0))
    assert (found.address, found.status, found.reply) == (ERASED, S.COMPLAINED, "")
    assert [one.kind for one in told if one.source == "dsn"] == [K.BOUNCED, K.CLICKED, K.COMPLAINED]
    assert {(one.detail, one.url, one.raw) for one in told} == {("", "", "")}
    assert told[-1].id
    assert not messages.erase(CAMPAIGN, 0, fence, key(0), at(9))


def test_a_row_of_a_lower_line_takes_no_key_of_which_there_is_news(messages: Messages) -> None:
    messages.create(CAMPAIGN, 1)
    messages.store(CAMPAIGN, [row(0, line=9)], NOW)
    report(messages, 0, event(K.DELIVERED))
    assert messages.store(CAMPAIGN, [row(0, line=2, address="other@example.org")], NOW) == [9]


@pytest.mark.backends("embedded")  # a thousand requests elsewhere: the rule is model.news'
def test_a_link_that_is_fetched_without_end_fills_no_store(messages: Messages) -> None:
    sent(messages, 0)
    for first in range(0, MAX_ENGAGEMENT_EVENTS, MAX_EVENTS_PER_CALL):
        report(messages, 0, *[event(K.OPENED, ms=first + ms) for ms in range(MAX_EVENTS_PER_CALL)])
    assert report(messages, 0, event(K.OPENED, ms=5_000), event(K.UNSUBSCRIBED)) == [False, True]
    assert len(messages.timeline(CAMPAIGN, 0, key(0))) == MAX_ENGAGEMENT_EVENTS + 2


def test_many_reporters_and_a_worker_at_the_same_time(backend: Backend, messages: Messages) -> None:
    stored(messages, 0, each=6)
    fence = opened(messages)
    clients = [backend.messages() for _ in range(3)]
    failed: list[BaseException] = []

    def tell(client: Messages, turn: int) -> None:
        try:
            for n in range(6):
                client.record_events(
                    CAMPAIGN,
                    [ReportedEvent(0, key(n), event(K.DELIVERED)), ReportedEvent(0, key(n), event(K.OPENED, ms=turn))],
                    NOW,
                )
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [Thread(target=tell, args=(client, turn)) for turn, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for n in range(6):
        record(messages, fence, [outcome(n)], [])
    for thread in threads:
        thread.join()
    assert failed == []
    messages.close(CAMPAIGN, 0, fence)
    assert states(messages, keys=range(6)) == [S.DELIVERED] * 6
    assert messages.totals(CAMPAIGN) == Totals(Counts(delivered=6), Engagement(opened=6))
    assert {len(messages.timeline(CAMPAIGN, 0, key(n))) for n in range(6)} == {5}
    assert {stands(messages, n).opened_at for n in range(6)} == {Instant(NOW)}
