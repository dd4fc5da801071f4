"""botocore repeats a call whose answer was lost: each adapter knows its own earlier write from somebody else's.

The requests are really carried out (by the emulator) before their answers are lost.
"""

from __future__ import annotations

from typing import Any

import pytest

from postroom.errors import Conflict, Unavailable
from postroom.model.batch import Group, OpenBatch
from postroom.model.message import ERASED, Counts
from postroom.platform.aws.messages import DynamoMessages
from postroom.platform.aws.objects import PART_BYTES
from postroom.platform.aws.queues import SqsQueues
from postroom.platform.aws.tables import DynamoTables
from postroom.platform.ports.tables import Check, Delete, Expect, Item, ItemKey, Put
from tests.aws.faults import Delayed, LostAnswers
from tests.contract.aws_backend import AwsBackend
from tests.contract.messages_kit import CAMPAIGN, LEASE_MS, NOW, S, key, opened, outcome, record, row, stands, states, stored

pytestmark = pytest.mark.usefixtures("no_backoff")
ONE, TWO, THREE = (ItemKey("t#lost", sort) for sort in ("one", "two", "three"))


@pytest.fixture
def tables(backend: AwsBackend) -> tuple[DynamoTables, Any]:
    """Tables, and the client whose answers can be lost."""
    table = backend.table()
    return DynamoTables(table, backend.clock), table._client


@pytest.mark.parametrize("expect", [Expect.ABSENT, Expect.ANYTHING])
def test_a_put_that_was_carried_out_unseen_is_ours(tables: tuple[DynamoTables, Any], expect: Expect) -> None:
    subject, client = tables
    lost = LostAnswers(client, "PutItem")
    assert subject.write([Put(ONE, {"n": 1}, expect)]) == [1]
    assert subject.write([Put(ONE, {"n": 2}, 1)]) == [2]
    assert lost.lost == 2
    assert subject.get(ONE) == Item(ONE, {"n": 2}, 2)


def test_a_put_that_is_refused_to_its_repeat_by_somebody_elses_item_is_a_conflict(
    backend: AwsBackend, tables: tuple[DynamoTables, Any]
) -> None:
    subject, client = tables
    backend.tables().write([Put(ONE, {"theirs": 1})])
    lost = LostAnswers(client, "PutItem")
    with pytest.raises(Conflict):
        subject.write([Put(ONE, {"ours": 1}, Expect.ABSENT)])
    assert lost.lost == 1
    assert subject.get(ONE) == Item(ONE, {"theirs": 1}, 1)


def test_a_put_that_may_have_been_written_over_before_its_repeat_is_not_called_a_conflict(
    backend: AwsBackend, tables: tuple[DynamoTables, Any]
) -> None:
    subject, client = tables
    other = backend.tables()
    LostAnswers(client, "PutItem", meanwhile=lambda: other.write([Put(ONE, {"theirs": 1}, 1)]))
    with pytest.raises(Unavailable):
        subject.write([Put(ONE, {"ours": 1}, Expect.ABSENT)])
    assert subject.get(ONE) == Item(ONE, {"theirs": 1}, 2)


def test_a_transaction_that_was_carried_out_unseen_is_ours(tables: tuple[DynamoTables, Any]) -> None:
    subject, client = tables
    subject.write([Put(TWO, {})])
    lost = LostAnswers(client, "TransactWriteItems")
    assert subject.write([Put(ONE, {}, Expect.ABSENT), Delete(TWO, 1), Check(THREE, Expect.ABSENT)]) == [1, 0, 0]
    assert subject.write([Delete(ONE, 1)]) == [0]
    assert lost.lost == 2
    assert subject.get_many([ONE, TWO]) == {}
    with pytest.raises(Conflict):
        subject.write([Delete(ONE, 1)])


def test_storing_opening_recording_and_closing_survive_a_lost_answer_each(backend: AwsBackend) -> None:
    table = backend.table()
    messages = DynamoMessages(table)
    lost = LostAnswers(table._client, "PutItem", "UpdateItem", "TransactWriteItems")
    messages.create(CAMPAIGN, 1)
    assert messages.store(CAMPAIGN, [row(n, line=5 + n) for n in range(3)], NOW) == [5, 6, 7]
    assert messages.store(CAMPAIGN, [row(0, line=1), row(1, line=9)], NOW) == [1, 6]
    messages.recount(CAMPAIGN)
    assert messages.open(CAMPAIGN, 0, "w1", NOW, lease_ms=LEASE_MS) == OpenBatch(0, 1, None)
    record(messages, 1, [], [0, 1])
    record(messages, 1, [outcome(0), outcome(1, S.FAILED)], [2])
    assert messages.open(CAMPAIGN, 0, "w2", NOW, lease_ms=LEASE_MS, dead=["w1"]) == OpenBatch(
        0, 2, Group("w1", 1, (key(2),), NOW)
    )
    record(messages, 2, [outcome(2)])
    assert messages.close(CAMPAIGN, 0, 2).counts == Counts(sent=2, failed=1)
    assert stands(messages, 0).line == 1
    assert lost.lost >= 15


def test_an_erasure_that_was_carried_out_unseen_is_ours(backend: AwsBackend) -> None:
    table = backend.table()
    messages = DynamoMessages(table)
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(1)])
    lost = LostAnswers(table._client, "UpdateItem")
    assert messages.erase(CAMPAIGN, 0, fence, key(1), NOW)
    assert lost.lost == 2  # the keys it touches, the message
    assert (stands(messages, 1).address, stands(messages, 1).status) == (ERASED, S.SENT)
    record(messages, fence)
    assert messages.counts(CAMPAIGN) == Counts(pending=2, sent=1)


def test_a_request_that_arrives_long_after_its_repeat_changes_nothing(backend: AwsBackend) -> None:
    """The message has moved on under the same fence: the late request must not set it back."""
    table = backend.table()
    messages = DynamoMessages(table)
    stored(messages, 0, each=1)
    fence = opened(messages)
    record(messages, fence, [], [0])
    late = Delayed(table._client, "UpdateItem")
    record(messages, fence, [outcome(0, S.DEFERRED, due=1)], [0])
    record(messages, fence, [outcome(0, S.SENT, attempt=2)])
    assert late.arrive() == 400
    assert states(messages, keys=[0]) == [S.SENT]


@pytest.mark.parametrize("size", [10, PART_BYTES + 1], ids=["whole", "in parts"])
def test_an_object_put_if_absent_unseen_is_ours(backend: AwsBackend, size: int) -> None:
    objects = backend.objects()
    lost = LostAnswers(objects._client, "PutObject", "CompleteMultipartUpload")
    info = objects.put("key", b"x" * size, if_absent=True)
    assert lost.lost == 1
    assert objects.versions("key") == [info]


def test_an_object_put_if_absent_beside_somebody_elses_is_a_conflict_though_repeated(backend: AwsBackend) -> None:
    objects = backend.objects()
    theirs = backend.objects().put("key", b"theirs")
    lost = LostAnswers(objects._client, "PutObject")
    with pytest.raises(Conflict):
        objects.put("key", b"ours", if_absent=True)
    assert lost.lost == 1
    assert objects.versions("key") == [theirs]


def test_an_item_deleted_unseen_is_deleted(backend: AwsBackend) -> None:
    queues: SqsQueues = backend.queues()
    queues.send("work", ["1"])
    (item,) = queues.receive("work")
    lost = LostAnswers(queues._client, "DeleteMessage")
    queues.delete("work", item.receipt)
    assert lost.lost == 1
    assert queues.receive("work") == []
