"""The promise of `ports.feed`: a change is in the feed if and only if it was written, in order, until it is trimmed."""

from __future__ import annotations

import pytest

from postroom.errors import LeaseLost, NotFound
from postroom.platform.ports.feed import RETENTION_MS, Feed, MessageChange
from postroom.platform.ports.messages import Messages
from tests.contract.backend import Backend
from tests.contract.messages_kit import CAMPAIGN, LEASE_MS, NOW, S, at, key, opened, outcome, record, row, stored

pytestmark = pytest.mark.backends("embedded", "aws", "dynamodb")


@pytest.fixture
def feed(backend: Backend) -> Feed:
    return backend.feed()


def _all(feed: Feed, *, limit: int = 1_000) -> list[MessageChange]:
    """Everything, page by page."""
    (shard,) = feed.shards()
    changes: list[MessageChange] = []
    position: str | None = None
    while (page := feed.read(shard, position, limit=limit)).changes:
        changes += page.changes
        position = page.position
    return changes


def test_stored_messages_appear_once_each(messages: Messages, feed: Feed) -> None:
    stored(messages, 0, 1)
    changes = _all(feed)
    assert sorted((change.batch, change.key) for change in changes) == [(batch, key(n)) for batch in (0, 1) for n in range(3)]
    assert {(change.ref, change.status, change.attempt, change.at) for change in changes} == {(CAMPAIGN, S.PENDING, 0, NOW)}


def test_a_duplicate_row_is_no_change(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    before = len(_all(feed))
    messages.store(CAMPAIGN, [row(0, line=50), row(1, line=51)], NOW)
    assert len(_all(feed)) == before


def test_outcomes_follow_in_the_order_of_their_writes(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0, S.DEFERRED, due=5)], [1], ms=1)
    record(messages, fence, [outcome(1), outcome(0, attempt=2, ms=9)], ms=2)
    of_first = [change for change in _all(feed) if change.key == key(0)]
    assert [(change.status, change.attempt) for change in of_first] == [(S.PENDING, 0), (S.DEFERRED, 1), (S.SENT, 2)]
    assert (of_first[-1].at, of_first[-1].code, of_first[-1].reply) == (at(9), 250, "2.0.0 queued as 0")


def test_what_was_refused_is_not_in_the_feed(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    old = opened(messages)
    opened(messages, "w2", ms=LEASE_MS)
    before = _all(feed)
    with pytest.raises(LeaseLost):
        record(messages, old, [outcome(0)])
    with pytest.raises(NotFound):
        record(messages, old + 1, [outcome(0), outcome(77)])
    assert _all(feed) == before


def test_opening_and_closing_change_no_message(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    before = _all(feed)
    fence = opened(messages)
    record(messages, fence, (), [0, 1])
    messages.extend(CAMPAIGN, 0, fence, NOW, lease_ms=LEASE_MS)
    messages.close(CAMPAIGN, 0, fence)
    assert _all(feed) == before


def test_a_position_leads_on_across_readers_and_pages(messages: Messages, backend: Backend, feed: Feed) -> None:
    stored(messages, 0)
    fence = opened(messages)
    for n in range(3):
        record(messages, fence, [outcome(n)], ms=n)
    assert _all(feed, limit=1) == _all(feed)
    (shard,) = feed.shards()
    position = feed.read(shard, None, limit=3).position
    assert [change.key for change in backend.feed().read(shard, position).changes] == [key(0), key(1), key(2)]


def test_the_end_is_an_empty_page_that_can_be_read_on_from(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    (shard,) = feed.shards()
    end = feed.read(shard, None).position
    assert feed.read(shard, end).changes == []
    record(messages, opened(messages), [outcome(2)])
    assert [change.key for change in feed.read(shard, end).changes] == [key(2)]


@pytest.mark.backends("embedded")  # elsewhere the stream forgets by itself
def test_trimming_forgets_only_what_is_older(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0)], ms=RETENTION_MS + 1)
    (shard,) = feed.shards()
    feed.trim(shard, at(1))
    assert [change.key for change in _all(feed)] == [key(0)]


@pytest.mark.backends("embedded")  # elsewhere a shard holds more than one campaign
def test_a_dropped_campaign_s_shard_is_gone(messages: Messages, feed: Feed) -> None:
    stored(messages, 0)
    (shard,) = feed.shards()
    messages.drop(CAMPAIGN)
    assert feed.shards() == []
    with pytest.raises(NotFound):
        feed.read(shard, None)
