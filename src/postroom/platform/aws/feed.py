"""Feed (ports.feed) from the table's stream: each of its shards is a shard, and what it holds becomes changes (_stream.py).

DynamoDB writes the record with the item, keeps it for 24 hours and then forgets it by itself: there is nothing to trim, and what
an erased message's records told of the person before is gone within a day. In the account functions are handed the records
(`changes_of`); this reader is for everybody else.

A shard that grows busy is split. What comes of its messages then is in its children: who follows more than one shard finds a
message's order by `Change.sequence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound, Unsupported
from postroom.platform.aws._errors import code_of, speaking
from postroom.platform.aws._stream import changes
from postroom.platform.ports.feed import Change, FeedPage

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodbstreams import DynamoDBStreamsClient

_RECORDS_MAX: Final = 1_000
_EMPTY_PAGES: Final = 3
"""In a row, before that is the end: a page may be empty though more follows."""
_LOOKS: Final = 20
"""At most, for one page: the stream holds other writes too, and a reader's time is bounded."""


def changes_of(records: Iterable[Mapping[str, Any]]) -> list[Change]:
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
            with speaking(f"reading the stream of {self._table}"):
                said = self._streams.describe_stream(StreamArn=self._stream(), **more)["StreamDescription"]
            found += [shard["ShardId"] for shard in said.get("Shards", ())]
            if (last := said.get("LastEvaluatedShardId")) is None:
                return found
            more = {"ExclusiveStartShardId": last}

    def read(self, shard: str, position: str | None, *, limit: int = 1_000) -> FeedPage:
        iterator: str | None = self._iterator(shard, position)
        found: list[Change] = []
        empty = 0
        for _ in range(_LOOKS):
            if iterator is None or empty == _EMPTY_PAGES or len(found) >= limit:
                break
            with speaking(f"reading the stream of {self._table}"):
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
        with speaking(f"reading the stream of {self._table}"):
            try:
                return self._streams.get_shard_iterator(StreamArn=self._stream(), ShardId=shard, **start)["ShardIterator"]
            except ClientError as error:
                if code_of(error) == "ResourceNotFoundException":
                    raise NotFound(f"there is no shard {shard!r}") from error
                if code_of(error) != "TrimmedDataAccessException" or not position:
                    raise
        return self._iterator(shard, None)

    def _stream(self) -> str:
        if not self._arn:
            with speaking(f"looking for the stream of {self._table}"):
                self._arn = self._client.describe_table(TableName=self._table)["Table"].get("LatestStreamArn", "")
            if not self._arn:
                raise Unsupported(f"the table {self._table} has no stream: deploy the stack, or check the settings")
        return self._arn
