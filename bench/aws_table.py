"""A stand-in for DynamoDB, in this process: as much of a client as the adapters use, fast enough for a hundred thousand messages.

It keeps conditions, versions, transactions and the stream as DynamoDB does, for one table, and waits a moment for each call, as a
network would. `bench.aws` runs the same campaign on it and on the emulator, and demands the same counts of both.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from bench.aws_meter import Item, Meter

_ABSENT = object()


class StandIn:
    """A client. Thread-safe."""

    def __init__(self, meter: Meter, *, latency_s: float = 0.0) -> None:
        self._meter = meter
        self._latency_s = latency_s
        self._lock = threading.Lock()
        self._items: defaultdict[str, dict[str, Item]] = defaultdict(dict)
        self.stream: list[tuple[Item | None, Item | None]] = []
        """Of messages: before and after each change, in order."""

    def close(self) -> None:
        """Nothing is kept open."""

    def get_item(self, **params: Any) -> Item:
        def get() -> Item:
            found = self._find(params["Key"])
            return {} if found is None else {"Item": _projected(found, params)}

        return self._call("GetItem", params, get)

    def batch_get_item(self, **params: Any) -> Item:
        def get() -> Item:
            ((table, asked),) = params["RequestItems"].items()
            found = (self._find(key) for key in asked["Keys"])
            return {"Responses": {table: [_projected(item, asked) for item in found if item is not None]}}

        return self._call("BatchGetItem", params, get)

    def query(self, **params: Any) -> Item:
        def query() -> Item:
            values = params["ExpressionAttributeValues"]
            partition = self._items[values[params["KeyConditionExpression"].split()[2]]["S"]]
            start, forward = params.get("ExclusiveStartKey"), params.get("ScanIndexForward", True)
            after = None if start is None else start["sk"]["S"]
            within = [
                sort
                for sort in sorted(partition, reverse=not forward)
                if (after is None or (sort > after if forward else sort < after))
                and _holds(params["KeyConditionExpression"], partition[sort], values)
            ]
            page = within[: params.get("Limit", len(within))]
            items = [partition[sort] for sort in page]
            condition = params.get("FilterExpression")
            kept = [_projected(item, params) for item in items if condition is None or _holds(condition, item, values)]
            more = {"LastEvaluatedKey": _key(items[-1])} if "Limit" in params and len(page) == params["Limit"] else {}
            return {"Items": kept, "Count": len(kept), "ScannedCount": len(items), **more}

        return self._call("Query", params, query)

    def put_item(self, **params: Any) -> Item:
        return self._call("PutItem", params, lambda: self._written(params["Item"], params, lambda _: dict(params["Item"])))

    def update_item(self, **params: Any) -> Item:
        return self._call("UpdateItem", params, lambda: self._written(params["Key"], params, _updated(params)))

    def delete_item(self, **params: Any) -> Item:
        return self._call("DeleteItem", params, lambda: self._written(params["Key"], params, lambda _: None))

    def batch_write_item(self, **params: Any) -> Item:
        def write() -> Item:
            for request in (each for requests in params["RequestItems"].values() for each in requests):
                self._set(request["DeleteRequest"]["Key"], None)
            return {}

        return self._call("BatchWriteItem", params, write)

    def transact_write_items(self, **params: Any) -> Item:
        def write() -> Item:
            actions = [next(iter(action.items())) for action in params["TransactItems"]]
            fits = [self._fits(what["Item"] if verb == "Put" else what["Key"], what) for verb, what in actions]
            if not all(fits):
                reasons = [{"Code": "None" if fit else "ConditionalCheckFailed"} for fit in fits]
                raise _error("TransactionCanceledException", CancellationReasons=reasons)
            for verb, what in actions:
                match verb:
                    case "Put":
                        self._set(what["Item"], dict(what["Item"]))
                    case "Update":
                        self._set(what["Key"], _updated(what)(self._find(what["Key"])))
                    case "Delete":
                        self._set(what["Key"], None)
            return {}

        return self._call("TransactWriteItems", params, write)

    def _call(self, operation: str, params: Item, work: Callable[[], Item]) -> Item:
        if self._latency_s:
            time.sleep(self._latency_s)
        with self._lock:
            try:
                answer = work()
            except ClientError as error:
                self._meter.table(operation, params, dict(error.response), refused=True)
                raise
            self._meter.table(operation, params, answer)
            return answer

    def _written(self, at: Item, params: Item, change: Callable[[Item | None], Item | None]) -> Item:
        if not self._fits(at, params):
            old = self._find(at)
            raise _error("ConditionalCheckFailedException", **({} if old is None else {"Item": old}))
        after = change(self._find(at))
        self._set(at, after)
        return {"Attributes": after} if after is not None and params.get("ReturnValues") == "ALL_NEW" else {}

    def _fits(self, at: Item, params: Item) -> bool:
        condition = params.get("ConditionExpression")
        return condition is None or _holds(condition, self._find(at) or {}, params.get("ExpressionAttributeValues", {}))

    def _find(self, at: Item) -> Item | None:
        return self._items[at["pk"]["S"]].get(at["sk"]["S"])

    def _set(self, at: Item, after: Item | None) -> None:
        partition, sort = at["pk"]["S"], at["sk"]["S"]
        before = self._items[partition].pop(sort, None)
        if after is not None:
            self._items[partition][sort] = after
        if partition.startswith("M#"):
            self.stream.append((before, after))


def _key(item: Item) -> Item:
    return {"pk": item["pk"], "sk": item["sk"]}


def _error(code: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"RetryAttempts": 0}, **more}
    return ClientError(response, "a call of the stand-in")


def _projected(item: Item, params: Item) -> Item:
    wanted = params.get("ProjectionExpression")
    if wanted is None:
        return dict(item)
    names = [name.removeprefix("#") for name in wanted.split(", ")]
    return {name: item[name] for name in names if name in item}


def _plain(value: Item) -> Any:
    ((kind, content),) = value.items()
    return int(content) if kind == "N" else content


class _Attributes:
    """An item's, as an expression compares them: what is absent equals nothing, and is neither more nor less."""

    def __init__(self, item: Item, values: Item) -> None:
        self._item = item
        self._values = values

    def name(self, attribute: str) -> Any:
        value = self._item.get(attribute)
        return _ABSENT if value is None else _plain(value)

    def value(self, placeholder: str) -> Any:
        return _plain(self._values[placeholder])


