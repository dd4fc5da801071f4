"""`ports.tables` in DynamoDB: an item is a JSON text and its version, under pk `T#<partition>` and sk `<sort>`.

How a lost answer is distinguished from a lost race. botocore repeats a call whose answer did not come, and the repeat finds
the version already raised:

    we                              DynamoDB
    put, if version = 4      ───→   version 5, mark "a1"       the answer is lost
    put, if version = 4      ───→   refused: version 5, mark "a1"

The refusal returns the item: our mark on it means that the first try was applied. Another mark means a conflict, unless the
call was repeated and the version is beyond ours: then both may have happened, and the caller gets `Unavailable` and reads first.
Everything but a single put is a transaction, whose token makes AWS repeat the first answer
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html).

A put without a condition must still count versions: the version is read, then demanded, and read again if it changed. Expired
items are filtered on read; DynamoDB deletes them later by `ttl`
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Unavailable
from postroom.platform.aws._dynamo import Expression, PrimaryKey, Record, Table, Value, encode_item
from postroom.platform.ports.limits import check_page, cursor_after, parse_cursor
from postroom.platform.ports.tables import (
    Check,
    Delete,
    Expect,
    Item,
    ItemKey,
    ItemPage,
    Put,
    Write,
    check_item_key,
    check_writes,
    writes_json,
)

_TRIES = 8  # against other writers of the same items: 25 ms doubling, about 3 s in all


class DynamoTables:
    """`ports.tables.Tables` in one table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def get(self, key: ItemKey) -> Item | None:
        check_item_key(key)
        record = self._table.get(_address(key))
        return self._item(record) if record else None

    def get_many(self, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        for key in keys:
            check_item_key(key)
        items = [self._item(record) for record in self._table.get_many(map(_address, keys)).values()]
        return {item.key: item for item in items if item is not None}

    def existing(self, partition: str, sorts: Sequence[str]) -> set[str]:
        keys = [ItemKey(partition, sort) for sort in sorts]
        check_item_key(ItemKey(partition, "-"))
        for key in keys:
            check_item_key(key)
        records = self._table.get_many(map(_address, keys), ["expires"]).values()
        return {str(record["sk"]) for record in records if not self._expired(record)}

    def query(
        self, partition: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100, reverse: bool = False
    ) -> ItemPage:
        check_item_key(ItemKey(partition, prefix or "-"))
        check_page(limit)
        terms = Expression()
        sort = f"begins_with({terms.name('sk')}, {terms.value(prefix)})" if prefix else ""
        after = None if cursor is None else parse_cursor(cursor)
        pages = self._table.query(f"T#{partition}", terms=terms, sort=sort, after=after, limit=limit, reverse=reverse)
        records, last = next(pages)
        items = [item for record in records if (item := self._item(record)) is not None]
        return ItemPage(items, None if last is None else cursor_after(last))

    def write(self, writes: Sequence[Write]) -> list[int]:
        check_writes(writes)
        texts = writes_json(writes)
        for attempt in range(_TRIES):
            demands = self._demands(writes)
            refused = self._apply(writes, texts, demands)
            if refused is None:
                return [_version_after(write, demand) for write, demand in zip(writes, demands, strict=True)]
            if refused and writes[refused[0]].expect is not Expect.ANYTHING:
                raise Conflict(f"{_name(writes[refused[0]].key)} is not as expected: another writer changed it")
            self._table.pause(attempt)
        raise Unavailable("other writers kept changing the same items: nothing was written")

    def _demands(self, writes: Sequence[Write]) -> list[int | None]:
        """The version each write demands: 0 for absent, None for no condition."""
        free = [_address(w.key) for w in writes if isinstance(w, Put) and w.expect is Expect.ANYTHING]
        found = self._table.get_many(free, ["version", "expires"]) if free else {}
        versions = {at: 0 if self._expired(record) else _number(record["version"]) for at, record in found.items()}
        demands: list[int | None] = []
        for write in writes:
            if isinstance(write.expect, int):
                demands.append(write.expect)
            elif write.expect is Expect.ABSENT:
                demands.append(0)
            else:
                demands.append(versions.get(_address(write.key), 0) if isinstance(write, Put) else None)
        return demands

    def _apply(self, writes: Sequence[Write], texts: Sequence[str], demands: Sequence[int | None]) -> list[int] | None:
        """Returns None if written, else the indexes of the failed conditions: none of them if the table was busy."""
        if len(writes) == 1 and isinstance(writes[0], Put) and demands[0] is not None:
            return self._put(writes[0], texts[0], demands[0])
        if len(writes) == 1 and isinstance(writes[0], Delete) and demands[0] is None:
            self._table.delete(_address(writes[0].key))
            return None
        actions = [(i, self._action(write, texts[i], demands[i])) for i, write in enumerate(writes)]
        needed = [(i, action) for i, action in actions if action is not None]
        reasons = self._table.transact([action for _, action in needed]) if needed else []
        if not reasons:
            return None
        return [i for (i, _), reason in zip(needed, reasons, strict=True) if reason == "ConditionalCheckFailed"]

    def _put(self, put: Put, text: str, demand: int) -> list[int] | None:
        terms = Expression()
        record = self._record(put, text, demand + 1)
        written = self._table.put(record, self._condition(terms, demand), terms)
        old = written.item
        if written.applied or (old is not None and old.get("mark") == record["mark"]):
            return None
        if written.repeated and old is not None and _number(old["version"]) > demand + 1:
            raise Unavailable(f"{_name(put.key)} was changed while we wrote it, perhaps after us: read it before writing again")
        return [0]

    def _action(self, write: Write, text: str, demand: int | None) -> dict[str, Any] | None:
        terms = Expression()
        condition = None if demand is None else self._condition(terms, demand)
        if isinstance(write, Put):
            record = self._record(write, text, (demand or 0) + 1)
            return {"Put": self._request(terms, condition, Item=encode_item(record))}
        if isinstance(write, Check) and condition is None:
            return None
        verb = "Delete" if isinstance(write, Delete) else "ConditionCheck"
        at = _address(write.key)
        return {verb: self._request(terms, condition, Key=encode_item({"pk": at.pk, "sk": at.sk}))}

    def _request(self, terms: Expression, condition: str | None, **what: Any) -> dict[str, Any]:
        demanded = {} if condition is None else {"ConditionExpression": condition}
        return terms.request(TableName=self._table.name, **what, **demanded)

    def _condition(self, terms: Expression, demand: int) -> str:
        expires, now = terms.name("expires"), terms.value(self._clock.now())
        if demand == 0:
            return f"attribute_not_exists({terms.name('pk')}) OR {expires} <= {now}"
        live = f"(attribute_not_exists({expires}) OR {expires} > {now})"
        return f"{terms.equals('version', demand)} AND {live}"

    def _record(self, put: Put, text: str, version: int) -> dict[str, Value | None]:
        at = _address(put.key)
        seconds = None if put.expires_at is None else -(-put.expires_at // 1_000)
        return {
            "pk": at.pk,
            "sk": at.sk,
            "data": text,
            "version": version,
            "mark": self._table.mark(),
            "expires": put.expires_at,
            "ttl": seconds,
        }

    def _expired(self, record: Record) -> bool:
        return "expires" in record and _number(record["expires"]) <= self._clock.now()

    def _item(self, record: Record) -> Item | None:
        if self._expired(record):
            return None
        key = ItemKey(str(record["pk"])[2:], str(record["sk"]))
        try:
            data = json.loads(str(record["data"]))
        except ValueError as error:
            raise Corrupt(f"{_name(key)} does not hold JSON: {error}") from error
        expires = Instant(_number(record["expires"])) if "expires" in record else None
        return Item(key, data, _number(record["version"]), expires)


def _address(key: ItemKey) -> PrimaryKey:
    return PrimaryKey(f"T#{key.partition}", key.sort)


def _version_after(write: Write, demand: int | None) -> int:
    return (demand or 0) + 1 if isinstance(write, Put) else 0


def _number(value: Value) -> int:
    return int(value)


def _name(key: ItemKey) -> str:
    return f"{key.partition} / {key.sort}"
