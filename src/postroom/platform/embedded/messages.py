"""`ports.messages` in SQLite. The files and their schema: _ledger.py and _ledger_sql.py.

Rows travel between Python and SQLite as one JSON value for each call, not one Python call for each row. sqlite3 releases the
interpreter lock at every step, and on a thread beside a busy event loop each step would wait for a thread switch (5 ms).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, LeaseLost, NotFound
from postroom.model.batch import GROUP_SIZE, BatchSnapshot, Group, OpenBatch
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, event_cells
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import ERASED, Counts, Message, MessageRow, MessageStatus, Recipient, Settlement, Totals
from postroom.model.provider_status import event_from_settlement, truncate_event
from postroom.platform.embedded import _ledger_sql as sql
from postroom.platform.embedded._ledger import (
    LedgerFiles,
    add_events,
    count,
    erase_events,
    erased_change,
    live_totals,
    overtaken,
    own_events,
    report,
    store_count,
    stored_totals,
    timeline,
)
from postroom.platform.embedded._sqlite import Database
from postroom.platform.ports.limits import check_page
from postroom.platform.ports.messages import (
    MessagePage,
    ReportedEvent,
    check_at_rest,
    check_events,
    message_cursor,
    parse_message_cursor,
)

_STORE_SLICE = 500  # rows inserted before asking whether any of them was a duplicate
_REPLY_LENGTH = 250
_SENT = MessageStatus.SENT


class SqliteMessages:
    """`ports.messages.Messages`: one SQLite database for each campaign."""

    def __init__(self, ledgers: LedgerFiles) -> None:
        self._ledgers = ledgers

    def create(self, ref: CampaignRef, batches: int) -> None:
        if batches < 1:
            raise Invalid(f"a campaign has at least one batch, not {batches}")
        with self._ledgers.create(ref).write() as db:
            known = db.execute(sql.BATCHES).fetchone()
            if known is None:
                db.execute(sql.CREATE_CAMPAIGN, (batches,))
                db.execute(sql.CREATE_BATCHES, (batches,))
            elif known[0] != batches:
                raise Conflict(f"campaign {ref.campaign} has {known[0]} batches, not {batches}: the number is frozen")

    def drop(self, ref: CampaignRef) -> None:
        self._ledgers.drop(ref)

    def store(self, ref: CampaignRef, rows: Sequence[MessageRow], now: Instant) -> list[int]:
        with self._database(ref).write() as db:
            (batches,) = _batch_count(db, ref)
            for row in rows:
                if not 0 <= row.batch < batches:
                    raise Invalid(f"batch {row.batch} of line {row.line} is not one of the campaign's {batches}")
            maybe_taken = [
                row for first in range(0, len(rows), _STORE_SLICE) for row in _insert(db, rows[first : first + _STORE_SLICE])
            ]
            lines = _lowest_lines(db, maybe_taken)
            stored = [(row.batch, row.key.hex()) for row in rows if lines.get(row.key, row.line) == row.line]
            if stored:
                db.execute(sql.APPEND_FEED, (now, None, orjson.dumps(stored).decode()))
        return [lines.get(row.key, row.line) for row in rows]

    def recount(self, ref: CampaignRef, batches: Collection[int] | None = None) -> None:
        with self._database(ref).write() as db:
            (known,) = _batch_count(db, ref)
            for number in range(known) if batches is None else batches:
                store_count(db, number)

    def counts(self, ref: CampaignRef) -> Counts:
        return self.totals(ref).counts

    def totals(self, ref: CampaignRef) -> Totals:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            total = stored_totals(db.execute(sql.SUM_AT_REST).fetchone())
            for number, keys in db.execute(sql.MOVED_BATCHES).fetchall():
                total = total.plus(live_totals(db, number, keys))
        return total

    def stale(self, ref: CampaignRef) -> Sequence[int]:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            return [number for (number,) in db.execute(sql.STALE).fetchall()]

    def unsettled(self, ref: CampaignRef) -> int:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            at_rest: int = db.execute(sql.UNSETTLED_AT_REST).fetchone()[0]
            return at_rest + sum(count(db, number).unsettled for number, _ in db.execute(sql.MOVED_BATCHES).fetchall())

    def batches(self, ref: CampaignRef, *, after: int = -1, limit: int = 100) -> list[BatchSnapshot]:
        check_page(limit)
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            return [_snapshot(db, row) for row in db.execute(sql.SNAPSHOTS, (after, limit)).fetchall()]

    def due_batches(self, ref: CampaignRef, now: Instant, limit: int, *, dead: Collection[str] = ()) -> list[int]:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            rows = db.execute(sql.DUE_BATCHES, {"now": now, "dead": _json(list(dead)), "limit": limit})
            return [number for (number,) in rows.fetchall()]

    def next_due(self, ref: CampaignRef) -> Instant | None:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            due: Instant | None = db.execute(sql.NEXT_DUE).fetchone()[0]
            return due

    def open(
        self, ref: CampaignRef, batch: int, owner: str, now: Instant, *, lease_ms: int, dead: Collection[str] = ()
    ) -> OpenBatch | None:
        with self._database(ref).write() as db:
            _batch_count(db, ref)
            values = {"number": batch, "owner": owner, "now": now, "until": now + lease_ms, "dead": _json(list(dead))}
            row = db.execute(sql.OPEN_BATCH, values).fetchone()
            if row is None:
                _check_batch(db, ref, batch)
        return None if row is None else _open_batch(batch, row)

    def extend(self, ref: CampaignRef, batch: int, fence: int, now: Instant, *, lease_ms: int) -> None:
        with self._database(ref).write() as db:
            _check_fence(db, ref, batch, fence)
            db.execute(sql.EXTEND, (now + lease_ms, batch))

    def load(self, ref: CampaignRef, batch: int, now: Instant, limit: int) -> list[Recipient]:
        return self._recipients(ref, sql.LOAD_DUE, {"batch": batch, "now": now, "limit": limit})

    def load_state(self, ref: CampaignRef, batch: int, statuses: Collection[MessageStatus], limit: int) -> list[Recipient]:
        return self._recipients(ref, sql.LOAD_STATUSES, {"batch": batch, "statuses": _json(list(statuses)), "limit": limit})

    def find(self, ref: CampaignRef, batch: int, keys: Sequence[Key]) -> list[Recipient]:
        values = {"batch": batch, "keys": b"".join(keys), "count": len(keys)}
        return self._recipients(ref, sql.FIND, values)

    def record(
        self,
        ref: CampaignRef,
        batch: int,
        fence: int,
        settled: Sequence[Settlement],
        group: Sequence[Key],
        now: Instant,
        *,
        lease_ms: int,
    ) -> None:
        if len(group) > GROUP_SIZE:
            raise Invalid(f"a group has at most {GROUP_SIZE} messages, not {len(group)}")
        changes = _json(
            [(s.key.hex(), s.status, s.attempt, s.at, s.due, s.code, s.reply[:_REPLY_LENGTH], s.provider_id) for s in settled]
        )
        unsent = [s for s in settled if s.status is not _SENT]  # few: everything but the usual case is checked for these only
        keys = b"".join(group) or None
        with self._database(ref).write() as db:
            has_reports = _check_fence(db, ref, batch, fence)
            group_values = {"batch": batch, "fence": fence, "keys": keys, "at": now, "until": now + lease_ms}
            db.execute(sql.REPLACE_GROUP, group_values)
            if settled:
                settled_keys = b"".join([s.key for s in settled])
                written = db.execute(sql.SETTLE, {"batch": batch, "keys": settled_keys, "changes": changes}).rowcount
                if written != len(settled):
                    raise NotFound(f"batch {batch} does not hold {len(settled) - written} of the messages to be settled")
                if events := own_events(batch, unsent):
                    add_events(db, events)
                if has_reports:
                    changes = _with_reported_status(changes, settled, overtaken(db, batch, settled_keys, changes))
                db.execute(sql.APPEND_FEED, (now, batch, changes))
                if work := [due for s in unsent if (due := s.next_work) is not None]:
                    db.execute(sql.LOWER_DUE, {"batch": batch, "due": min(work)})

    def record_events(self, ref: CampaignRef, reports: Sequence[ReportedEvent], now: Instant) -> Sequence[bool]:
        check_events(reports)
        with self._database(ref).write() as db:
            _batch_count(db, ref)
            return report(db, reports, now)

    def timeline(self, ref: CampaignRef, batch: int, key: Key) -> Sequence[Event]:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            return timeline(db, batch, key)

    def close(self, ref: CampaignRef, batch: int, fence: int) -> BatchSnapshot:
        with self._database(ref).write() as db:
            _check_fence(db, ref, batch, fence)
            db.execute(sql.GIVE_BACK, (batch,))
            store_count(db, batch)
            return _snapshot(db, db.execute(sql.SNAPSHOTS, (batch - 1, 1)).fetchone())

    def erase(self, ref: CampaignRef, batch: int, fence: int, key: Key, now: Instant, *, values: str = "[]") -> bool:
        with self._database(ref).write() as db:
            _check_fence(db, ref, batch, fence)
            row = db.execute(sql.GET, (batch, key)).fetchone()
            if row is None or (message := _message(row)).is_erased(values):
                return False
            check_at_rest(message)
            if _in_group(db, batch, key):
                raise Conflict(f"message {key.hex()} of batch {batch} is in an open group and may be on its way: settle it first")
            _erase(db, message, values, now)
        return True

    def get(self, ref: CampaignRef, batch: int, key: Key) -> Message | None:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            row = db.execute(sql.GET, (batch, key)).fetchone()
        return None if row is None else _message(row)

    def _database(self, ref: CampaignRef) -> Database:
        return self._ledgers.get(ref)

    def _recipients(self, ref: CampaignRef, statement: str, values: dict[str, object]) -> list[Recipient]:
        with self._database(ref).read() as db:
            _batch_count(db, ref)
            (rows,) = db.execute(statement, values).fetchone()
        return [
            Recipient(Key(bytes.fromhex(key)), line, address, name, cells, MessageStatus(status), attempt, due)
            for key, line, address, name, cells, status, attempt, due in orjson.loads(rows)
        ]

    def list(
        self, ref: CampaignRef, *, statuses: Collection[MessageStatus] = (), cursor: str | None = None, limit: int = 100
    ) -> MessagePage:
        check_page(limit)
        batch, after = parse_message_cursor(cursor)
        wanted = frozenset(statuses) or frozenset(MessageStatus)
        messages: list[Message] = []
        with self._database(ref).read() as db:
            (batches,) = _batch_count(db, ref)
            for number in range(batch, batches):
                if _holds_none(db, number, wanted):
                    continue
                values = {
                    "batch": number,
                    "after": after if number == batch else b"",
                    "statuses": _json(list(wanted)),
                    "limit": limit + 1 - len(messages),
                }
                messages += [_message(row) for row in db.execute(sql.LIST, values).fetchall()]
                if len(messages) > limit:
                    last = messages[limit - 1]
                    return MessagePage(messages[:limit], message_cursor(last.batch, last.key))
        return MessagePage(messages, None)


def _batch_count(db: sqlite3.Connection, ref: CampaignRef) -> tuple[int]:
    row: tuple[int] | None = db.execute(sql.BATCHES).fetchone()
    if row is None:  # a crash came between creating the file and its first transaction
        raise NotFound(f"there are no messages of campaign {ref.campaign}")
    return row


def _check_fence(db: sqlite3.Connection, ref: CampaignRef, batch: int, fence: int) -> bool:
    """Whether events were reported of any message of the batch. Raises `LeaseLost`, `NotFound`."""
    current, has_reports = _check_batch(db, ref, batch)
    if current != fence:
        raise LeaseLost(f"batch {batch} was opened by another worker (fence {current}, not {fence})")
    return has_reports


def _check_batch(db: sqlite3.Connection, ref: CampaignRef, batch: int) -> tuple[int, bool]:
    _batch_count(db, ref)
    row: tuple[int, bool] | None = db.execute(sql.FENCE, (batch,)).fetchone()
    if row is None:
        raise NotFound(f"campaign {ref.campaign} has no batch {batch}")
    return row


def _in_group(db: sqlite3.Connection, batch: int, key: Key) -> bool:
    (keys,) = db.execute(sql.GROUP, (batch,)).fetchone()
    return keys is not None and key in _split(keys)


def _erase(db: sqlite3.Connection, message: Message, values: str, now: Instant) -> None:
    place = (message.batch, message.key)
    db.execute(sql.ERASE_MESSAGE, (ERASED, values, *place))
    db.execute(sql.ERASE_OUTCOME, place)
    erase_events(db, *place)
    name = message.key.hex()
    for position, written in db.execute(sql.FEED_OF, (message.batch, name)).fetchall():
        changes = [erased_change(one) if one[0] == name else one for one in orjson.loads(written)]
        db.execute(sql.REWRITE_FEED, (_json(changes), position))
    erased = (name, message.status, message.attempt, now, message.due, message.code, "", message.provider_id)
    db.execute(sql.APPEND_FEED, (now, message.batch, _json([erased])))


def _insert(db: sqlite3.Connection, rows: Sequence[MessageRow]) -> Sequence[MessageRow]:
    """Insert the rows whose key is absent. Returns the rows of which some key was present, or nothing if none was."""
    return () if db.executemany(sql.INSERT, rows).rowcount == len(rows) else rows


def _lowest_lines(db: sqlite3.Connection, rows: Sequence[MessageRow]) -> dict[Key, int]:
    """Store the lowest line of each key while the key is untried. Returns the line that holds each key."""
    lines: dict[Key, int] = {}
    for row in rows:
        (line,) = db.execute(sql.LINE, (row.batch, row.key)).fetchone()
        if row.line < line and db.execute(sql.TAKE_OVER, row).rowcount:
            line = row.line
        lines[row.key] = line
    return lines


def _snapshot(db: sqlite3.Connection, row: Sequence[Any]) -> BatchSnapshot:
    number, stale, owner, lease_until, next_due, *counted = row
    if stale:
        totals, _, next_due = count(db, number)
    else:
        totals = stored_totals(counted)
    return BatchSnapshot(number, totals.counts, next_due, owner, lease_until, totals.engagement)


def _open_batch(batch: int, row: Sequence[object]) -> OpenBatch:
    fence, owner, group_fence, keys, at = row
    if keys is None:
        return OpenBatch(batch, fence, None)  # type: ignore[arg-type]
    return OpenBatch(batch, fence, Group(owner, group_fence, _split(keys), at))  # type: ignore[arg-type]


def _split(keys: bytes) -> tuple[Key, ...]:
    return tuple(Key(keys[i : i + KEY_BYTES]) for i in range(0, len(keys), KEY_BYTES))


def _message(row: Sequence[object]) -> Message:
    batch, key, line, address, name, values, status, *rest = row
    return Message(batch, Key(key), line, address, name, values, MessageStatus(status), *rest)  # type: ignore[arg-type]


def _with_reported_status(changes: str, settled: Sequence[Settlement], overtaken: dict[str, list[object]]) -> str:
    """The feed's entries of settled messages. Where the reported status is ahead of the new outcome, the entry has the reported
    status, and the outcome is its event."""
    if not overtaken:
        return changes
    entries = list(orjson.loads(changes))
    for index, settlement in enumerate(settled):
        if (reported := overtaken.get(settlement.key.hex())) is not None:
            event = event_from_settlement(settlement)
            entries[index] = [
                entries[index][0],
                *reported,
                entries[index][7],
                *([] if event is None else [event_cells(truncate_event(event))[:-1]]),
            ]
    return _json(entries)


def _holds_none(db: sqlite3.Connection, batch: int, statuses: frozenset[MessageStatus]) -> bool:
    """Whether the batch's count is up to date and has no message with these statuses: then it need not be read."""
    counts = db.execute(sql.COUNTS_IF_AT_REST, (batch,)).fetchone()
    return counts is not None and not any(getattr(stored_totals(counts).counts, state.label) for state in statuses)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
