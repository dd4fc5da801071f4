"""Tables: small documents under a two-part key, changed by conditional writes.

An item is a JSON object under (`partition`, `sort`). Every partition begins with the tenant. Reads are strongly
consistent.
- **Atomic**: one `write` call, all or nothing, up to 100 writes, at most one for the same key; nothing spans two
  calls.
- **Conditional**: a write may demand that the item is absent or has a version; one unmet demand refuses the whole
  call with `Conflict` and changes nothing. Versions start at 1 and rise by one with every write of that item's life.
- **Order**: `query` yields a partition in the byte order of `sort` (UTF-8).
- **Limits**: partition and sort up to 1,024 bytes of UTF-8 and not empty (`Invalid`); data up to 100 KB as JSON, and up
  to 3 MB in one call (`TooLarge`; a DynamoDB transaction takes 4 MB in all).
- **Expiry**: an item past `expires_at` is never returned and counts as absent for demands; its space is freed later.
- **Repeats**: nothing is retried after a write whose answer was lost unless the adapter can prove it harmless; a
  caller that sees `Unavailable` reads before it writes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from postroom.clock import Instant

MAX_WRITES = 100
MAX_KEY_BYTES = 1_024
MAX_ITEM_BYTES = 100_000
MAX_CALL_BYTES = 3_000_000


class ItemKey(NamedTuple):
    """Where an item lives."""

    partition: str
    sort: str


class Expect(Enum):
    """What a write demands besides a version number."""

    ANYTHING = "anything"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Item:
    """A stored document."""

    key: ItemKey
    data: Mapping[str, Any]
    version: int
    expires_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Store `data`, replacing what is there. `expect` an int: only if the item has that version."""

    key: ItemKey
    data: Mapping[str, Any]
    expect: Expect | int = Expect.ANYTHING
    expires_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item; removing what is not there is fine unless a version is expected."""

    key: ItemKey
    expect: Expect | int = Expect.ANYTHING


@dataclass(frozen=True, slots=True)
class Check:
    """Demand something of an item without changing it."""

    key: ItemKey
    expect: Expect | int


Write = Put | Delete | Check


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Part of a query's answer. `cursor` asks for the next part; None: that was all. Opaque text."""

    items: Sequence[Item]
    cursor: str | None


class Tables(Protocol):
    """See the module's text."""

    def get(self, key: ItemKey) -> Item | None:
        """The item, or None."""
        ...

    def get_many(self, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """Those of `keys` (any number) that exist. Not one snapshot."""
        ...

    def existing(self, partition: str, sorts: Sequence[str]) -> set[str]:
        """Which of `sorts` (any number) exist in one partition, without reading their data: for suppression look-ups."""
        ...

    def query(
        self, partition: str, *, prefix: str = "", cursor: str | None = None, limit: int = 100, reverse: bool = False
    ) -> ItemPage:
        """Items of one partition whose sort key begins with `prefix`, in order; `limit` 1 to 1,000 (else `Invalid`).
        A page may be short before the end: only `cursor` None says that it was the last."""
        ...

    def write(self, writes: Sequence[Write]) -> list[int]:
        """Apply all or nothing; the new versions, in order (0 for a delete or check). `Conflict` names the first unmet
        demand; more than 100 writes or two for one key: `Invalid`."""
        ...
