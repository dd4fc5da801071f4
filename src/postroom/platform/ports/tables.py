"""Tables: small documents under a two-part key, changed by conditional writes.

An item is a JSON object under (`partition`, `sort`). Every partition begins with the tenant. Reads are strongly
consistent.
- **Atomic**: one `write` call, all or nothing, up to 100 writes, at most one for the same key; nothing spans two
  calls.
- **Conditional**: a write may demand that the item is absent or has a version; one failed condition refuses the whole
  call with `Conflict` and changes nothing. Versions start at 1 and rise by one with every write of that item's life.
- **Order**: `query` yields a partition in the byte order of `sort` (UTF-8).
- **Limits**: partition and sort up to 1,024 bytes of UTF-8 and not empty (`Invalid`); data up to 100 KB as JSON, and up
  to 3 MB in one call (`TooLarge`; a DynamoDB transaction takes 4 MB in all).
- **Expiry**: an item past `expires_at` is never returned and counts as absent in conditions; its space is freed later.
- **Repeats**: nothing is retried after a write whose answer was lost unless the adapter can prove it harmless; a
  caller that sees `Unavailable` reads before it writes again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.limits import utf8

MAX_WRITES = 100
MAX_KEY_BYTES = 1_024
MAX_ITEM_BYTES = 100_000
MAX_CALL_BYTES = 3_000_000


class ItemKey(NamedTuple):
    """The key of an item."""

    partition: str
    sort: str


class Expect(Enum):
    """What a write may demand instead of a version number."""

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
    """Store `data`, replacing the item. If `expect` is an int, only if the item has that version."""

    key: ItemKey
    data: Mapping[str, Any]
    expect: Expect | int = Expect.ANYTHING
    expires_at: Instant | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item. An absent item is fine unless a version is expected."""

    key: ItemKey
    expect: Expect | int = Expect.ANYTHING


@dataclass(frozen=True, slots=True)
class Check:
    """A condition on an item, without changing it."""

    key: ItemKey
    expect: Expect | int


Write = Put | Delete | Check


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Part of a query's result. `cursor` asks for the next part, None at the end. Opaque text."""

    items: Sequence[Item]
    cursor: str | None


class Tables(Protocol):
    """The documents of an installation."""

    def get(self, key: ItemKey) -> Item | None:
        """The item, or None."""
        ...

    def get_many(self, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """The items of `keys` (any number) that exist. Not one snapshot."""
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
        """Apply all or nothing. Returns the new versions, in order (0 for a delete or check). Raises `Conflict` naming the first
        failed condition, `Invalid` for more than 100 writes or two for one key."""
        ...


def check_item_key(key: ItemKey) -> None:
    """Checks both parts of an item's key."""
    for part in key:
        if not (part.isascii() and 1 <= len(part) <= MAX_KEY_BYTES):  # nearly every key: no further look at its bytes
            check_key_part(part)


def check_key_part(part: str) -> bytes:
    """Checks one part of an item's key. Returns its UTF-8."""
    raw = utf8(part, "A key")
    if not 1 <= len(raw) <= MAX_KEY_BYTES:
        raise Invalid(f"{part[:80]!r} cannot be part of a key: 1 to {MAX_KEY_BYTES} bytes of UTF-8.")
    return raw


def check_writes(writes: Sequence[Write]) -> None:
    """Checks the number and the keys of one call's writes."""
    if len(writes) > MAX_WRITES:
        raise Invalid(f"{len(writes)} writes in one call are too many: up to {MAX_WRITES}.")
    seen: set[ItemKey] = set()
    for write in writes:
        check_item_key(write.key)
        if write.key in seen:
            raise Invalid(f"One call writes {write.key} twice.")
        seen.add(write.key)


def item_json(data: Mapping[str, Any]) -> str:
    """An item's data as JSON text, at most 100 KB of UTF-8; `json.loads` gives the same back."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"An item's data must be a JSON object: {error}.") from error
    size = len(utf8(text, "An item's data"))
    if size > MAX_ITEM_BYTES:
        raise TooLarge(f"An item of {size} bytes is too large: up to {MAX_ITEM_BYTES}.")
    return text


def writes_json(writes: Sequence[Write]) -> list[str]:
    """The JSON text of each write's data ("" if it has none), at most 3 MB in all."""
    texts = [item_json(write.data) if isinstance(write, Put) else "" for write in writes]
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_CALL_BYTES:
        raise TooLarge(f"One call writes {size} bytes: up to {MAX_CALL_BYTES}. Write it in several calls.")
    return texts
