"""Counts what a process asks of AWS, and the units that DynamoDB bills for it.

A write bills the whole item, 1 KB a unit, the larger of what it was and what it becomes; in a transaction twice; refused, as if
it had been made. A strongly consistent read bills the whole item, 4 KB a unit, at least one an item; a query the items that it
went through, whatever it projects or filters away. Names count with values, and a number is about half its digits and one.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from typing import Any, NamedTuple

Item = dict[str, Any]
_WRITE, _READ = 1_024, 4_096
_KEY = 24
"""Characters of a message's sort key, and of no other's in its partition."""


class Asked(NamedTuple):
    """So far, or between two looks."""

    calls: Counter[str]
    """By `service.Operation`."""
    writes: int
    reads: int
    own: int
    """Of the writes: those of messages' own items."""

    def since(self, before: Asked) -> Asked:
        return Asked(self.calls - before.calls, self.writes - before.writes, self.reads - before.reads, self.own - before.own)

    def plus(self, other: Asked) -> Asked:
        return Asked(self.calls + other.calls, self.writes + other.writes, self.reads + other.reads, self.own + other.own)


NOTHING = Asked(Counter(), 0, 0, 0)


class Meter:
    """Thread-safe. What is in the table must have been written under its eyes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._writes = self._reads = self._own = 0
        self._sizes: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def asked(self) -> Asked:
        with self._lock:
            return Asked(Counter(self._calls), self._writes, self._reads, self._own)

    def watch(self, events: Any) -> None:
        """The clients of a boto3 session, before any is made."""
        events.register("before-parameter-build.*.*", self._keep)
        events.register("after-call.*.*", self._answered)

    def _keep(self, params: Item, context: Item, **_: Any) -> None:
        context["asked"] = params

    def _answered(self, parsed: Item, model: Any, context: Item, **_: Any) -> None:
        service = model.service_model.service_name
        if service == "dynamodb":
            self.table(model.name, context["asked"], parsed, refused="Error" in parsed)
        else:
            with self._lock:
                self._calls[f"{service}.{model.name}"] += 1

    def table(self, operation: str, params: Item, answer: Item, *, refused: bool = False) -> None:
        """One call of the table. `answer`: of an update with all that the item is now."""
        with self._lock:
            self._calls[f"dynamodb.{operation}"] += 1
            match operation:
                case "PutItem" | "UpdateItem" | "DeleteItem":
                    self._wrote(operation, params, answer, refused=refused)
                case "TransactWriteItems":
                    for action in params["TransactItems"]:
                        ((verb, what),) = action.items()
                        self._in_transaction(verb, what, refused=refused)
                case "BatchWriteItem":
                    for request in (each for requests in params["RequestItems"].values() for each in requests):
                        self._wrote("DeleteItem", request["DeleteRequest"], {}, refused=False)
                case "GetItem":
                    self._read([self._size(params["Key"])])
                case "BatchGetItem":
                    self._read([self._size(key) for asked in params["RequestItems"].values() for key in asked["Keys"]])
                case "Query":
                    self._reads += max(1, math.ceil(self._went_through(params, answer) / _READ))

    def _size(self, at: Item) -> int:
        return self._sizes[at["pk"]["S"]].get(at["sk"]["S"], 0)

    def _read(self, sizes: list[int]) -> None:
        self._reads += sum(max(1, math.ceil(each / _READ)) for each in sizes)

    def _wrote(self, operation: str, params: Item, answer: Item, *, refused: bool) -> None:
        at = params["Item"] if operation == "PutItem" else params["Key"]
        after = {"PutItem": params.get("Item"), "UpdateItem": answer.get("Attributes")}.get(operation)
        self._set(at, after, refused=refused, times=1)

    def _in_transaction(self, verb: str, what: Item, *, refused: bool) -> None:
        at = what["Item"] if verb == "Put" else what["Key"]
        if verb in {"Put", "Delete"}:
            self._set(at, what.get("Item"), refused=refused, times=2)
        else:  # how large an update leaves the item is not told: nearly as large as it was
            self._bill(at, 2 * max(1, math.ceil(self._size(at) / _WRITE)))

    def _set(self, at: Item, after: Item | None, *, refused: bool, times: int) -> None:
        before, now = self._size(at), 0 if after is None else size(after)
        self._bill(at, times * max(1, math.ceil(max(before, 0 if refused else now) / _WRITE)))
        partition, sort = self._sizes[at["pk"]["S"]], at["sk"]["S"]
        if refused:
            return
        if after is None:
            partition.pop(sort, None)
        else:
            partition[sort] = now

    def _bill(self, at: Item, units: int) -> None:
        self._writes += units
        if at["pk"]["S"].startswith("M#") and len(at["sk"]["S"]) == _KEY:
            self._own += units

    def _went_through(self, params: Item, answer: Item) -> int:
        """Between where it began and where it stopped, of what its sort key is asked to be."""
        (partition,) = (value["S"] for value in _valued(params, "#pk ="))
        begins = [value["S"] for value in _valued(params, "begins_with(#sk,")]
        least = [value["S"] for value in _valued(params, "#sk >=")]
        places = [params.get("ExclusiveStartKey"), answer.get("LastEvaluatedKey")]
        first, last = sorted(places, key=bool) if not params.get("ScanIndexForward", True) else places
        return sum(
            each
            for sort, each in self._sizes[partition].items()
            if all(sort.startswith(prefix) for prefix in begins)
            and all(sort >= one for one in least)
            and (first is None or sort > first["sk"]["S"])
            and (last is None or sort <= last["sk"]["S"])
        )


def _valued(params: Item, before: str) -> list[Item]:
    """The value that stands behind these words in the key's condition, if they do."""
    _, found, rest = params["KeyConditionExpression"].partition(before)
    return [params["ExpressionAttributeValues"][rest.strip().split()[0].strip("()")]] if found else []


def size(item: Item) -> int:
    """Bytes that DynamoDB bills."""
    return sum(len(name) + _bytes(value) for name, value in item.items())


def _bytes(value: Item) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return len(content) // 2 + 2
        case "BOOL":
            return 1
        case _:
            return len(content.encode() if kind == "S" else content)
