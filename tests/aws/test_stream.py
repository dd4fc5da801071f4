"""From the records of the table's stream to changes: each write once, whoever brings the records, and nothing but messages."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.errors import Invalid, NotFound, Unsupported
from postroom.model.event import Event
from postroom.model.message import ERASED
from postroom.platform.aws.feed import DynamoFeed, changes_of, changes_of_record
from postroom.platform.aws.tables import DynamoTables
from postroom.platform.ports.feed import MessageChange
from postroom.platform.ports.messages import ReportedEvent
from postroom.platform.ports.tables import ItemKey, Put
from tests.contract.aws_backend import TABLE, AwsBackend
from tests.contract.messages_kit import CAMPAIGN, NOW, K, S, at, event, key, opened, outcome, record, row, stored

WHEN = datetime(2026, 9, 21, 8, 0, 0, tzinfo=UTC)


def records(backend: AwsBackend) -> list[Mapping[str, Any]]:
    """All that there are, as GetRecords gives them."""
    streams, table = backend.account.streams(), backend.table()
    arn = table._client.describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    where = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    found: list[Mapping[str, Any]] = list(streams.get_records(ShardIterator=where["ShardIterator"], Limit=1_000)["Records"])
    streams.close()
    return found


def as_lambda_has_it(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Time as a number, bytes as base64."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value.timestamp() if isinstance(value, datetime) else value

    told: Mapping[str, Any] = plain(record)
    return told


def test_a_function_is_told_the_same_as_a_reader_and_again_the_same(backend: AwsBackend) -> None:
    messages = backend.messages()
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0), outcome(1, S.DEFERRED, due=5)], [2])
    messages.record_events(CAMPAIGN, [ReportedEvent(0, key(0), event(K.DELIVERED))], NOW)
    messages.close(CAMPAIGN, 0, fence)
    DynamoTables(backend.table(), backend.clock).write([Put(ItemKey("M#acme#spring#0", "x"), {"a": 1})])
    there = records(backend)
    told = changes_of(there)
    assert [(one.key, one.status) for one in told[3:] if one.key == key(0)] == [(key(0), S.SENT), (key(0), S.DELIVERED)]
    assert [(one.key, one.status) for one in told[3:] if one.key == key(1)] == [(key(1), S.DEFERRED)]
    assert len(told) == 6
    assert changes_of(map(as_lambda_has_it, there)) == told
    (shard,) = backend.feed().shards()
    assert backend.feed().read(shard, None).changes == told


def test_an_event_beside_its_message_is_told_of_once_and_in_order(backend: AwsBackend) -> None:
    """Whether in the item or beside it: the same change, the sequence rising; and what is forgotten later tells nothing."""
    messages = backend.messages()
    stored(messages, 0, each=1)
    fence = opened(messages)
    record(messages, fence, [outcome(0)])
    long = [
        event(kind, ms=ms, detail="x" * 200)
        for ms, kind in enumerate((K.CLICKED, K.DELIVERED, K.OPENED, K.BOUNCED, K.COMPLAINED))
    ]
    for each in long:
        big = ReportedEvent(0, key(0), each)._replace(event=_with_raw(each))
        assert list(messages.record_events(CAMPAIGN, [big, big], NOW)) == [True, False]
    told = [one for one in changes_of(records(backend)) if one.event]
    assert [one.event for one in told] == [_with_raw(each, "") for each in long]
    assert [one.status for one in told] == [S.SENT, S.DELIVERED, S.DELIVERED, S.BOUNCED, S.COMPLAINED]
    assert [one.at for one in told] == [NOW, at(1), at(1), at(3), at(4)]
    numbers = [one.sequence for one in changes_of(records(backend))]
    assert numbers == sorted(set(numbers))
    beside = [one for one in records(backend) if one["dynamodb"]["Keys"]["sk"]["S"].startswith("!event#")]
    assert len(beside) == 3
    before = len(records(backend))
    assert messages.erase(CAMPAIGN, 0, fence, key(0), at(9))
    (last,) = changes_of(records(backend)[before:])
    assert (last.status, last.reply, last.event) == (S.COMPLAINED, "", None)
    timeline = messages.timeline(CAMPAIGN, 0, key(0))
    assert {(one.detail, one.url, one.raw) for one in timeline} == {("", "", "")}
    assert len(timeline) == 6


def _with_raw(told: Event, raw: str = "r" * 1_500) -> Event:
    return replace(told, raw=raw)


def test_a_row_that_takes_the_place_of_another_is_stored_again(backend: AwsBackend) -> None:
    messages = backend.messages()
    messages.create(CAMPAIGN, 1)
    messages.store(CAMPAIGN, [row(0, line=9)], NOW)
    messages.store(CAMPAIGN, [row(0, line=2)], NOW)
    first, second = changes_of(records(backend))
    assert (first.status, first.at, second.status, second.at) == (S.PENDING, NOW, S.PENDING, NOW)
    assert first.sequence < second.sequence


def image(**more: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    head = {"pk": {"S": "M#acme#spring#3"}, "sk": {"S": key(7).hex()}, "line": {"N": "4"}, "address": {"S": "a@b.c"}}
    rest = {"values": {"S": "[]"}, "stored": {"N": "5"}, "status": {"N": "0"}, "attempt": {"N": "0"}, "version": {"N": "2"}}
    return {**head, **rest, **more}


def one(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, when: Any = WHEN) -> list[MessageChange]:
    some = new or old or {}
    told = {"Keys": {"pk": some["pk"], "sk": some["sk"]}, "ApproximateCreationDateTime": when}
    return changes_of_record({"dynamodb": told | ({"OldImage": old} if old else {}) | ({"NewImage": new} if new else {})})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (image(), None),
        (image(), image(fence={"N": "9"}, version={"N": "3"})),
        (image(), image(told={"S": '[3,1,5,"",null,null,null,null,1]'}, version={"N": "3"})),
        (None, image(pk={"S": "T#M#acme#spring#3"})),
        (None, image(pk={"S": "C#acme#spring"}, sk={"S": "campaign"})),
        (None, image(sk={"S": "!batch"})),
        (image(sk={"S": "!event#00#x"}), image(sk={"S": "!event#00#x"}, event={"S": "[]"})),
        (None, image(sk={"S": "!event#00#own.1.deferred"}, event={"S": "[]"})),
        (image(address={"S": ERASED}), image(address={"S": ERASED}, heard={"S": "[]"})),
    ],
    ids=["deleted", "stamped", "spilled", "document", "backend", "batch", "event forgotten", "own event", "nothing gained"],
)
def test_other_writes_tell_nothing(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
    assert one(old, new) == []


def test_a_write_is_noted_at_the_end_of_the_second_the_stream_says() -> None:
    """Else an endpoint made a moment before would not be told."""
    for when in (WHEN, WHEN.timestamp(), int(WHEN.timestamp())):
        (told,) = one(None, image(), when)
        assert told.noted_at == int(WHEN.timestamp()) * 1_000 + 999
        assert (told.batch, told.key, told.at) == (3, key(7), 5)
    (exact,) = one(None, image(), WHEN.timestamp() + 0.25)
    assert exact.noted_at == int(WHEN.timestamp()) * 1_000 + 250


def test_what_is_no_position_shard_or_stream_is_said(backend: AwsBackend) -> None:
    feed = backend.feed()
    (shard,) = feed.shards()
    with pytest.raises(Invalid):
        feed.read(shard, "x")
    with pytest.raises(NotFound):
        feed.read("shardId-00000000000000000000-ffffffff", None)
    with pytest.raises(Unsupported):
        DynamoFeed(backend.table()._client, backend.account.streams(), "none").shards()
    messages = backend.messages()
    stored(messages, 0)
    forgotten = feed.read(shard, "0" * 30)
    assert len(forgotten.changes) == 3, "from the oldest on"
