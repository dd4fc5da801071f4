"""`ports.feed` from the table's stream (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html).

Each shard of the stream is a shard of the feed. DynamoDB writes the record with the item, keeps it for 24 hours and then deletes
it: there is nothing to trim, and an erased person is gone from the records within a day. Lambda functions receive the records
from AWS (`changes_of`); `DynamoFeed` reads them for other callers.

A busy shard is split. Later changes of its messages are in its children: a reader that follows more than one shard orders a
message's changes by `MessageChange.sequence`.

The stream has one record for each write of an item, with the item before and after, in the order of the writes within a
partition. A message is one item, and its event items are in the same partition. A record becomes changes by comparing the two
items:

    no item before                 the message was stored
    another `line`                 a row with a lower line took its place, untried
    more events in `events`        one change for each, with the message's status after it
    another `mark`                 a worker settled it; if the reported status is ahead, the outcome is the change's event
    the address is `ERASED`        a change without anything personal
    an event's item is new         the event, with the `message_status` after it

Writes of fences, leases, counts and documents are not changes. A record that is read again yields the same changes, with the same
sequence.
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


def changes_of_record(record: Mapping[str, Any]) -> list[MessageChange]:
    """The changes of messages in one record, as GetRecords returns it or Lambda receives it
    (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html)."""
    stream_record = record["dynamodb"]
    partition, sort = str(stream_record["Keys"]["pk"]["S"]), str(stream_record["Keys"]["sk"]["S"])
    if "NewImage" not in stream_record or not partition.startswith(_ledger.BATCH_PARTITION):
        return []
    noted_at = _noted_at(stream_record["ApproximateCreationDateTime"])
    if sort.startswith(_ledger.EVENT_SORT):
        return [] if "OldImage" in stream_record else list(_event_changes(partition, decode(stream_record["NewImage"]), noted_at))
    if sort < _ledger.FIRST_KEY:
        return []
    old = decode(stream_record["OldImage"]) if "OldImage" in stream_record else None
    return list(_of_message(partition, old, decode(stream_record["NewImage"]), noted_at))


def _of_message(partition: str, old: Record | None, new: Record, noted_at: Instant) -> Iterator[MessageChange]:
    reported = _ledger.reported_status(new) or ReportedStatus()
    if old is None or old["line"] != new["line"]:
        yield _change(partition, new, reported, noted_at, at=_ledger.instant(new, "stored"))
    elif new["address"] == ERASED and (old["address"] != ERASED or old["values"] != new["values"]):
        yield _change(partition, new, reported, noted_at, at=noted_at)
    elif old.get("mark") != new.get("mark"):
        overtaken = reported.ahead_of(_ledger.outcome_rank(new)) is not None
        yield _change(partition, new, reported, noted_at, event=_settled(new) if overtaken else None)
    elif old.get("events") != new.get("events"):
        yield from _gained(partition, old, new, noted_at)


def _gained(partition: str, old: Record, new: Record, noted_at: Instant) -> Iterator[MessageChange]:
    """One change for each event that was added. Events are added at the end of the list."""
    reported = _ledger.reported_status(old) or ReportedStatus()
    for index, event in enumerate(_ledger.stored_events(new)[len(_ledger.stored_events(old)) :]):
        reported = reported.hear(event)
        yield _change(partition, new, reported, noted_at, event=event, index=index)


def _event_changes(partition: str, item: Record, noted_at: Instant) -> Iterator[MessageChange]:
    if "message_status" not in item:  # our own worker's: the change of its message has it
        return
    ref, batch = _ref(partition)
    key = Key(bytes.fromhex(str(item["sk"]).split("#")[1]))
    status, attempt, at, code, reply, sequence = json.loads(str(item["message_status"]))
    event = replace(parse_event(str(item["event"])), raw="")
    at = noted_at if at is None else Instant(at)
    yield MessageChange(ref, batch, key, MessageStatus(status), attempt, at, code, reply, event, sequence, noted_at)


def _change(
    partition: str,
    new: Record,
    reported: ReportedStatus,
    noted_at: Instant,
    *,
    at: Instant | None = None,
    event: Event | None = None,
    index: int = 0,
) -> MessageChange:
    ref, batch = _ref(partition)
    status, attempt, since, code, reply = _ledger.current_status(new, reported)
    shown = None if event is None else replace(event, raw="")
    when = at if at is not None else since if since is not None else noted_at
    sequence = _ledger.sequence(int(new["version"]), index)
    return MessageChange(ref, batch, _ledger.key_of(new), status, attempt, when, code, reply, shown, sequence, noted_at)


def _settled(record: Record) -> Event | None:
    """The recorded outcome as an event."""
    attempt, state = _ledger.outcome_rank(record)
    at, code, reply = Instant(int(record["at"])), int(record.get("code", 0)), str(record.get("reply", ""))
    return event_from_settlement(Settlement(_ledger.key_of(record), state, attempt, at, None, code, reply))


def _ref(partition: str) -> tuple[CampaignRef, int]:
    _, tenant, campaign, batch = partition.split("#")
    return CampaignRef(tenant, campaign), int(batch)


def _noted_at(answer: datetime | float) -> Instant:
    """The end of the second that the stream names: it has whole seconds only, and the time must not be before the write."""
    ms = int((answer.timestamp() if isinstance(answer, datetime) else answer) * _A_SECOND_MS)
    return Instant(ms + _A_SECOND_MS - 1 if ms % _A_SECOND_MS == 0 else ms)


_RECORDS_MAX: Final = 1_000
_EMPTY_PAGES: Final = 3
"""Empty pages in a row that count as the end: a page may be empty although more records follow."""
_LOOKS: Final = 20
"""GetRecords calls for one page at most: the stream holds other writes too, and a reader's time is bounded."""


def changes_of(records: Iterable[Mapping[str, Any]]) -> list[MessageChange]:
    """The changes of messages in records of the stream, in order: `Records` of a Lambda event or of GetRecords."""
    return [change for record in records for change in changes_of_record(record)]


class DynamoFeed:
    """`ports.feed.Feed` of one table's stream."""

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
                answer = self._streams.describe_stream(StreamArn=self._stream(), **more)["StreamDescription"]
            found += [shard["ShardId"] for shard in answer.get("Shards", ())]
            if (last := answer.get("LastEvaluatedShardId")) is None:
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
        """Does nothing: DynamoDB trims the stream."""

    def _iterator(self, shard: str, position: str | None) -> str:
        """An iterator after `position`, or at the oldest record if the position is older than a day. Raises `NotFound` if the
        shard is absent (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html)."""
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
