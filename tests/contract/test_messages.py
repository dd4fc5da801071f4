"""The promise of `ports.messages` on every backend: storing, counting, reading. Leases and fences: test_messages_leases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, NotFound
from postroom.model.batch import BatchSnapshot
from postroom.model.campaign import CampaignRef as Campaign
from postroom.model.message import Counts, Message, MessageRow, Recipient, Settlement
from postroom.platform.ports.messages import Messages
from tests.contract.backend import Backend
from tests.contract.messages_kit import (
    CAMPAIGN,
    LEASE_MS,
    NOW,
    S,
    at,
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

CALLS: dict[str, Callable[[Messages], Any]] = {
    "store": lambda m: m.store(CAMPAIGN, [row(1)], NOW),
    "store nothing": lambda m: m.store(CAMPAIGN, [], NOW),
    "recount": lambda m: m.recount(CAMPAIGN),
    "counts": lambda m: m.counts(CAMPAIGN),
    "unsettled": lambda m: m.unsettled(CAMPAIGN),
    "batches": lambda m: m.batches(CAMPAIGN),
    "due_batches": lambda m: m.due_batches(CAMPAIGN, NOW, 10),
    "next_due": lambda m: m.next_due(CAMPAIGN),
    "open": lambda m: m.open(CAMPAIGN, 0, "w", NOW, lease_ms=LEASE_MS),
    "extend": lambda m: m.extend(CAMPAIGN, 0, 1, NOW, lease_ms=LEASE_MS),
    "load": lambda m: m.load(CAMPAIGN, 0, NOW, 10),
    "load_state": lambda m: m.load_state(CAMPAIGN, 0, [S.FAILED], 10),
    "find": lambda m: m.find(CAMPAIGN, 0, [key(1)]),
    "record": lambda m: record(m, 1, [outcome(1)], [2]),
    "close": lambda m: m.close(CAMPAIGN, 0, 1),
    "get": lambda m: m.get(CAMPAIGN, 0, key(1)),
    "list": lambda m: m.list(CAMPAIGN),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_campaign_that_was_never_created_is_not_found_by_any_method(
    messages: Messages, call: Callable[[Messages], Any]
) -> None:
    with pytest.raises(NotFound):
        call(messages)


def test_a_dropped_campaign_is_not_found_and_can_be_made_anew_empty(backend: Backend, messages: Messages) -> None:
    stored(messages, 0, 1)
    fence = opened(messages)
    record(messages, fence, [outcome(0)], [1])
    backend.messages().drop(CAMPAIGN)
    for call in CALLS.values():
        with pytest.raises(NotFound):
            call(messages)
    messages.drop(CAMPAIGN)
    messages.create(CAMPAIGN, 3)
    messages.recount(CAMPAIGN)
    assert messages.counts(CAMPAIGN) == Counts()
    assert listed(messages) == []
    assert len(messages.batches(CAMPAIGN)) == 3
    again = messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS)
    assert again is not None
    assert again.left_open is None


def test_dropping_one_campaign_leaves_the_others(messages: Messages) -> None:
    others = [Campaign("acme", "spring-2"), Campaign("acme-spring", "x"), Campaign("other", "spring")]
    for campaign in (CAMPAIGN, *others):
        messages.create(campaign, 1)
        messages.store(campaign, [row(1)], NOW)
        messages.recount(campaign)
    messages.drop(CAMPAIGN)
    assert [messages.counts(campaign) for campaign in others] == [Counts(pending=1)] * 3


def test_a_campaign_keeps_its_number_of_batches(messages: Messages) -> None:
    stored(messages, 0, 1)
    messages.create(CAMPAIGN, 2)
    assert messages.counts(CAMPAIGN) == Counts(pending=6)
    for batches in (1, 3):
        with pytest.raises(Conflict):
            messages.create(CAMPAIGN, batches)
    assert len(messages.batches(CAMPAIGN)) == 2
    with pytest.raises(Invalid):
        messages.create(Campaign("acme", "none"), 0)


def test_a_stored_row_comes_back_as_it_was_pending_and_untried(messages: Messages) -> None:
    messages.create(CAMPAIGN, 2)
    plain = MessageRow(1, key(5), 17, "jürgen@example.org", 'Jürgen \U0001f600 "J" O\'Neil', '["a","\\u0000é",null]')
    bare = MessageRow(1, key(2**95), 4, "b@example.org", None, "[]")
    assert messages.store(CAMPAIGN, [bare, plain], NOW) == [4, 17]
    assert messages.get(CAMPAIGN, 1, key(5)) == Message(
        1, key(5), 17, plain.address, plain.name, plain.values, S.PENDING, 0, None, None, 0, "", None
    )
    expected = [
        Recipient(key(5), 17, plain.address, plain.name, plain.values, S.PENDING, 0),
        Recipient(key(2**95), 4, bare.address, None, "[]", S.PENDING, 0),
    ]
    assert messages.load(CAMPAIGN, 1, NOW, 10) == expected
    assert messages.find(CAMPAIGN, 1, [key(2**95), key(9), key(5)]) == expected
    assert messages.find(CAMPAIGN, 1, []) == []
    assert messages.get(CAMPAIGN, 0, key(5)) is None


def test_of_two_rows_with_one_key_the_lowest_line_wins_within_a_call(messages: Messages) -> None:
    messages.create(CAMPAIGN, 1)
    rows = [row(1, line=5), row(2, line=6), row(1, line=3, address="R1@example.org"), row(1, line=9)]
    assert messages.store(CAMPAIGN, rows, NOW) == [3, 6, 3, 3]
    assert (stands(messages, 1).line, stands(messages, 1).address) == (3, "R1@example.org")
    messages.recount(CAMPAIGN)
    assert messages.counts(CAMPAIGN) == Counts(pending=2)


@pytest.mark.parametrize(("first", "second"), [(3, 8), (8, 3)])
def test_the_lowest_line_wins_across_calls_whichever_came_first(
    backend: Backend, messages: Messages, first: int, second: int
) -> None:
    messages.create(CAMPAIGN, 1)
    assert messages.store(CAMPAIGN, [row(1, line=first, address=f"a{first}@example.org")], NOW) == [first]
    assert backend.messages().store(CAMPAIGN, [row(1, line=second, address=f"a{second}@example.org")], NOW) == [3]
    assert (stands(messages, 1).line, stands(messages, 1).address) == (3, "a3@example.org")
    messages.recount(CAMPAIGN)
    assert messages.counts(CAMPAIGN) == Counts(pending=1)


def test_storing_again_after_a_crash_answers_the_same_and_changes_nothing(messages: Messages) -> None:
    messages.create(CAMPAIGN, 2)
    rows = [row(n, batch=n % 2) for n in range(10)] + [row(3, batch=1, line=50)]
    expected = [*range(1, 11), 4]
    messages.store(CAMPAIGN, rows[:4], NOW)
    assert messages.store(CAMPAIGN, rows, at(5)) == expected
    messages.recount(CAMPAIGN)
    before = listed(messages)
    assert messages.store(CAMPAIGN, rows, at(9)) == expected
    assert listed(messages) == before
    assert len(before) == 10


def test_a_row_that_was_tried_keeps_its_line(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [], [0])
    record(messages, fence, [outcome(0), outcome(1, S.PENDING)])
    messages.close(CAMPAIGN, 0, fence)
    before = [stands(messages, n) for n in range(2)]
    assert messages.store(CAMPAIGN, [row(0, line=0), row(1, line=0), row(2, line=0)], NOW) == [1, 2, 0]
    assert [stands(messages, n) for n in range(2)] == before
    assert stands(messages, 2).line == 0


def test_a_row_that_may_be_on_its_way_keeps_its_line(messages: Messages) -> None:
    stored(messages, 0)
    record(messages, opened(messages), [], [0])
    assert messages.store(CAMPAIGN, [row(0, line=0)], NOW) == [1]
    assert stands(messages, 0).line == 1


@pytest.mark.parametrize("batch", [-1, 2, 100])
def test_a_row_for_a_batch_that_is_none_is_invalid(messages: Messages, batch: int) -> None:
    messages.create(CAMPAIGN, 2)
    with pytest.raises(Invalid):
        messages.store(CAMPAIGN, [row(1), row(2, batch=batch)], NOW)


def test_rows_stored_by_racing_importers_are_stored_once_under_their_lowest_line(backend: Backend) -> None:
    clients = [backend.messages() for _ in range(3)]
    clients[0].create(CAMPAIGN, 2)
    start = threading.Barrier(3)

    def run(number: int) -> list[int]:
        start.wait(10)
        rows = [row(n, batch=n % 2, line=n * 10 + (n + number) % 3) for n in range(12)]
        return clients[number].store(CAMPAIGN, rows, NOW)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(run, range(3)))
    clients[0].recount(CAMPAIGN)
    assert clients[0].counts(CAMPAIGN) == Counts(pending=12)
    for n in range(12):
        assert stands(clients[0], n, batch=n % 2).line == n * 10
        assert answers[(-n) % 3][n] == n * 10, "the winner is told that it won"


def test_recount_counts_what_it_is_asked_and_sums_add_up(messages: Messages) -> None:
    messages.create(CAMPAIGN, 3)
    messages.store(CAMPAIGN, [row(n, batch=n % 3) for n in range(7)], NOW)
    messages.recount(CAMPAIGN, [0])
    assert messages.counts(CAMPAIGN) == Counts(pending=3)
    messages.recount(CAMPAIGN, [1, 2])
    messages.recount(CAMPAIGN, [])
    assert messages.counts(CAMPAIGN) == Counts(pending=7)
    assert messages.batches(CAMPAIGN) == [
        BatchSnapshot(n, Counts(pending=pending), Instant(0), None, None) for n, pending in enumerate((3, 2, 2))
    ]


def test_each_message_is_counted_in_one_state_those_in_open_groups_as_sending(messages: Messages) -> None:
    stored(messages, 0, 1, each=9)
    fence = opened(messages)
    record(messages, fence, [], range(7))
    assert messages.counts(CAMPAIGN) == Counts(pending=11, sending=7)
    ended = [S.DEFERRED, S.SENT, S.BOUNCED, S.FAILED, S.UNKNOWN, S.SKIPPED, S.DELIVERED]
    record(messages, fence, [outcome(n, state, due=5_000) for n, state in enumerate(ended)], [7])
    midway = Counts(pending=10, sending=1, deferred=1, sent=1, bounced=1, failed=1, unknown=1, skipped=1, delivered=1)
    assert messages.counts(CAMPAIGN) == midway
    assert messages.unsettled(CAMPAIGN) == 1
    record(messages, fence, [outcome(7, S.COMPLAINED), outcome(4, S.UNKNOWN)])
    messages.close(CAMPAIGN, 0, fence)
    assert messages.counts(CAMPAIGN) == midway + Counts(sending=-1, complained=1)
    assert messages.unsettled(CAMPAIGN) == 0, "no policy will decide it any more"
    assert messages.counts(CAMPAIGN).total == 18


def test_snapshots_are_listed_in_order_from_where_one_asks(messages: Messages) -> None:
    messages.create(CAMPAIGN, 12)
    messages.store(CAMPAIGN, [row(1, batch=11)], NOW)
    messages.recount(CAMPAIGN)
    assert [snapshot.number for snapshot in messages.batches(CAMPAIGN)] == list(range(12))
    assert [snapshot.number for snapshot in messages.batches(CAMPAIGN, after=3, limit=2)] == [4, 5]
    assert [snapshot.counts.total for snapshot in messages.batches(CAMPAIGN, after=9)] == [0, 1]
    assert messages.batches(CAMPAIGN, after=11) == []
    for limit in (0, 1_001):
        with pytest.raises(Invalid):
            messages.batches(CAMPAIGN, limit=limit)


def test_load_gives_what_has_work_now_in_key_order(messages: Messages) -> None:
    stored(messages, 0, each=8)
    fence = opened(messages)
    work = [
        outcome(0, S.DEFERRED, due=2_000),
        outcome(1, S.UNKNOWN, due=3_000),
        outcome(2, S.UNKNOWN),
        outcome(3, S.SENT),
        outcome(4, S.FAILED),
        outcome(5, S.PENDING, attempt=2),
    ]
    record(messages, fence, work)

    def load(ms: int, limit: int = 10) -> list[int]:
        return [int.from_bytes(r.key, "big") for r in messages.load(CAMPAIGN, 0, at(ms), limit)]

    assert load(0) == [5, 6, 7]
    assert load(1_999) == [5, 6, 7]
    assert load(2_000) == [0, 5, 6, 7]
    assert load(3_000) == [0, 1, 5, 6, 7]
    assert load(3_000, limit=2) == [0, 1]
    loaded = {r.key: (r.status, r.attempt) for r in messages.load(CAMPAIGN, 0, at(3_000), 10)}
    assert loaded[key(0)] == (S.DEFERRED, 1)
    assert loaded[key(1)] == (S.UNKNOWN, 1)
    assert loaded[key(5)] == (S.PENDING, 2)
    assert loaded[key(6)] == (S.PENDING, 0)


def test_load_state_gives_those_states_due_or_not(messages: Messages) -> None:
    stored(messages, 0, each=5)
    fence = opened(messages)
    record(messages, fence, [outcome(3, S.FAILED), outcome(1, S.DEFERRED, due=90_000), outcome(0, S.FAILED)])

    def load(*wanted: S, limit: int = 10) -> list[int]:
        return [int.from_bytes(r.key, "big") for r in messages.load_state(CAMPAIGN, 0, wanted, limit)]

    assert load(S.FAILED) == [0, 3]
    assert load(S.FAILED, limit=1) == [0]
    assert load(S.FAILED, S.DEFERRED) == [0, 1, 3]
    assert load(S.PENDING) == [2, 4]
    assert load(S.SENT) == []
    assert load() == []


def test_batches_are_due_by_their_earliest_work(messages: Messages) -> None:
    stored(messages, 0, 1, 2, 3, each=2)
    assert messages.due_batches(CAMPAIGN, NOW, 10) == [0, 1, 2, 3]
    assert messages.due_batches(CAMPAIGN, NOW, 2) == [0, 1]
    assert messages.next_due(CAMPAIGN) == 0
    work = {
        0: [outcome(0), outcome(1)],
        1: [outcome(0, S.DEFERRED, due=9_000), outcome(1, S.DEFERRED, due=4_000)],
        2: [outcome(0, S.UNKNOWN), outcome(1, S.UNKNOWN, due=6_000)],
        3: [outcome(0, S.FAILED), outcome(1, S.UNKNOWN)],
    }
    for batch, settled in work.items():
        fence = opened(messages, batch=batch)
        record(messages, fence, settled, batch=batch)
        snapshot = messages.close(CAMPAIGN, batch, fence)
        assert snapshot == messages.batches(CAMPAIGN, after=batch - 1, limit=1)[0]
    assert [b.next_due for b in messages.batches(CAMPAIGN)] == [None, at(4_000), at(6_000), None]
    assert messages.next_due(CAMPAIGN) == at(4_000)
    assert messages.due_batches(CAMPAIGN, at(3_999), 10) == []
    assert messages.due_batches(CAMPAIGN, at(4_000), 10) == [1]
    assert messages.due_batches(CAMPAIGN, at(6_000), 10) == [1, 2]


def test_a_batch_under_a_live_lease_is_not_due_but_counts_for_the_next_time(messages: Messages) -> None:
    stored(messages, 0, 1)
    opened(messages, "w1", batch=0)
    assert messages.due_batches(CAMPAIGN, at(LEASE_MS - 1), 10) == [1]
    assert messages.due_batches(CAMPAIGN, at(LEASE_MS), 10) == [0, 1]
    assert messages.due_batches(CAMPAIGN, NOW, 10, dead=["w0"]) == [1]
    assert messages.due_batches(CAMPAIGN, NOW, 10, dead=["w0", "w1"]) == [0, 1]
    fence = opened(messages, "w2", batch=1)
    record(messages, fence, [outcome(n) for n in range(3)], batch=1)
    messages.close(CAMPAIGN, 1, fence)
    assert messages.next_due(CAMPAIGN) == 0


def test_a_finished_campaign_is_never_due_again(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(n) for n in range(3)])
    messages.close(CAMPAIGN, 0, fence)
    assert messages.next_due(CAMPAIGN) is None
    assert messages.due_batches(CAMPAIGN, at(10**9), 10) == []


def test_a_record_holds_the_whole_last_outcome(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    deferred = Settlement(key(0), S.DEFERRED, 1, at(5), at(500), 451, "4.7.1 später " + "é" * 300, None)
    record(messages, fence, [deferred])
    got = stands(messages, 0)
    assert (got.status, got.attempt, got.at, got.due, got.code, got.provider_id) == (S.DEFERRED, 1, at(5), at(500), 451, None)
    assert got.reply == deferred.reply[:250]
    sent = Settlement(key(0), S.SENT, 2, at(600), None, 250, "", "provider-7")
    record(messages, fence, [sent])
    got = stands(messages, 0)
    assert (got.status, got.attempt, got.at, got.due, got.code, got.reply) == (S.SENT, 2, at(600), None, 250, "")
    assert (got.provider_id, got.line, got.address, got.values) == ("provider-7", 1, "r0@example.org", '["0"]')


def test_a_list_is_by_batch_and_key_page_by_page(messages: Messages) -> None:
    stored(messages, 0, 2, 10, each=4)
    fence = opened(messages, batch=2)
    record(messages, fence, [outcome(1), outcome(3, S.FAILED)], batch=2)
    everyone = [(batch, key(n)) for batch in (0, 2, 10) for n in range(4)]
    for limit in (1, 3, 4, 12, 1_000):
        assert [(m.batch, m.key) for m in listed(messages, limit=limit)] == everyone
        chosen = listed(messages, wanted=[S.SENT, S.FAILED], limit=limit)
        assert [(m.batch, m.key, m.status) for m in chosen] == [(2, key(1), S.SENT), (2, key(3), S.FAILED)]
    messages.close(CAMPAIGN, 2, fence)
    assert [(m.batch, m.key) for m in listed(messages, wanted=[S.FAILED])] == [(2, key(3))]
    assert listed(messages, wanted=[S.COMPLAINED]) == []


def test_a_cursor_of_a_list_holds_while_messages_change(messages: Messages) -> None:
    stored(messages, 0, 1, each=4)
    page = messages.list(CAMPAIGN, statuses=[S.PENDING], limit=3)
    assert [m.key for m in page.messages] == [key(0), key(1), key(2)]
    fence = opened(messages)
    record(messages, fence, [outcome(2), outcome(3)])
    rest = messages.list(CAMPAIGN, statuses=[S.PENDING], cursor=page.cursor, limit=100)
    assert [(m.batch, m.key) for m in rest.messages] == [(1, key(n)) for n in range(4)]


@pytest.mark.parametrize(
    "bad", [{"cursor": ""}, {"cursor": "x"}, {"cursor": "1:zz"}, {"cursor": "-1:00"}, {"limit": 0}, {"limit": 1_001}]
)
def test_a_cursor_or_limit_from_elsewhere_is_invalid(messages: Messages, bad: dict[str, Any]) -> None:
    stored(messages, 0)
    with pytest.raises(Invalid):
        messages.list(CAMPAIGN, **bad)


def test_other_clients_see_every_change_at_once(backend: Backend) -> None:
    one, other = backend.messages(), backend.messages()
    stored(one, 0)
    fence = opened(one)
    for n in range(3):
        record(one, fence, [outcome(n)])
        assert states(other)[: n + 1] == [S.SENT] * (n + 1)
    one.close(CAMPAIGN, 0, fence)
    assert other.counts(CAMPAIGN) == Counts(sent=3)
