"""Typed records over `ports.tables`: decoding, optimistic retries and paging, once for all repositories.

A `Collection` holds the records of one kind. Where a record is stored (`ItemKey`) is the repository's decision, so one collection
can span many partitions. A repository whose change needs several items in one atomic call builds a list of writes with `put_of`
and hands them to `write_retrying`.

Nothing here caches. A lost race (`Conflict`) is retried up to `TRIES` times with a fresh read, then raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from postroom.clock import Instant
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables, Write

T = TypeVar("T")
TRIES: Final = 10
"""How often a change is tried when other writers keep winning."""
Derived = Mapping[str, Callable[[Item], Any]]
"""Fields that are not stored in an item's data but follow from its key or version."""
VERSION: Final[Derived] = {"version": lambda item: item.version}


class ListPage(NamedTuple, Generic[T]):
    """Part of a list. Pass `cursor` to get the next part; None: there is no more. A page may be short before the end."""

    items: list[T]
    cursor: str | None


class Collection(Generic[T]):
    """Records of the dataclass or struct `kind`, stored as JSON objects."""

    def __init__(self, tables: Tables, kind: type[T], name: str, *, derived: Derived | None = None) -> None:
        """`name`: what error messages call one record, such as `campaign`. `derived`: see `Derived`; default: none."""
        self._tables = tables
        self._kind = kind
        self._name = name
        self._derived = derived or {}

    def encode(self, value: T) -> dict[str, Any]:
        """The item data of a record, without derived fields."""
        data: dict[str, Any] = msgspec.to_builtins(value, order="deterministic")
        for field in self._derived:
            data.pop(field, None)
        return data

    def decode(self, item: Item) -> T:
        """The record in an item. Raises `Corrupt` if it does not have the expected form."""
        try:
            return msgspec.convert({**item.data, **{field: of(item) for field, of in self._derived.items()}}, self._kind)
        except msgspec.ValidationError as error:
            raise Corrupt(f"the record of {self._name} {item.key.sort} cannot be read: {error}") from error

    def find(self, key: ItemKey) -> T | None:
        """The record, or None if there is none."""
        item = self._tables.get(key)
        return None if item is None else self.decode(item)

    def get(self, key: ItemKey) -> T:
        """The record. Raises `NotFound`."""
        return self.decode(self.item(key))

    def item(self, key: ItemKey) -> Item:
        """The stored item, with its version. Raises `NotFound`."""
        item = self._tables.get(key)
        if item is None:
            raise NotFound(f"there is no {self._name} {key.sort}")
        return item

    def put_of(self, key: ItemKey, value: T, expect: Expect | int = Expect.ANYTHING, *, expires_at: Instant | None = None) -> Put:
        """The write that stores a record, for an atomic group of writes."""
        return Put(key, self.encode(value), expect, expires_at)

    def put(
        self,
        key: ItemKey,
        value: T,
        expect: Expect | int = Expect.ANYTHING,
        *,
        also: Sequence[Write] = (),
        expires_at: Instant | None = None,
    ) -> T:
        """Store a record, atomically with the writes `also`; the record as stored. Raises `Conflict` if `expect` fails."""
        put = self.put_of(key, value, expect, expires_at=expires_at)
        version, *_ = self._tables.write([put, *also])
        return self.decode(Item(key, put.data, version))

    def create(self, key: ItemKey, value: T, *, also: Sequence[Write] = ()) -> T:
        """Store a new record. Raises `Conflict` if there is one."""
        return self.put(key, value, Expect.ABSENT, also=also)

    def update(self, key: ItemKey, change: Callable[[T], T]) -> T:
        """Read, change and store a record, retrying lost races. Raises `NotFound`, and `Conflict` after `TRIES`."""

        def plan() -> tuple[list[Write], Put]:
            item = self.item(key)
            put = self.put_of(key, change(self.decode(item)), item.version, expires_at=item.expires_at)
            return [put], put

        versions: list[int] = []
        put = write_retrying(self._tables, plan, f"{self._name} {key.sort}", versions=versions)
        return self.decode(Item(key, put.data, versions[0], put.expires_at))

    def delete(self, key: ItemKey, expect: Expect | int = Expect.ANYTHING, *, also: Sequence[Write] = ()) -> None:
        """Remove a record, if it is there. Raises `Conflict` if `expect` is not met."""
        self._tables.write([Delete(key, expect), *also])

    def page(
        self, partition: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100, reverse: bool = False
    ) -> ListPage[T]:
        """Part of a partition in the order of its sort keys. `limit`: 1 to 1,000."""
        page = self._tables.query(partition, prefix=prefix, cursor=cursor, limit=limit, reverse=reverse)
        return ListPage([self.decode(item) for item in page.items], page.cursor)

    def iterate(self, partition: str, *, prefix: str = "", at_once: int = 1_000) -> Iterator[T]:
        """All records of a partition, as `iterate_items`."""
        return map(self.decode, iterate_items(self._tables, partition, prefix=prefix, at_once=at_once))


def iterate_items(tables: Tables, partition: str, *, prefix: str = "", at_once: int = 1_000) -> Iterator[Item]:
    """All items of a partition in order, read `at_once` at a time. Not a snapshot: later writes may or may not appear."""
    cursor: str | None = None
    while True:
        page = tables.query(partition, prefix=prefix, cursor=cursor, limit=at_once)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return


def write_retrying(
    tables: Tables, plan: Callable[[], tuple[Sequence[Write], T]], what: str, *, versions: list[int] | None = None
) -> T:
    """Apply planned writes atomically, planning again if another writer was faster; the plan's result.

    `plan` reads what it needs and returns the writes, conditional on the versions it read, and a result. It may return no writes.
    What `plan` raises is raised. `versions` receives the new versions. Raises `Conflict` after `TRIES`, naming `what`.
    """
    for _ in range(TRIES):
        writes, result = plan()
        try:
            written = tables.write(writes) if writes else []
        except Conflict:  # another writer was faster
            continue
        if versions is not None:
            versions.extend(written)
        return result
    raise Conflict(f"{what} is being changed by others all the time; try again")


def expect_of(item: Item | None) -> Expect | int:
    """What a write must expect if `item` (None: absent) was read before."""
    return Expect.ABSENT if item is None else item.version
