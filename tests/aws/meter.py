"""Units as DynamoDB bills them: of each request that a client sends, by the size of the items it writes or reads."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Set as AbstractSet
from typing import Any

from postroom.platform.aws._dynamo import Table

Item = dict[str, Any]


def size(item: Item) -> int:
    """Bytes that DynamoDB bills: names and values; a number is about half its digits and one."""
    return sum(len(name) + _bytes(*value.popitem()) for name, value in ((name, dict(value)) for name, value in item.items()))


def _bytes(kind: str, content: Any) -> int:
    match kind:
        case "N":
            return len(content) // 2 + 2
        case "BOOL":
            return 1
        case _:
            return len(content.encode() if kind == "S" else content)


class Meter:
    """Counts from now on what a table's client does. Conditional updates that are refused are not to happen."""

    def __init__(self, table: Table) -> None:
        self.write_units = 0
        self.read_units = 0
        self._table = table
        self._calls: Counter[str] = Counter()
        self._sizes: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        events = table._client.meta.events
        events.register("before-parameter-build.dynamodb.*", self._ask)
        events.register("after-call.dynamodb.*", self._count)

    def calls(self) -> Counter[str]:
        """How often each operation was asked for since the last time."""
        with self._lock:
            counted, self._calls = self._calls, Counter()
        return counted

    def sizes(self, sort_keys: AbstractSet[str]) -> list[int]:
        """Of the items of these sort keys."""
        items = self._table._client.scan(TableName=self._table.name, ConsistentRead=True)["Items"]
        return [size(item) for item in items if item["sk"]["S"] in sort_keys]

    def _ask(self, params: Item, model: Any, **_: Any) -> None:
        with self._lock:
            self._calls[model.name] += 1
        if model.name == "PutItem":
            self._write(params["Item"])

    def _count(self, parsed: Item, model: Any, **_: Any) -> None:
        assert "Error" not in parsed or model.name == "PutItem", f"{model.name} was refused"
        match model.name:
            case "UpdateItem":
                self._write(parsed["Attributes"])
            case "GetItem":
                self._read([parsed.get("Item", {})])
            case "BatchGetItem":
                self._read([item for items in parsed["Responses"].values() for item in items])
            case "Query":
                self._page(parsed)

    def _write(self, item: Item) -> None:
        """One that grows is billed as it is then, one that shrinks as it was."""
        at, now = (item["pk"]["S"], item["sk"]["S"]), size(item)
        with self._lock:
            self.write_units += math.ceil(max(now, self._sizes.get(at, 0)) / 1_024)
            self._sizes[at] = now

    def _read(self, items: list[Item]) -> None:
        with self._lock:
            self.read_units += sum(max(1, math.ceil(size(item) / 4_096)) for item in items)

    def _page(self, parsed: Item) -> None:
        """Of messages, whole partitions: what is projected or filtered away is billed as well, so the sizes known are taken."""
        with self._lock:
            total = sum(each for (_, sort), each in self._sizes.items() if not sort.startswith("!"))
            self.read_units += math.ceil(total / 4_096)
