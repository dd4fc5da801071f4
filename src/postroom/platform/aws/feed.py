"""From a record of the table's stream to changes of the feed (ports.feed): pure, whoever brings the record.

The stream has a record for each write of each item, with the item before and after, in the order of the writes within a
partition; a message is one item, and its events beside it stand in the same partition. What a write tells is what the item
gained by it:

    no item before                 the message was stored
    another line                   a row with a lower line took its place, untried
    more events in `heard`         each of them, with where it puts the message
    another `mark`                 its worker settled it; where news are ahead of that, the outcome is told as the event it is
    the address is `ERASED`        nothing of the person, any more
    an event's item is new         the event, by what `stands` on it: where it put the message

Fences, leases, counts, documents: no change of a message. A record that comes again makes the same changes, sequence included.

Feed (ports.feed) from the table's stream: each of its shards is a shard, and what it holds becomes changes (_stream.py).

DynamoDB writes the record with the item, keeps it for 24 hours and then forgets it by itself: there is nothing to trim, and what
an erased message's records told of the person before is gone within a day. In the account functions are handed the records
(`changes_of`); this reader is for everybody else.

A shard that grows busy is split. What comes of its messages then is in its children: who follows more than one shard finds a
message's order by `Change.sequence`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound, Unsupported
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, parse_event
from postroom.model.ids import Key
from postroom.model.message import ERASED, MessageStatus, Settlement
from postroom.model.provider_status import ReportedStatus, event_from_settlement
from postroom.platform.aws import _ledger
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.aws._dynamo import Record, decode
from postroom.platform.ports.feed import FeedPage, MessageChange

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodbstreams import DynamoDBStreamsClient


_A_SECOND_MS = 1_000


def changes(record: Mapping[str, Any]) -> list[MessageChange]:
    """What one record tells of messages, as GetRecords gives it or as Lambda is given it."""
    told = record["dynamodb"]
    partition, sort = str(told["Keys"]["pk"]["S"]), str(told["Keys"]["sk"]["S"])
    if "NewImage" not in told or not partition.startswith(_ledger.BATCH_PARTITION):
        return []
    noted_at = _noted_at(told["ApproximateCreationDateTime"])
    if sort.startswith(_ledger.EVENT_SORT):
        return [] if "OldImage" in told else list(_beside(partition, decode(told["NewImage"]), noted_at))
    if sort < _ledger.FIRST_KEY:
        return []
    old = decode(told["OldImage"]) if "OldImage" in told else None
    return list(_of_message(partition, old, decode(told["NewImage"]), noted_at))


def _of_message(partition: str, old: Record | None, new: Record, noted_at: Instant) -> Iterator[MessageChange]:
    news = _ledger.news(new) or ReportedStatus()
    if old is None or old["line"] != new["line"]:
        yield _change(partition, new, news, noted_at, at=_ledger.instant(new, "stored"))
    elif new["address"] == ERASED and (old["address"] != ERASED or old["values"] != new["values"]):
        yield _change(partition, new, news, noted_at, at=noted_at)
    elif old.get("mark") != new.get("mark"):
        overtaken = news.ahead_of(_ledger.outcome(new)) is not None
        yield _change(partition, new, news, noted_at, event=_settled(new) if overtaken else None)
    elif old.get("heard") != new.get("heard"):
        yield from _gained(partition, old, new, noted_at)


def _gained(partition: str, old: Record, new: Record, noted_at: Instant) -> Iterator[MessageChange]:
    """Events are added at the end: what stands behind those of before."""
    news = _ledger.news(old) or ReportedStatus()
    for index, event in enumerate(_ledger.heard(new)[len(_ledger.heard(old)) :]):
        news = news.hear(event)
        yield _change(partition, new, news, noted_at, event=event, index=index)


def _beside(partition: str, item: Record, noted_at: Instant) -> Iterator[MessageChange]:
    if "stands" not in item:  # our worker's own: its message's change tells of it
        return
    ref, batch = _ref(partition)
    key = Key(bytes.fromhex(str(item["sk"]).split("#")[1]))
    state, attempt, at, code, reply, sequence = json.loads(str(item["stands"]))
    event = replace(parse_event(str(item["event"])), raw="")
    at = noted_at if at is None else Instant(at)
    yield MessageChange(ref, batch, key, MessageStatus(state), attempt, at, code, reply, event, sequence, noted_at)


def _change(
    partition: str,
    new: Record,
    news: ReportedStatus,
    noted_at: Instant,
    *,
    at: Instant | None = None,
    event: Event | None = None,
    index: int = 0,
) -> MessageChange:
    ref, batch = _ref(partition)
    state, attempt, since, code, reply = _ledger.stands(new, news)
    told = None if event is None else replace(event, raw="")
    when = at if at is not None else since if since is not None else noted_at
    sequence = _ledger.sequence(int(new["version"]), index)
    return MessageChange(ref, batch, _ledger.key_of(new), state, attempt, when, code, reply, told, sequence, noted_at)


def _settled(record: Record) -> Event | None:
    """The outcome that the record holds, as an event."""
    attempt, state = _ledger.outcome(record)
    at, code, reply = Instant(int(record["at"])), int(record.get("code", 0)), str(record.get("reply", ""))
    return event_from_settlement(Settlement(_ledger.key_of(record), state, attempt, at, None, code, reply))


def _ref(partition: str) -> tuple[CampaignRef, int]:
    _, tenant, campaign, batch = partition.split("#")
    return CampaignRef(tenant, campaign), int(batch)


def _noted_at(said: datetime | float) -> Instant:
    """The stream tells whole seconds. The end of that second: nobody who was there when it was written came after it."""
    ms = int((said.timestamp() if isinstance(said, datetime) else said) * _A_SECOND_MS)
    return Instant(ms + _A_SECOND_MS - 1 if ms % _A_SECOND_MS == 0 else ms)


_RECORDS_MAX: Final = 1_000
_EMPTY_PAGES: Final = 3
"""In a row, before that is the end: a page may be empty though more follows."""

_LOOKS: Final = 20
"""At most, for one page: the stream holds other writes too, and a reader's time is bounded."""