def _holds(expression: str, item: Item, values: Item) -> bool:
    attributes = _Attributes(item, values)
    try:
        return bool(_compiled(expression)(attributes.name, attributes.value))
    except TypeError:  # something absent was compared
        return False


@cache
def _compiled(expression: str) -> Callable[..., Any]:
    """The grammar is nearly Python's; the adapters name an attribute `#attribute`."""
    text = re.sub(r"IN \(([^)]*)\)", r"in (\1,)", expression)
    text = re.sub(r"(?<![<>])=", "==", text)
    text = text.replace(" AND ", " and ").replace(" OR ", " or ")
    text = re.sub(r"#(\w+)", r'n("\1")', text)
    text = re.sub(r":\w+", lambda found: f'v("{found[0]}")', text)
    known = {
        "attribute_exists": lambda value: value is not _ABSENT,
        "attribute_not_exists": lambda value: value is _ABSENT,
        "begins_with": lambda value, prefix: value is not _ABSENT and value.startswith(prefix),
    }
    made: Callable[..., Any] = eval(f"lambda n, v: {text}", known)  # the adapters' own expressions
    return made


def _updated(params: Item) -> Callable[[Item | None], Item]:
    """What an update makes of an item."""
    clauses = dict(_clauses(params["UpdateExpression"]))
    values = params.get("ExpressionAttributeValues", {})

    def update(before: Item | None) -> Item:
        after = dict(before or params["Key"])
        for name, text in (each.split(" = ", 1) for each in _listed(clauses.get("SET", ""))):
            plus = re.fullmatch(r"#(\w+) \+ (:\w+)", text)
            added = None if plus is None else _sum(after[plus[1]], values[plus[2]])
            after[name.removeprefix("#")] = values[text] if added is None else added
        for name in _listed(clauses.get("REMOVE", "")):
            after.pop(name.removeprefix("#"), None)
        for name, placeholder in (each.split(" ") for each in _listed(clauses.get("ADD", ""))):
            after[name.removeprefix("#")] = _sum(after.get(name.removeprefix("#"), {"N": "0"}), values[placeholder])
        return after

    return update


def _clauses(expression: str) -> Iterable[tuple[str, str]]:
    parts = re.split(r"(?:^| )(SET|REMOVE|ADD) ", expression)
    return zip(parts[1::2], parts[2::2], strict=True)


def _listed(text: str) -> list[str]:
    return text.split(", ") if text else []


def _sum(one: Item, other: Item) -> Item:
    return {"N": str(int(one["N"]) + int(other["N"]))}
