"""The promise of `ports.messages` on every backend: one holder a batch, and nobody who lost it can change anything."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from postroom.errors import Invalid, LeaseLost, NotFound
from postroom.model.batch import GROUP_SIZE, Group, OpenBatch
from postroom.model.message import Counts, Message
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
    stands,
    states,
    stored,
)

pytestmark = pytest.mark.backends("embedded", "aws", "dynamodb")

WRITES: dict[str, Callable[[Messages, int], Any]] = {
    "extend": lambda m, fence: m.extend(CAMPAIGN, 0, fence, at(5), lease_ms=LEASE_MS),
    "record outcomes of the group": lambda m, fence: record(m, fence, [outcome(0), outcome(1, S.FAILED)]),
    "record other outcomes": lambda m, fence: record(m, fence, [outcome(2, S.SKIPPED)]),
    "record a group": lambda m, fence: record(m, fence, [], [2]),
    "record a message that is none": lambda m, fence: record(m, fence, [outcome(99)]),
    "close": lambda m, fence: m.close(CAMPAIGN, 0, fence),
}


def whole(messages: Messages) -> tuple[list[Message], Counts, Any]:
    return listed(messages), messages.counts(CAMPAIGN), messages.batches(CAMPAIGN)


def test_a_batch_has_one_holder_until_the_lease_runs_out(messages: Messages) -> None:
    stored(messages, 0)
    assert messages.open(CAMPAIGN, 0, "w1", NOW, lease_ms=1_000) == OpenBatch(0, 1, None)
    assert messages.open(CAMPAIGN, 0, "w2", at(999), lease_ms=1_000) is None
    assert messages.open(CAMPAIGN, 0, "w2", at(1_000), lease_ms=1_000) == OpenBatch(0, 2, None)
    snapshot = messages.batches(CAMPAIGN)[0]
    assert (snapshot.owner, snapshot.lease_until) == ("w2", at(2_000))


def test_the_lease_of_a_dead_owner_holds_nobody_up(messages: Messages) -> None:
    stored(messages, 0)
    opened(messages, "w1")
    assert messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS, dead=["w3", "w4"]) is None
    many = [f"gone{n}" for n in range(300)]
    assert messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS, dead=[*many, "w1"]) == OpenBatch(0, 2, None)


def test_an_owner_may_open_again_and_its_earlier_fence_is_old(messages: Messages) -> None:
    stored(messages, 0)
    first = opened(messages, "w1")
    second = opened(messages, "w1")
    assert second > first
    with pytest.raises(LeaseLost):
        record(messages, first, [outcome(0)])
    record(messages, second, [outcome(1)])
    assert states(messages) == [S.PENDING, S.SENT, S.PENDING]


def test_a_closed_batch_is_free_and_its_fence_goes_on_rising(messages: Messages) -> None:
    stored(messages, 0)
    first = opened(messages, "w1")
    snapshot = messages.close(CAMPAIGN, 0, first)
    assert (snapshot.owner, snapshot.lease_until, snapshot.counts) == (None, None, Counts(pending=3))
    assert opened(messages, "w2") > first


def test_an_extended_lease_keeps_others_out(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages, "w1")
    messages.extend(CAMPAIGN, 0, fence, at(LEASE_MS - 1), lease_ms=LEASE_MS)
    assert messages.open(CAMPAIGN, 0, "w2", at(LEASE_MS), lease_ms=LEASE_MS) is None
    record(messages, fence, [], [0], ms=2 * LEASE_MS - 2)
    assert messages.open(CAMPAIGN, 0, "w2", at(3 * LEASE_MS - 3), lease_ms=LEASE_MS) is None, "recording extends it, too"
    assert messages.open(CAMPAIGN, 0, "w2", at(3 * LEASE_MS - 2), lease_ms=LEASE_MS) is not None


def test_a_lease_that_ran_out_unnoticed_is_still_its_holders(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages, "w1")
    record(messages, fence, [outcome(0)], [1], ms=10 * LEASE_MS)
    messages.extend(CAMPAIGN, 0, fence, at(20 * LEASE_MS), lease_ms=LEASE_MS)
    assert states(messages) == [S.SENT, S.PENDING, S.PENDING]


@pytest.mark.parametrize("batch", [-1, 1, 10_000])
def test_a_batch_that_is_none_is_not_found(messages: Messages, batch: int) -> None:
    stored(messages, 0)
    with pytest.raises(NotFound):
        messages.open(CAMPAIGN, batch, "w1", NOW, lease_ms=LEASE_MS)
    with pytest.raises(NotFound):
        record(messages, 1, [outcome(0)], batch=batch)
    with pytest.raises(NotFound):
        messages.extend(CAMPAIGN, batch, 1, NOW, lease_ms=LEASE_MS)
    with pytest.raises(NotFound):
        messages.close(CAMPAIGN, batch, 1)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("counted", [False, True], ids=["left open", "closed since"])
def test_an_old_fence_is_refused_and_nothing_has_changed(
    backend: Backend, messages: Messages, write: Callable[[Messages, int], Any], counted: bool
) -> None:
    stored(messages, 0)
    old = opened(messages, "w1")
    record(messages, old, [], [0, 1])
    other = backend.messages()
    new = opened(other, "w2", dead=["w1"])
    if counted:
        record(other, new, [outcome(0, S.UNKNOWN), outcome(1, S.DEFERRED, due=7)], ms=3)
        other.close(CAMPAIGN, 0, new)
    before = whole(other)
    for _ in range(2):
        with pytest.raises(LeaseLost):
            write(messages, old)
        assert whole(other) == before
    last = other.open(CAMPAIGN, 0, "w3", NOW, lease_ms=LEASE_MS, dead=["w2"])
    assert last is not None
    assert (last.fence, last.left_open) == (new + 1, None if counted else Group("w1", old, (key(0), key(1)), NOW))


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_fence_that_was_never_given_is_refused(messages: Messages, write: Callable[[Messages, int], Any]) -> None:
    stored(messages, 0)
    opened(messages, "w1")
    before = whole(messages)
    for fence in (0, 2, 99):
        with pytest.raises(LeaseLost):
            write(messages, fence)
        assert whole(messages) == before


def test_a_group_left_open_is_shown_to_each_opener_until_somebody_settles_it(messages: Messages) -> None:
    stored(messages, 0, each=4)
    first = opened(messages, "w1")
    record(messages, first, [outcome(0)], [1, 3], ms=17)
    left = Group("w1", first, (key(1), key(3)), at(17))
    for owner, dead in (("w2", "w1"), ("w3", "w2")):
        again = messages.open(CAMPAIGN, 0, owner, NOW, lease_ms=LEASE_MS, dead=[dead])
        assert again is not None
        assert again.left_open == left
    fence = first + 2
    assert messages.counts(CAMPAIGN) == Counts(pending=1, sending=2, sent=1)
    record(messages, fence, [outcome(1), outcome(3, S.UNKNOWN)], [2], ms=20)
    last = messages.open(CAMPAIGN, 0, "w4", NOW, lease_ms=LEASE_MS, dead=["w3"])
    assert last is not None
    assert last.left_open == Group("w3", fence, (key(2),), at(20))


def test_a_group_stays_open_through_close_and_is_work_for_the_next(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages, "w1")
    record(messages, fence, [outcome(0), outcome(2)], [1], ms=4)
    assert messages.close(CAMPAIGN, 0, fence).owner is None
    assert messages.counts(CAMPAIGN) == Counts(sending=1, sent=2)
    assert messages.due_batches(CAMPAIGN, NOW, 10) == [0]
    assert messages.next_due(CAMPAIGN) == 0
    assert messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS) == OpenBatch(
        0, fence + 1, Group("w1", fence, (key(1),), at(4))
    )


def test_a_group_of_settled_messages_left_open_is_work_all_the_same(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages, "w1")
    record(messages, fence, [outcome(n, S.FAILED) for n in range(3)])
    messages.close(CAMPAIGN, 0, fence)
    assert messages.due_batches(CAMPAIGN, NOW, 10) == []
    fence = opened(messages, "w1")
    record(messages, fence, [], [0])
    assert messages.due_batches(CAMPAIGN, NOW, 10, dead=["w1"]) == [0]
    assert messages.next_due(CAMPAIGN) == 0


def test_work_that_a_dead_worker_made_is_found_though_it_never_counted(messages: Messages) -> None:
    """Retry-failed makes failed messages pending again; the worker that did so may die before it closes the batch."""
    stored(messages, 0, 1)
    for batch in (0, 1):
        fence = opened(messages, "w1", batch=batch)
        record(messages, fence, [outcome(n, S.FAILED) for n in range(3)], batch=batch)
        messages.close(CAMPAIGN, batch, fence)
    assert messages.next_due(CAMPAIGN) is None
    record(messages, opened(messages, "w1", batch=0), [outcome(1, S.PENDING)], batch=0)
    record(messages, opened(messages, "w1", batch=1), [outcome(1, S.DEFERRED, due=500)], batch=1)
    assert messages.due_batches(CAMPAIGN, at(500), 10, dead=["w1"]) == [0, 1]
    found = messages.next_due(CAMPAIGN)
    assert found is not None
    assert found <= NOW


def test_outcomes_and_the_next_group_are_recorded_together(messages: Messages) -> None:
    stored(messages, 0, each=4)
    fence = opened(messages)
    record(messages, fence, [], [0, 1])
    record(messages, fence, [outcome(0), outcome(1, S.DEFERRED, due=60)], [2, 3])
    assert states(messages, keys=range(4)) == [S.SENT, S.DEFERRED, S.PENDING, S.PENDING]
    assert messages.counts(CAMPAIGN) == Counts(sending=2, deferred=1, sent=1)
    record(messages, fence, [outcome(2), outcome(3)])
    assert messages.counts(CAMPAIGN) == Counts(deferred=1, sent=3)


def test_a_repeated_record_changes_nothing_more(messages: Messages) -> None:
    stored(messages, 0, each=4)
    fence = opened(messages)
    record(messages, fence, [], [0, 1])
    for _ in range(3):
        record(messages, fence, [outcome(0), outcome(1, S.FAILED), outcome(3, S.SKIPPED)], [2], ms=9)
        assert states(messages, keys=range(4)) == [S.SENT, S.FAILED, S.PENDING, S.SKIPPED]
        assert messages.counts(CAMPAIGN) == Counts(sending=1, sent=1, failed=1, skipped=1)
    again = messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS, dead=["w1"])
    assert again is not None
    assert again.left_open == Group("w1", fence, (key(2),), at(9))


def test_a_settlement_of_a_message_that_is_none_undoes_the_whole_call(messages: Messages) -> None:
    stored(messages, 0, 1)
    fence = opened(messages)
    record(messages, fence, [], [0, 1])
    before = whole(messages)
    with pytest.raises(NotFound):
        record(messages, fence, [outcome(0), outcome(77), outcome(1)], [2])
    assert whole(messages) == before
    again = messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS, dead=["w1"])
    assert again is not None
    assert again.left_open == Group("w1", fence, (key(0), key(1)), NOW)


def test_a_settled_message_may_be_settled_otherwise_later(messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    for attempt, state in enumerate([S.FAILED, S.PENDING, S.UNKNOWN, S.SENT, S.DELIVERED], start=1):
        record(messages, fence, [outcome(0, state, attempt=attempt, ms=attempt)])
        assert (stands(messages, 0).status, stands(messages, 0).attempt, stands(messages, 0).at) == (state, attempt, at(attempt))


def test_a_group_has_128_keys_at_most(messages: Messages) -> None:
    stored(messages, 0, each=GROUP_SIZE + 1)
    fence = opened(messages)
    with pytest.raises(Invalid):
        record(messages, fence, [outcome(0)], range(GROUP_SIZE + 1))
    assert messages.counts(CAMPAIGN) == Counts(pending=GROUP_SIZE + 1)
    record(messages, fence, [], range(GROUP_SIZE))
    assert messages.counts(CAMPAIGN) == Counts(pending=1, sending=GROUP_SIZE)
    record(messages, fence, [outcome(n) for n in range(GROUP_SIZE)], [GROUP_SIZE])
    assert messages.close(CAMPAIGN, 0, fence).counts == Counts(pending=1, sent=GROUP_SIZE)


def test_batches_are_independent(messages: Messages) -> None:
    stored(messages, 0, 1)
    one, two = opened(messages, "w1", batch=0), opened(messages, "w1", batch=1)
    record(messages, one, [outcome(0)], [1], batch=0)
    record(messages, two, [outcome(2, S.FAILED)], [0], batch=1)
    assert states(messages, batch=0) == [S.SENT, S.PENDING, S.PENDING]
    assert states(messages, batch=1) == [S.PENDING, S.PENDING, S.FAILED]
    assert opened(messages, "w2", batch=1, dead=["w1"]) == two + 1
    record(messages, one, [outcome(1)], batch=0)


def test_of_workers_racing_for_a_batch_one_wins(backend: Backend) -> None:
    clients = [backend.messages() for _ in range(4)]
    stored(clients[0], 0, 1, 2)
    for batch in range(3):
        start = threading.Barrier(len(clients))

        def race(n: int, batch: int = batch, start: threading.Barrier = start) -> OpenBatch | None:
            start.wait(10)
            return clients[n].open(CAMPAIGN, batch, f"w{n}", NOW, lease_ms=LEASE_MS)

        with ThreadPoolExecutor(len(clients)) as pool:
            won = [got for got in pool.map(race, range(len(clients))) if got is not None]
        assert won == [OpenBatch(batch, 1, None)]


def test_what_an_opener_finds_cannot_change_behind_its_back(backend: Backend) -> None:
    """The stopped worker wakes up and records while another opens its batch: whatever of it was in time is there when `open`
    returns, and nothing comes after."""
    slow, quick = backend.messages(), backend.messages()
    each = 8
    rounds = 6
    stored(slow, *range(rounds), each=each)
    keys = [key(n) for n in range(each)]
    for batch in range(rounds):
        fence = opened(slow, "slow", batch=batch)
        record(slow, fence, [], range(each // 2), batch=batch)
        start = threading.Barrier(2)

        def wake(batch: int = batch, fence: int = fence, start: threading.Barrier = start) -> str:
            start.wait(10)
            try:
                record(slow, fence, [outcome(n) for n in range(each)], batch=batch)
                record(slow, fence, [outcome(n, S.FAILED, attempt=2) for n in range(each)], batch=batch)
            except LeaseLost:
                return "lost"
            return "in time"

        def take(batch: int = batch, start: threading.Barrier = start) -> tuple[OpenBatch | None, Any]:
            start.wait(10)
            got = quick.open(CAMPAIGN, batch, "quick", NOW, lease_ms=LEASE_MS, dead=["slow"])
            return got, quick.find(CAMPAIGN, batch, keys)

        with ThreadPoolExecutor(2) as pool:
            woken, taken = pool.submit(wake), pool.submit(take)
            (got, found), how = taken.result(), woken.result()
        assert got is not None
        assert quick.find(CAMPAIGN, batch, keys) == found, how
        sent = [r.status for r in found]
        if got.left_open is None and how == "in time":
            assert sent == [S.FAILED] * each