def changes_of(records: Iterable[Mapping[str, Any]]) -> list[MessageChange]:
    """What records of the stream tell of messages, in their order: `Records` of a Lambda event, or of GetRecords."""
    return [change for record in records for change in changes(record)]


class DynamoFeed:
    """See ports.feed and the module's text."""

    def __init__(self, client: DynamoDBClient, streams: DynamoDBStreamsClient, table: str) -> None:
        self._client = client
        self._streams = streams
        self._table = table
        self._arn = ""

    def shards(self) -> list[str]:
        found: list[str] = []
        more: dict[str, Any] = {}
        while True:
            with aws_errors(f"reading the stream of {self._table}"):
                said = self._streams.describe_stream(StreamArn=self._stream(), **more)["StreamDescription"]
            found += [shard["ShardId"] for shard in said.get("Shards", ())]
            if (last := said.get("LastEvaluatedShardId")) is None:
                return found
            more = {"ExclusiveStartShardId": last}

    def read(self, shard: str, position: str | None, *, limit: int = 1_000) -> FeedPage:
        iterator: str | None = self._iterator(shard, position)
        found: list[MessageChange] = []
        empty = 0
        for _ in range(_LOOKS):
            if iterator is None or empty == _EMPTY_PAGES or len(found) >= limit:
                break
            with aws_errors(f"reading the stream of {self._table}"):
                page = self._streams.get_records(ShardIterator=iterator, Limit=min(limit - len(found), _RECORDS_MAX))
            iterator = page.get("NextShardIterator")
            records = page["Records"]
            empty = 0 if records else empty + 1
            found += changes_of(records)
            if records:
                position = records[-1]["dynamodb"]["SequenceNumber"]
        return FeedPage(found, position or "")

    def trim(self, shard: str, before: Instant) -> None:
        """DynamoDB does."""

    def _iterator(self, shard: str, position: str | None) -> str:
        """`NotFound`: no such shard, or no more. After a position that is older than a day: the oldest kept."""
        start: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if position:
            if not (position.isascii() and position.isdigit()):
                raise Invalid(f"{position!r} is no position in a feed")
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position}
        with aws_errors(f"reading the stream of {self._table}"):
            try:
                return self._streams.get_shard_iterator(StreamArn=self._stream(), ShardId=shard, **start)["ShardIterator"]
            except ClientError as error:
                if error_code(error) == "ResourceNotFoundException":
                    raise NotFound(f"there is no shard {shard!r}") from error
                if error_code(error) != "TrimmedDataAccessException" or not position:
                    raise
        return self._iterator(shard, None)

    def _stream(self) -> str:
        if not self._arn:
            with aws_errors(f"looking for the stream of {self._table}"):
                self._arn = self._client.describe_table(TableName=self._table)["Table"].get("LatestStreamArn", "")
            if not self._arn:
                raise Unsupported(f"the table {self._table} has no stream: deploy the stack, or check the settings")
        return self._arn
