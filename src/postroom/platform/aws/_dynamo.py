"""One DynamoDB table in plain Python values: the calls that documents, messages and rates share.

Reads are strongly consistent. Every name and value in an expression is a placeholder, because hundreds of everyday words are
reserved (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html). Unprocessed keys of a batch call
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html) are requested again with growing pauses;
botocore repeats whole calls. A refused condition is a result (`WriteResult.applied` is False, with the refusing item), not an
error.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore.exceptions import ClientError

from postroom.clock import Clock
from postroom.errors import Unavailable
from postroom.platform.aws._clients import aws_errors, error_code, was_retried

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Value = str | int | bytes | bool
Record = dict[str, Value]
"""An item, or part of one. An absent attribute has no key: no value is None."""
_THREADS = 16
_GET_MAX = 100  # keys in a BatchGetItem
_WRITE_MAX = 25  # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
_ROUNDS = 10  # for unprocessed items: 25 ms doubling to 2 s, about 8 s in all
_PAUSE_S, _PAUSE_MAX_S = 0.025, 2.0
In = TypeVar("In")
Out = TypeVar("Out")


class PrimaryKey(NamedTuple):
    """An item's primary key."""

    pk: str
    sk: str


class WriteResult(NamedTuple):
    """The result of a conditional write."""

    applied: bool
    item: Record | None
    """If applied: the item now, if the call returns it. If refused: the item whose condition failed, or None if it is absent."""
    repeated: bool
    """Refused after botocore had repeated the call: an earlier try may have been applied and its answer lost."""


class Expression:
    """Builds the expressions of one request and collects their placeholders."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, attribute: str) -> str:
        """The placeholder of an attribute."""
        self._names["#" + attribute] = attribute
        return "#" + attribute

    def value(self, value: Value) -> str:
        """A new placeholder for a value."""
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = encode(value)
        return placeholder

    def equals(self, attribute: str, value: Value | None) -> str:
        """Condition: the attribute has this value, or is absent if `value` is None."""
        if value is None:
            return f"attribute_not_exists({self.name(attribute)})"
        return f"{self.name(attribute)} = {self.value(value)}"

    def assign(self, values: Mapping[str, Value | None], *, counting: str = "") -> str:
        """An update expression that sets these attributes; None removes one. `counting` names a number to raise by one."""
        sets = [f"{self.name(a)} = {self.value(v)}" for a, v in values.items() if v is not None]
        removes = [self.name(a) for a, v in values.items() if v is None]
        adds = [f"{self.name(counting)} {self.value(1)}"] if counting else []
        clauses = (("SET", sets), ("REMOVE", removes), ("ADD", adds))
        return " ".join(f"{verb} {', '.join(what)}" for verb, what in clauses if what)

    def request(self, **more: Any) -> dict[str, Any]:
        """The request's parameters: `more`, and the placeholders used."""
        if self._names:
            more["ExpressionAttributeNames"] = self._names
        if self._values:
            more["ExpressionAttributeValues"] = self._values
        return more


