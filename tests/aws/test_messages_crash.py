"""What a kill between any two requests leaves in the table, and that the next worker, or a repeat, makes it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from postroom.errors import LeaseLost, NotFound
from postroom.model.batch import Group
from postroom.model.ids import Key
from postroom.model.message import Counts
from postroom.platform.aws._dynamo import Table
from postroom.platform.aws.messages import DynamoMessages
from tests.aws.faults import Interruption, Killed, Mortal
from tests.contract.aws_backend import TABLE, AwsBackend
from tests.contract.messages_kit import CAMPAIGN, LEASE_MS, NOW, S, key, listed, opened, outcome, record, row, states, stored

EACH = 6
OLD_GROUP, NEW_GROUP = (0, 1, 2), (3, 5)
SETTLED = [outcome(0), outcome(1, S.DEFERRED, due=50), outcome(2, S.FAILED), outcome(4, S.SKIPPED)]
AFTERWARDS = [S.SENT, S.DEFERRED, S.FAILED, S.PENDING, S.SKIPPED, S.PENDING]


class Worker:
    """A client of the ledger whose connection can be broken."""

    def __init__(self, backend: AwsBackend) -> None:
        self.table: Table = backend.table()
        self.client: Any = self.table._client
        self.messages = DynamoMessages(self.table)


def group(owner: str, fence: int, numbers: tuple[int, ...]) -> Group:
    return Group(owner, fence, tuple(key(n) for n in numbers), NOW)


def deaths(
    backend: AwsBackend, prepare: Callable[[DynamoMessages], Any], act: Callable[[DynamoMessages, Any], object]
) -> Iterator[tuple[Worker, Any]]:
    """Everything from the start, killed before the first request of `act`, before the second, and so on until it survives."""
    worker = Worker(backend)
    for lives in range(100):
        worker.messages.drop(CAMPAIGN)
        prepared = prepare(worker.messages)
        mortal = Mortal(worker.client, lives)
        try:
            act(worker.messages, prepared)
        except Killed:
            mortal.revive()
            yield worker, prepared
        else:
            mortal.revive()
            assert lives > 1, "something was to be killed"
            return
    raise AssertionError("it never survived")


def a_group_on_its_way(messages: DynamoMessages) -> int:
    stored(messages, 0, each=EACH)
    fence = opened(messages, "w1")
    record(messages, fence, [], OLD_GROUP)
    return fence


def settle_and_go_on(messages: DynamoMessages, fence: int) -> None:
    record(messages, fence, SETTLED, NEW_GROUP)


def test_whoever_dies_while_recording_leaves_what_the_next_can_judge(backend: AwsBackend) -> None:
    """Outcomes come before the next group, the batch is found to have work, and the dead one, come alive, changes nothing."""
    left: set[tuple[Key, ...]] = set()
    heir = backend.messages()
    for worker, fence in deaths(backend, a_group_on_its_way, settle_and_go_on):
        assert heir.due_batches(CAMPAIGN, NOW, 10, dead=["w1"]) == [0]
        got = heir.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS, dead=["w1"])
        assert got is not None
        found = states(heir, keys=range(EACH))
        assert got.left_open in (group("w1", fence, OLD_GROUP), group("w1", fence, NEW_GROUP))
        if got.left_open == group("w1", fence, NEW_GROUP):
            assert found == AFTERWARDS, "the next group is open only once every outcome is recorded"
        assert all(state in (S.PENDING, wanted) for state, wanted in zip(found, AFTERWARDS, strict=True))
        with pytest.raises(LeaseLost):
            settle_and_go_on(worker.messages, fence)
        assert states(heir, keys=range(EACH)) == found
        record(heir, got.fence, SETTLED)
        assert states(heir, keys=range(EACH)) == AFTERWARDS
        heir.close(CAMPAIGN, 0, got.fence)
        assert heir.counts(CAMPAIGN) == Counts(pending=2, deferred=1, sent=1, failed=1, skipped=1)
        left.add(got.left_open.keys)
    assert left == {tuple(key(n) for n in OLD_GROUP)}, "the last request opens the next group"


def test_a_repeat_by_the_same_worker_completes_what_was_cut_short(backend: AwsBackend) -> None:
    for worker, fence in deaths(backend, a_group_on_its_way, settle_and_go_on):
        settle_and_go_on(worker.messages, fence)
        assert states(worker.messages, keys=range(EACH)) == AFTERWARDS
        assert worker.messages.counts(CAMPAIGN) == Counts(sending=2, deferred=1, sent=1, failed=1, skipped=1)


def test_whoever_dies_while_opening_shuts_the_one_before_out_all_the_same(backend: AwsBackend) -> None:
    def take(messages: DynamoMessages, _: int) -> None:
        opened(messages, "w2", dead=["w1"])

    first, heir = backend.messages(), backend.messages()
    for _, fence in deaths(backend, a_group_on_its_way, take):
        got = heir.open(CAMPAIGN, 0, "w3", NOW, lease_ms=LEASE_MS, dead=["w1", "w2"])
        assert got is not None
        assert got.left_open == group("w1", fence, OLD_GROUP)
        with pytest.raises(LeaseLost):
            settle_and_go_on(first, fence)
        assert states(heir, keys=range(EACH)) == [S.PENDING] * EACH


@pytest.mark.parametrize("n", range(12))
def test_no_write_of_a_stopped_worker_lands_after_its_batch_was_opened(backend: AwsBackend, n: int) -> None:
    """The worker is stopped right before its n-th write; another opens the batch and looks; then the first goes on."""
    worker, other = Worker(backend), backend.messages()
    fence = a_group_on_its_way(worker.messages)
    seen: list[Any] = []

    def take() -> None:
        opened(other, "w2", dead=["w1"])
        seen.append(states(other, keys=range(EACH)))

    stop = Interruption(worker.client, n, take, "UpdateItem")
    try:
        settle_and_go_on(worker.messages, fence)
    except LeaseLost:
        assert stop.happened
    else:
        assert not stop.happened
        assert n >= 6, "one write touches, four settle, one opens the next group"
        return
    assert states(other, keys=range(EACH)) == seen[0]
    again = other.open(CAMPAIGN, 0, "w3", NOW, lease_ms=LEASE_MS, dead=["w2"])
    assert again is not None
    assert again.left_open == group("w1", fence, OLD_GROUP)


def test_a_worker_that_reads_its_messages_after_they_were_taken_over_writes_to_none_of_them(backend: AwsBackend) -> None:
    """It saw its fence on the batch, was stopped, and finds the messages as the next opener stamped them."""
    worker, other = Worker(backend), backend.messages()
    fence = a_group_on_its_way(worker.messages)
    stop = Interruption(worker.client, 0, lambda: opened(other, "w2", dead=["w1"]), "BatchGetItem")
    with pytest.raises(LeaseLost):
        record(worker.messages, fence, [outcome(n) for n in OLD_GROUP])
    assert stop.happened
    assert states(other, keys=range(EACH)) == [S.PENDING] * EACH


def test_keys_whose_change_never_came_to_an_end_stay_marked_for_the_next_opener(backend: AwsBackend) -> None:
    """Its connection broke while it skipped a message; it gave up and closed. The next opener stamps, and closes for good."""
    worker, other = Worker(backend), backend.messages()
    stored(worker.messages, 0, each=1)
    fence = opened(worker.messages, "w1")
    record(worker.messages, fence, [outcome(0, S.FAILED)])
    mortal = Mortal(worker.client, 3)  # it reads the batch and the message, and touches its key
    with pytest.raises(Killed):
        record(worker.messages, fence, [outcome(0, S.SKIPPED)])
    mortal.revive()
    worker.messages.close(CAMPAIGN, 0, fence)
    assert other.due_batches(CAMPAIGN, NOW, 10) == [0]
    heir = opened(other, "w2")
    with pytest.raises(LeaseLost):
        worker.messages._items.settle(CAMPAIGN, 0, fence, outcome(0, S.SKIPPED), {"version": 3})  # a late request
    other.close(CAMPAIGN, 0, heir)
    assert other.due_batches(CAMPAIGN, NOW, 10) == []
    assert states(other, keys=[0]) == [S.FAILED]


def test_a_count_never_hides_work_that_came_while_it_counted(backend: AwsBackend) -> None:
    """A recount read the messages, then a worker made one pending, then the recount stores: it must not say `nothing to do`."""
    worker, counter = Worker(backend), Worker(backend)
    stored(worker.messages, 0)
    fence = opened(worker.messages, "w1")
    record(worker.messages, fence, [outcome(n, S.FAILED) for n in range(3)])

    def retry() -> None:
        record(worker.messages, fence, [outcome(1, S.PENDING)])

    Interruption(counter.client, 0, retry, "UpdateItem")
    counter.messages.recount(CAMPAIGN)
    assert counter.messages.batches(CAMPAIGN)[0].counts == Counts(pending=1, failed=2)
    assert counter.messages.due_batches(CAMPAIGN, NOW, 10, dead=["w1"]) == [0]


def test_a_close_that_was_cut_short_is_made_good_by_the_next_opener(backend: AwsBackend) -> None:
    def close(messages: DynamoMessages, fence: int) -> None:
        record(messages, fence, [outcome(n) for n in range(EACH)])
        messages.close(CAMPAIGN, 0, fence)

    heir = backend.messages()
    for _ in deaths(backend, a_group_on_its_way, close):
        assert heir.due_batches(CAMPAIGN, NOW, 10, dead=["w1"]) == [0]
        fence = opened(heir, "w2", dead=["w1"])
        record(heir, fence, [outcome(n) for n in range(EACH)])
        assert heir.close(CAMPAIGN, 0, fence).counts == Counts(sent=EACH)
        assert heir.next_due(CAMPAIGN) is None


def test_an_import_that_was_cut_short_is_repeated_to_the_same_end(backend: AwsBackend) -> None:
    rows = [row(n, batch=n % 2, line=10 + n) for n in range(4)] + [row(1, batch=1, line=3)]

    def create(messages: DynamoMessages) -> None:
        messages.create(CAMPAIGN, 2)
        messages.store(CAMPAIGN, [row(1, batch=1, line=7)], NOW)

    def store(messages: DynamoMessages, _: None) -> None:
        messages.store(CAMPAIGN, rows, NOW)
        messages.recount(CAMPAIGN)

    for worker, _ in deaths(backend, create, store):
        assert worker.messages.store(CAMPAIGN, rows, NOW) == [10, 3, 12, 13, 3]
        worker.messages.recount(CAMPAIGN)
        assert worker.messages.counts(CAMPAIGN) == Counts(pending=4)


def test_a_drop_that_was_cut_short_hides_the_campaign_and_is_finished_by_a_repeat(backend: AwsBackend) -> None:
    for first_again in (True, False):
        for number, (worker, _) in enumerate(deaths(backend, a_group_on_its_way, lambda m, _: m.drop(CAMPAIGN))):
            if number > 0:
                with pytest.raises(NotFound):
                    worker.messages.counts(CAMPAIGN)
            if first_again:
                worker.messages.drop(CAMPAIGN)
                assert worker.client.scan(TableName=TABLE, ConsistentRead=True)["Items"] == []
            else:
                worker.messages.create(CAMPAIGN, 1)
                worker.messages.recount(CAMPAIGN)
                assert listed(worker.messages) == [] or number == 0


def test_a_worker_of_a_dropped_campaign_cannot_bring_it_back(backend: AwsBackend) -> None:
    for n in range(6):
        worker, other = Worker(backend), backend.messages()
        fence = a_group_on_its_way(worker.messages)
        stop = Interruption(worker.client, n, lambda other=other: other.drop(CAMPAIGN), "UpdateItem")  # type: ignore[misc]
        with pytest.raises(NotFound):
            settle_and_go_on(worker.messages, fence)
        assert stop.happened
        assert worker.client.scan(TableName=TABLE, ConsistentRead=True)["Items"] == []
