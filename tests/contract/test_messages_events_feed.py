"""What the feed tells of what comes back: each new event once, in order, with where the message stands then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.platform.ports.feed import RETENTION_MS, Feed, MessageChange
from postroom.platform.ports.messages import Messages, ReportedEvent
from tests.contract.backend import Backend
from tests.contract.embedded_backend import EmbeddedBackend
from tests.contract.messages_kit import CAMPAIGN, NOW, K, S, at, event, key, opened, outcome, record, stored
from tests.contract.test_messages_events import report

pytestmark = pytest.mark.backends("embedded", "aws", "dynamodb")


@pytest.fixture
def feed(backend: Backend) -> Feed:
    return backend.feed()


def changes(feed: Feed, n: int) -> list[MessageChange]:
    (shard,) = feed.shards()
    return [change for change in feed.read(shard, None).changes if change.key == key(n)]


def test_an_event_comes_once_with_where_the_message_stands(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    record(messages, opened(messages), [outcome(0)])
    clicked, bounced = event(K.CLICKED, ms=2), event(K.BOUNCED, ms=3, detail="no")
    report(messages, 0, clicked)
    report(messages, 0, clicked, bounced)
    told = changes(feed, 0)
    assert [(one.status, one.at, one.event) for one in told] == [
        (S.PENDING, NOW, None),
        (S.SENT, NOW, None),
        (S.SENT, NOW, replace(clicked, raw="")),
        (S.BOUNCED, at(3), replace(bounced, raw="")),
    ]
    assert (told[-1].attempt, told[-1].code, told[-1].reply) == (1, 0, "5.1.1 no")


def test_the_sequence_of_a_message_rises_with_each_change(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0), outcome(1)])
    messages.record_events(CAMPAIGN, [ReportedEvent(0, key(n), event(K.OPENED, ms=ms)) for ms in range(50) for n in (0, 1)], NOW)
    report(messages, 0, event(K.COMPLAINED))
    record(messages, fence, [outcome(0, attempt=2)])
    for n in range(2):
        numbers = [change.sequence for change in changes(feed, n)]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 54 - 2 * n


def test_an_outcome_that_was_overtaken_tells_where_the_message_stands_and_what_it_was(messages: Messages, feed: Feed) -> None:
    """Else whoever follows the feed would never hear that the message was sent."""
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [], [0, 1])
    report(messages, 0, event(K.BOUNCED, ms=3))
    record(messages, fence, [outcome(0, ms=4), outcome(1, ms=4)])
    assert [(one.status, one.at) for one in changes(feed, 0)][1:] == [(S.BOUNCED, at(3)), (S.BOUNCED, at(3))]
    assert [(one.status, one.at, one.event) for one in changes(feed, 1)][1:] == [(S.SENT, at(4), None)]
    told = changes(feed, 0)[-1].event
    assert told is not None
    assert (told.kind, told.at, told.id, told.detail) == (K.SENT, at(4), "own.1.sent", "2.0.0 queued as 0")


@pytest.mark.backends("embedded")  # elsewhere the stream keeps for a day what it told
def test_nothing_of_an_erased_recipient_stays_in_feed_or_file(backend: EmbeddedBackend, messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0), outcome(1, S.DEFERRED, due=5)])
    record(messages, fence, [outcome(1, attempt=2)])
    traces = ("trace-detail", "trace-raw", "trace-url")
    clicked = replace(event(K.CLICKED, attempt=2), detail=traces[0], raw=traces[1], url=traces[2])
    report(messages, 1, clicked, event(K.BOUNCED, attempt=2, ms=1, detail="trace-bounce"))
    messages.erase(CAMPAIGN, 0, fence, key(1), at(9))
    assert {(one.reply, one.event.detail, one.event.url) for one in changes(feed, 1) if one.event} == {("", "", "")}
    assert [one.kind for one in messages.timeline(CAMPAIGN, 0, key(1))].count(K.CLICKED) == 1
    messages._ledgers.close()  # type: ignore[attr-defined]  # the last connection moves the log into the file
    feed._ledgers.close()  # type: ignore[attr-defined]
    (path,) = (backend.root / "ledgers").glob("*/*.db")
    content = path.read_bytes()
    for trace in (*traces, "trace-bounce", "queued as 1"):
        assert trace.encode() not in content
    assert b"queued as 0" in content


@pytest.mark.backends("embedded")  # elsewhere the stream forgets by itself
def test_events_are_forgotten_a_while_after_they_were_told_however_old_they_are(messages: Messages, feed: Feed) -> None:
    """The age of a row is when it was written; and a message keeps its timeline, and its sequence goes on."""
    stored(messages, 0)
    report(messages, 0, event(K.OPENED, ms=-RETENTION_MS))
    (told,) = [one for one in changes(feed, 0) if one.event]
    feed.trim("acme/spring", at(9))
    assert [one.event and one.event.kind for one in changes(feed, 0)] == [K.OPENED]
    feed.trim("acme/spring", at(10))
    assert changes(feed, 0) == []
    assert [one.kind for one in messages.timeline(CAMPAIGN, 0, key(0))] == [K.OPENED]
    report(messages, 0, event(K.BOUNCED))
    assert changes(feed, 0)[0].sequence > told.sequence