class Table:
    """The table. Threads may share it. `each` runs on its own pool of 16 threads."""

    def __init__(self, client: DynamoDBClient, name: str, clock: Clock) -> None:
        self.name = name
        self._client = client
        self._clock = clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="dynamodb")

    def close(self) -> None:
        """Wait for running calls and end the threads."""
        self._pool.shutdown()

    def each(self, function: Callable[[In], Out], inputs: Sequence[In]) -> list[Out]:
        """Call `function` with each input on the pool's threads. Returns the results in order. If one raises, all are awaited
        before its error is raised, so that nothing is still being written then. `function` must not call `each`."""
        if len(inputs) == 1:
            return [function(inputs[0])]
        futures = [self._pool.submit(function, one) for one in inputs]
        wait(futures)
        return [future.result() for future in futures]

    def get(self, at: PrimaryKey, attributes: Sequence[str] = ()) -> Record | None:
        """The item, or these attributes of it, or None."""
        terms = Expression()
        with aws_errors(f"reading the table {self.name}"):
            answer = self._client.get_item(
                TableName=self.name, Key=_key(at), ConsistentRead=True, **terms.request(**_projection(terms, attributes))
            )
        return decode(answer["Item"]) if "Item" in answer else None

    def get_many(self, addresses: Iterable[PrimaryKey], attributes: Sequence[str] = ()) -> dict[PrimaryKey, Record]:
        """The items of these keys (any number) that exist. Each is consistent; together they are not one snapshot."""
        distinct = list(dict.fromkeys(addresses))
        parts = [distinct[first : first + _GET_MAX] for first in range(0, len(distinct), _GET_MAX)]
        found: dict[PrimaryKey, Record] = {}
        for part in self.each(lambda part: self._get_part(part, attributes), parts):
            found.update(part)
        return found

    def _get_part(self, addresses: Sequence[PrimaryKey], attributes: Sequence[str]) -> dict[PrimaryKey, Record]:
        terms = Expression()
        wanted = list(dict.fromkeys(("pk", "sk", *attributes))) if attributes else []
        request: dict[str, Any] = {
            self.name: terms.request(Keys=[_key(at) for at in addresses], ConsistentRead=True, **_projection(terms, wanted))
        }
        found: dict[PrimaryKey, Record] = {}
        for _ in self._rounds("reading"):
            with aws_errors(f"reading the table {self.name}"):
                answer = self._client.batch_get_item(RequestItems=request)
            for raw in answer["Responses"].get(self.name, ()):
                item = decode(raw)
                found[PrimaryKey(str(item["pk"]), str(item["sk"]))] = item
            request = dict(answer.get("UnprocessedKeys", {}))
            if not request:
                break
        return found

    def query(
        self,
        pk: str,
        *,
        terms: Expression | None = None,
        sort: str = "",
        filter_: str = "",
        attributes: Sequence[str] = (),
        after: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[list[Record], str | None]]:
        """A partition in the order of `sk`, page by page, each with the `sk` to continue after (None after the last page).

        `sort` and `filter_` are conditions built with `terms`. `limit` bounds the items read for a page, before the filter
        (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html).
        """
        terms = terms or Expression()
        condition = f"{terms.name('pk')} = {terms.value(pk)}" + (f" AND {sort}" if sort else "")
        request = terms.request(
            TableName=self.name,
            KeyConditionExpression=condition,
            ConsistentRead=True,
            ScanIndexForward=not reverse,
            **({"FilterExpression": filter_} if filter_ else {}),
            **({"Limit": limit} if limit else {}),
            **_projection(terms, attributes),
        )
        while True:
            start: dict[str, Any] = {} if after is None else {"ExclusiveStartKey": _key(PrimaryKey(pk, after))}
            with aws_errors(f"querying the table {self.name}"):
                answer = self._client.query(**request, **start)
            last = answer.get("LastEvaluatedKey")
            after = str(last["sk"]["S"]) if last else None
            yield [decode(item) for item in answer["Items"]], after
            if after is None:
                return

    def put(self, item: Mapping[str, Value | None], condition: str, terms: Expression) -> WriteResult:
        """Store the whole item if the condition holds."""
        request = terms.request(Item=encode_item(item), ConditionExpression=condition)
        return self._conditionally("writing", lambda **common: self._client.put_item(**request, **common))

    def update(self, at: PrimaryKey, change: str, condition: str, terms: Expression) -> WriteResult:
        """Change the item, created if absent, if the condition (if any) holds. The result has the item afterwards."""
        request = terms.request(Key=_key(at), UpdateExpression=change, ReturnValues="ALL_NEW")
        if condition:
            request["ConditionExpression"] = condition
        return self._conditionally("changing", lambda **common: self._client.update_item(**request, **common))

    def _conditionally(self, doing: str, call: Callable[..., Any]) -> WriteResult:
        with aws_errors(f"{doing} an item of the table {self.name}"):
            try:
                answer = call(TableName=self.name, ReturnValuesOnConditionCheckFailure="ALL_OLD")
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                old: Any = error.response.get("Item")
                return WriteResult(False, decode(old) if old else None, was_retried(error))
        return WriteResult(True, decode(answer["Attributes"]) if "Attributes" in answer else None, False)

    def delete(self, at: PrimaryKey) -> None:
        """Delete the item if it exists."""
        with aws_errors(f"deleting from the table {self.name}"):
            self._client.delete_item(TableName=self.name, Key=_key(at))

    def delete_many(self, addresses: Sequence[PrimaryKey]) -> None:
        """Delete the items that exist."""
        for first in range(0, len(addresses), _WRITE_MAX):
            part = addresses[first : first + _WRITE_MAX]
            request: dict[str, Any] = {self.name: [{"DeleteRequest": {"Key": _key(at)}} for at in part]}
            for _ in self._rounds("deleting"):
                with aws_errors(f"deleting from the table {self.name}"):
                    request = dict(self._client.batch_write_item(RequestItems=request).get("UnprocessedItems", {}))
                if not request:
                    break

    def transact(self, actions: Sequence[dict[str, Any]]) -> list[str]:
        """Apply all of the actions or none. Returns an empty list if applied, else the reason of each action ("None" if it had
        none).

        The token makes AWS answer a call that botocore repeats with the first answer
        (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html, ClientRequestToken).
        """
        token = self._clock.random(16).hex()
        with aws_errors(f"writing to the table {self.name}"):
            try:
                self._client.transact_write_items(TransactItems=actions, ClientRequestToken=token)  # type: ignore[arg-type]
            except ClientError as error:
                if error_code(error) != "TransactionCanceledException":
                    raise
                reasons: Any = error.response.get("CancellationReasons", [])
                return [str(reason.get("Code", "None")) for reason in reasons]
        return []

    def mark(self) -> str:
        """A random text by which a repeated call recognizes its own write."""
        return self._clock.random(9).hex()

    def pause(self, attempt: int) -> None:
        """Wait before try `attempt` + 1: from 25 ms doubling to 2 s, with jitter."""
        self._clock.sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2**attempt) * (0.5 + random.random() / 2))  # noqa: S311 - jitter

    def _rounds(self, doing: str) -> Iterator[None]:
        for attempt in range(_ROUNDS):
            yield
            self.pause(attempt)
        raise Unavailable(f"the table {self.name} was too busy while {doing}: some items were left out {_ROUNDS} times")


