"""Secrets in records, sealed again under the newest master key: one record after another, each by one conditional write.

A kill between two leaves the rest under the older key, which still opens them; the next rotation goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from postroom.errors import Conflict, Corrupt
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import ItemKey, Put, Tables

_TRIES = 10
_Owner = TypeVar("_Owner")


def reseal_each(owners: Iterable[_Owner], resealed: Callable[[_Owner], int]) -> tuple[int, int]:
    """How many secrets were sealed again, and how many owners' cannot be. `resealed`: one owner's, and how many had to be."""
    done = left = 0
    for owner in owners:
        try:
            done += resealed(owner)
        except (Corrupt, Conflict):
            left += 1
    return done, left


def reseal_fields(tables: Tables, secrets: Secrets, key: ItemKey, *, purpose: str, fields: Iterable[str]) -> bool:
    """The sealed texts of one record, where it has them; whether one had to be. `Corrupt`; `Conflict`: others change it all the
    time. A change that comes between may have kept the old seals: look again."""
    for _ in range(_TRIES):
        item = tables.get(key)
        stale = {} if item is None else _stale(item.data, secrets, fields)
        if item is None or not stale:
            return False
        again = {field: secrets.seal(purpose, secrets.open(purpose, text)) for field, text in stale.items()}
        with suppress(Conflict):
            tables.write([Put(key, {**item.data, **again}, item.version)])
            return True
    raise Conflict(f"the record {key.sort} is being changed by others all the time")


def _stale(data: Any, secrets: Secrets, fields: Iterable[str]) -> dict[str, str]:
    return {field: text for field in fields if (text := data.get(field)) is not None and not secrets.is_current(text)}
