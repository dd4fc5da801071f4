"""What a kill between any two requests of a report leaves in the table, and that a repeat makes it whole, each event heard once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postroom.model.message import Counts, Engagement, Totals
from postroom.platform.aws.messages import DynamoMessages
from postroom.platform.ports.messages import Messages, ReportedEvent
from tests.aws.faults import Interruption, LostAnswers
from tests.aws.test_messages_crash import Worker, deaths
from tests.contract.aws_backend import AwsBackend
from tests.contract.messages_kit import CAMPAIGN, K, S, at, event, key, listed, opened, outcome, record, stands, stored

REPORTS = [
    ReportedEvent(0, key(0), event(K.BOUNCED, ms=5, detail="no such user")),
    ReportedEvent(1, key(0), event(K.OPENED, ms=6)),
    ReportedEvent(0, key(0), event(K.COMPLAINED, ms=7)),
    ReportedEvent(1, key(2), event(K.UNSUBSCRIBED, ms=8)),
]
AFTERWARDS = Totals(Counts(pending=4, sent=1, complained=1), Engagement(opened=1, unsubscribed=1))


def two_sent(messages: DynamoMessages) -> None:
    stored(messages, 0, 1)
    for batch in (0, 1):
        fence = opened(messages, batch=batch)
        record(messages, fence, [outcome(0)], batch=batch)
        messages.close(CAMPAIGN, batch, fence)


def tell(messages: DynamoMessages, _: Any = None) -> object:
    return messages.record_events(CAMPAIGN, REPORTS, at(9))


def seen(messages: Messages) -> object:
    found = listed(messages)
    return found, [messages.timeline(CAMPAIGN, one.batch, one.key) for one in found]


def test_a_report_that_was_cut_short_is_completed_by_a_repeat_and_counted_once(backend: AwsBackend) -> None:
    """Whatever had come through of it; and nobody sees half of what it makes of a message."""
    whole = backend.messages()
    two_sent(whole)
    assert tell(whole) == [True] * len(REPORTS)
    wanted, partly = seen(whole), set()
    for worker, _ in deaths(backend, two_sent, tell):
        for one in listed(worker.messages):
            told = [each for each in worker.messages.timeline(CAMPAIGN, one.batch, one.key) if each.kind is not K.SENT]
            whole_of_it = [each.event for each in REPORTS if (each.batch, each.key) == (one.batch, one.key)]
            assert told in ([], whole_of_it)
            assert (one.status is S.COMPLAINED) == (told == whole_of_it and (one.batch, one.key) == (0, key(0)))
            partly.add(bool(told))
        tell(worker.messages)
        assert tell(worker.messages) == [False] * len(REPORTS)
        assert seen(worker.messages) == wanted
        assert worker.messages.totals(CAMPAIGN) == AFTERWARDS
        assert worker.messages.stale(CAMPAIGN) == [0, 1]
        worker.messages.recount(CAMPAIGN, worker.messages.stale(CAMPAIGN))
        assert (worker.messages.totals(CAMPAIGN), worker.messages.stale(CAMPAIGN)) == (AFTERWARDS, [])
    assert partly == {True, False}


def test_an_outcome_that_was_cut_short_leaves_its_event_once(backend: AwsBackend) -> None:
    """The event is written first: a kill before the outcome leaves it there alone, and the repeat does not double it."""

    def in_a_group(messages: DynamoMessages) -> int:
        stored(messages, 0)
        fence = opened(messages)
        record(messages, fence, [], [0])
        return fence

    def defer(messages: DynamoMessages, fence: int) -> None:
        record(messages, fence, [outcome(0, S.DEFERRED, due=5)])

    alone = False
    for worker, fence in deaths(backend, in_a_group, defer):
        told = worker.messages.timeline(CAMPAIGN, 0, key(0))
        alone = alone or (bool(told) and stands(worker.messages, 0).status is S.PENDING)
        defer(worker.messages, fence)
        assert [one.kind for one in worker.messages.timeline(CAMPAIGN, 0, key(0))] == [K.DELAYED]
        assert stands(worker.messages, 0).status is S.DEFERRED
    assert alone


def test_a_count_does_not_call_fresh_what_came_while_it_counted(backend: AwsBackend) -> None:
    """A recount read the messages, then a report came, then the recount stores."""
    counter, other = Worker(backend), backend.messages()
    two_sent(counter.messages)
    stop = Interruption(counter.client, 0, lambda: tell(other), "UpdateItem")
    counter.messages.recount(CAMPAIGN, [0])
    assert stop.happened
    assert counter.messages.batches(CAMPAIGN)[0].counts == Counts(pending=2, complained=1)
    assert counter.messages.totals(CAMPAIGN) == AFTERWARDS


@pytest.mark.parametrize("moment", [0, 1], ids=["before the count begins", "after it has read"])
def test_what_comes_while_a_marked_batch_is_counted_is_not_left_out(backend: AwsBackend, moment: int) -> None:
    """The mark stands already, so a report may leave it at that: but not where a count has begun since."""
    counter, other = Worker(backend), backend.messages()
    two_sent(counter.messages)
    other.record_events(CAMPAIGN, [ReportedEvent(0, key(1), event(K.OPENED, ms=3))], at(9))
    stop = Interruption(counter.client, moment, lambda: tell(other), "UpdateItem")
    counter.messages.recount(CAMPAIGN, [0])
    assert stop.happened
    found = counter.messages.batches(CAMPAIGN)[0]
    assert (found.counts, found.engagement) == (Counts(pending=2, complained=1), Engagement(opened=1))
    assert counter.messages.stale(CAMPAIGN) == [1]


def test_a_count_that_was_cut_short_leaves_its_batch_to_be_counted(backend: AwsBackend) -> None:
    def two_told(messages: DynamoMessages) -> None:
        two_sent(messages)
        tell(messages)

    for worker, _ in deaths(backend, two_told, lambda messages, _: messages.recount(CAMPAIGN, [0])):
        assert worker.messages.stale(CAMPAIGN) == [0, 1]
        worker.messages.record_events(CAMPAIGN, [ReportedEvent(0, key(1), event(K.DELIVERED, ms=3))], at(9))
        assert worker.messages.counts(CAMPAIGN) == Counts(pending=3, sent=1, delivered=1, complained=1)
        worker.messages.recount(CAMPAIGN, [0])
        assert worker.messages.stale(CAMPAIGN) == [1]
        assert worker.messages.batches(CAMPAIGN)[0].counts == Counts(pending=1, delivered=1, complained=1)


def test_an_event_that_found_no_room_in_its_message_is_as_whole_as_one_that_did(backend: AwsBackend) -> None:
    """Killed between any two requests: the event and what it makes of the message are there together, or neither."""
    full = [ReportedEvent(0, key(0), replace(event(K.OPENED, ms=ms, detail="x" * 200), raw="r" * 1_500)) for ms in range(2)]
    late = [
        ReportedEvent(0, key(0), replace(event(K.BOUNCED, ms=5), raw="r" * 1_500)),
        ReportedEvent(0, key(0), event(K.CLICKED, ms=6)),
    ]

    def filled(messages: DynamoMessages) -> None:
        two_sent(messages)
        messages.record_events(CAMPAIGN, full, at(9))

    partly = set()
    for worker, _ in deaths(backend, filled, lambda messages, _: messages.record_events(CAMPAIGN, late, at(9))):
        there = len(worker.messages.timeline(CAMPAIGN, 0, key(0))) == 5
        assert (stands(worker.messages, 0).status is S.BOUNCED) == there
        partly.add(there)
        worker.messages.record_events(CAMPAIGN, late, at(9))
        assert len(worker.messages.timeline(CAMPAIGN, 0, key(0))) == 5
        assert stands(worker.messages, 0).clicked_at == at(6)
        assert worker.messages.counts(CAMPAIGN) == Counts(pending=4, sent=1, bounced=1)
    assert partly == {True, False}


@pytest.mark.usefixtures("no_backoff")
def test_an_answer_that_is_lost_makes_no_event_two_and_none_old(backend: AwsBackend) -> None:
    """Each request is carried out and repeated: what it wrote the first time is new all the same."""
    worker = Worker(backend)
    two_sent(worker.messages)
    lost = LostAnswers(worker.client, "TransactWriteItems", "UpdateItem")
    assert tell(worker.messages) == [True] * len(REPORTS)
    assert lost.lost > 2
    assert worker.messages.totals(CAMPAIGN) == AFTERWARDS
    assert [one.kind for one in worker.messages.timeline(CAMPAIGN, 0, key(0))] == [K.SENT, K.BOUNCED, K.COMPLAINED]