def encode(value: Value) -> dict[str, Any]:
    """The value in DynamoDB's wire format
    (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html)."""
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case _:
            return {"S": value}


def encode_item(item: Mapping[str, Value | None]) -> dict[str, Any]:
    """Every attribute that is not None."""
    return {attribute: encode(value) for attribute, value in item.items() if value is not None}


def decode(item: Mapping[str, Any]) -> Record:
    """The reverse of `encode_item`."""
    return {attribute: _plain(value) for attribute, value in item.items()}


def billed(item: Mapping[str, Value | None]) -> int:
    """About the bytes that DynamoDB bills, rounded up
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html)."""
    sizes = {
        a: len(str(v)) // 2 + 2 if isinstance(v, int) else len(v.encode() if isinstance(v, str) else v)
        for a, v in item.items()
        if v is not None
    }
    return sum(len(attribute) + size for attribute, size in sizes.items())


def _plain(value: Mapping[str, Any]) -> Value:
    ((kind, content),) = value.items()
    return int(content) if kind == "N" else content


def _key(at: PrimaryKey) -> dict[str, Any]:
    return {"pk": {"S": at.pk}, "sk": {"S": at.sk}}


def _projection(terms: Expression, attributes: Sequence[str]) -> dict[str, str]:
    return {"ProjectionExpression": ", ".join(terms.name(a) for a in attributes)} if attributes else {}
