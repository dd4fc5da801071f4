"""`ports.feed` on one machine: each campaign's ledger is a shard, each row holds one write's changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound
from postroom.model.campaign import CampaignRef
from postroom.model.event import event_from_cells
from postroom.model.ids import Key
from postroom.model.message import MessageStatus
from postroom.platform.embedded import _ledger_sql as sql
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.ports.feed import FeedPage, MessageChange

_SEQUENCES_PER_ROW = 256
"""Sequence numbers reserved for each row: more than it has changes of one message."""


class SqliteFeed:
    """`ports.feed.Feed` over the ledgers."""

    def __init__(self, ledgers: LedgerFiles) -> None:
        self._ledgers = ledgers

    def shards(self) -> list[str]:
        return [f"{ref.tenant}/{ref.campaign}" for ref in self._ledgers.refs()]

    def read(self, shard: str, position: str | None, *, limit: int = 1_000) -> FeedPage:
        ref = _ref(shard)
        after = _position(position)
        changes: list[MessageChange] = []
        with self._ledgers.get(ref).read() as db:
            for number, at, batch, written in db.execute(sql.READ_FEED, (after,)):
                first = number * _SEQUENCES_PER_ROW
                parts = orjson.loads(written)
                changes += _stored(ref, at, parts, first) if batch is None else _changed(ref, batch, parts, first, noted_at=at)
                after = number
                if len(changes) >= limit:
                    break
        return FeedPage(changes, str(after))

    def trim(self, shard: str, before: Instant) -> None:
        with self._ledgers.get(_ref(shard)).write() as db:
            db.execute(sql.TRIM_FEED, (before,))


def _stored(ref: CampaignRef, at: Instant, written: list[list[Any]], sequence: int) -> Iterator[MessageChange]:
    for number, key in written:
        yield MessageChange(ref, number, Key(bytes.fromhex(key)), MessageStatus.PENDING, 0, at, 0, "", None, sequence, at)


def _changed(ref: CampaignRef, batch: int, written: list[list[Any]], first: int, *, noted_at: Instant) -> Iterator[MessageChange]:
    of_each: Counter[str] = Counter()
    for key, status, attempt, at, _due, code, reply, _provider_id, *events in written:
        sequence = first + of_each[key]
        of_each[key] += 1
        event = event_from_cells([*events[0], ""]) if events else None
        yield MessageChange(
            ref, batch, Key(bytes.fromhex(key)), MessageStatus(status), attempt, at, code, reply, event, sequence, noted_at
        )


def _ref(shard: str) -> CampaignRef:
    tenant, separator, campaign = shard.partition("/")
    if not separator:
        raise NotFound(f"there is no shard {shard!r}")
    return CampaignRef(tenant, campaign)


def _position(position: str | None) -> int:
    try:
        return int(position or 0)
    except ValueError as error:
        raise Invalid(f"{position!r} is no position in a feed") from error
