"""Reseals secrets in records under the newest master key: one record after another, each by one conditional write.

A crash leaves the rest under the older key, which still opens them; the next rotation continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from postroom.errors import Conflict, Corrupt
from postroom.ledger.collection import write_retrying
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import ItemKey, Put, Tables, Write

_Owner = TypeVar("_Owner")


def reseal_each(owners: Iterable[_Owner], resealed: Callable[[_Owner], int]) -> tuple[int, int]:
    """How many secrets were resealed, and how many owners failed. `resealed` reseals one owner's and returns how many it did."""
    done = left = 0
    for owner in owners:
        try:
            done += resealed(owner)
        except (Corrupt, Conflict):
            left += 1
    return done, left


def reseal_fields(tables: Tables, secrets: Secrets, key: ItemKey, *, purpose: str, fields: Iterable[str]) -> bool:
    """Reseal fields of one record; False if all were current.

    Raises `Corrupt` if one cannot be opened, `Conflict` if other writers keep changing the record."""

    def plan() -> tuple[Sequence[Write], bool]:
        item = tables.get(key)
        stale = {} if item is None else _stale(item.data, secrets, fields)
        if item is None or not stale:
            return [], False
        again = {field: secrets.seal(purpose, secrets.open(purpose, text)) for field, text in stale.items()}
        return [Put(key, {**item.data, **again}, item.version)], True

    return write_retrying(tables, plan, f"the record {key.sort}")


def _stale(data: Any, secrets: Secrets, fields: Iterable[str]) -> dict[str, str]:
    return {field: text for field in fields if (text := data.get(field)) is not None and not secrets.is_current(text)}
