"""The ledger files: one SQLite database for each campaign, so campaigns share no lock, and deleting one is deleting a file.

    message   the imported rows, never changed: the wide part, written once
    outcome   the status of each message since something was tried: the narrow part, rewritten a group at a time
    batch     lease, fence, open group and the last count of each batch
    event     the timeline: one row for each event of a message
    feed      one row for each write, in the same transaction

Messages and outcomes are clustered by (batch, key), so a worker's group is a run of neighbouring pages. A message without
an outcome is pending: importing writes no status, and recording 128 outcomes touches three pages instead of a dozen.

This module opens the files, counts batches and stores reported events (model.provider_status). Everything but opening happens in
the caller's transaction, so a kill leaves a report stored whole or not at all. Lists go to SQLite as one JSON value each, for the
reason that messages.py gives.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, EventCells, StatusRank, event_cells, event_text, parse_event
from postroom.model.ids import KEY_BYTES, Key
from postroom.model.message import ERASED, Counts, Engagement, MessageStatus, Settlement, Totals
from postroom.model.provider_status import ReportedStatus, event_from_settlement, redact_event, sort_events, truncate_event
from postroom.platform.embedded import _ledger_sql as sql
from postroom.platform.embedded._ledger_sql import MIGRATIONS
from postroom.platform.embedded._sqlite import SIDE_FILES, Database, remove_database
from postroom.platform.ports.messages import ReportedEvent

_OPEN_FILES = 32
_CACHE_KIB = 32_768


class _Opened(NamedTuple):
    """An open file and its inode: another process may drop the campaign and create it again at any time."""

    database: Database
    identity: tuple[int, int] | None


class LedgerFiles:
    """The open ledger files of this process, at most 32. Threads may share it. Do not use it across a fork."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[CampaignRef, _Opened] = OrderedDict()
        self._guard = threading.Lock()

    def create(self, ref: CampaignRef) -> Database:
        """The campaign's file, created if absent."""
        with self._guard:
            return self._database(ref)

    def get(self, ref: CampaignRef) -> Database:
        """The campaign's file. Raises `NotFound`."""
        with self._guard:
            if _identity(self._path(ref)) is None:
                self._forget(ref)
                raise NotFound(f"there are no messages of campaign {ref.campaign}")
            return self._database(ref)

    def drop(self, ref: CampaignRef) -> None:
        """Close and delete the campaign's file. Does nothing if it is absent."""
        with self._guard:
            self._forget(ref)
            remove_database(self._path(ref))

    def refs(self) -> list[CampaignRef]:
        """All campaigns on disk."""
        files = self._root.glob("*/*.db")
        return [CampaignRef(path.parent.name, path.stem) for path in files if not path.name.endswith(SIDE_FILES)]

    def close(self) -> None:
        """Close every file."""
        with self._guard:
            while self._open:
                self._open.popitem()[1].database.close()

    def _forget(self, ref: CampaignRef) -> None:
        opened = self._open.pop(ref, None)
        if opened is not None:
            opened.database.close()

    def _database(self, ref: CampaignRef) -> Database:
        path = self._path(ref)
        opened = self._open.get(ref)
        if opened is not None and opened.identity == _identity(path):
            self._open.move_to_end(ref)
            return opened.database
        self._forget(ref)
        database = Database(path, MIGRATIONS, cache_kib=_CACHE_KIB)
        self._open[ref] = _Opened(database, _identity(path))
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].database.close()
        return database

    def _path(self, ref: CampaignRef) -> Path:
        for part in ref:
            if not part.replace("-", "").isalnum() or not part.isascii():
                raise Invalid(f"{part!r} is no id of a tenant or campaign")
        return self._root / ref.tenant / f"{ref.campaign}.db"


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file of this name, or None."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class BatchCount(NamedTuple):
    """The result of counting a batch."""

    totals: Totals
    unsettled: int
    next_due: Instant | None


def count(db: sqlite3.Connection, batch: int) -> BatchCount:
    """Count messages by status (none is `sending`), those waiting for a policy, and when the batch next has work."""
    total: int = db.execute(sql.COUNT_MESSAGES, (batch,)).fetchone()[0]
    by_label: dict[str, int] = {}
    engagement = Engagement()
    row = db.execute(sql.FENCE, (batch,)).fetchone()
    outcomes = sql.COUNT_OUTCOMES if row and row[1] else sql.COUNT_UNREPORTED
    unsettled, next_due, tried = 0, None, 0
    for status, number, with_due, due, *people in db.execute(outcomes, (batch,)).fetchall():
        tried += number
        by_label[MessageStatus(status).label] = number
        engagement = engagement + Engagement(*people)
        if status == MessageStatus.UNKNOWN:
            unsettled = with_due
        if due is not None and status in (MessageStatus.DEFERRED, MessageStatus.UNKNOWN):
            next_due = due if next_due is None else min(due, next_due)
    by_label["pending"] = by_label.get("pending", 0) + total - tried
    totals = Totals(Counts(**by_label), engagement)
    return BatchCount(totals, unsettled, Instant(0) if by_label["pending"] else next_due)


def store_count(db: sqlite3.Connection, batch: int) -> None:
    """Count the batch and store the numbers."""
    totals, unsettled, next_due = count(db, batch)
    people = totals.engagement
    values = {"opened": people.opened, "clicked": people.clicked, "unsubscribed": people.unsubscribed}
    rest = {"unsettled": unsettled, "next_due": next_due, "number": batch}
    db.execute(sql.STORE_COUNT, {**totals.counts.as_dict(), **values, **rest})


def live_totals(db: sqlite3.Connection, batch: int, group: bytes | None) -> Totals:
    """Count now; messages of the open group count as `sending`."""
    totals = count(db, batch).totals
    if not group:
        return totals
    counts = totals.counts.as_dict()
    values = {"batch": batch, "keys": group, "count": len(group) // KEY_BYTES}
    for status, number in db.execute(sql.COUNT_GROUP, values).fetchall():
        counts[MessageStatus(status).label] -= number
        counts["sending"] += number
    return totals._replace(counts=Counts(**counts))


def stored_totals(row: Sequence[int]) -> Totals:
    """The numbers that `store_count` stored."""
    pending, deferred, *rest = row
    return Totals(Counts(pending, 0, deferred, *rest[:-3]), Engagement(*rest[-3:]))


_Change = list[object]


class _Record:
    """A message's record while reported events are added to it."""

    def __init__(self, row: Sequence[object]) -> None:
        address, status, attempt, at, code, reply, provider_id, *reported = row
        self.erased = address == ERASED
        self.outcome = StatusRank(attempt, MessageStatus(status))  # type: ignore[arg-type]
        self._facts = (at, code, reply, provider_id)
        self.reported = ReportedStatus(*reported)  # type: ignore[arg-type]

    def add(self, event: Event) -> Event:
        """Add the event to the reported status. Returns the event as it is stored."""
        kept = redact_event(event) if self.erased else event
        self.reported = self.reported.hear(kept)
        return kept

    def change(self, key: str, now: Instant, event: Event) -> _Change:
        """The feed's entry: the same fields as a settlement, followed by the event."""
        ahead, (at, code, reply, provider_id) = self.reported.ahead_of(self.outcome), self._facts
        rank = ahead or self.outcome
        facts = [self.reported.at, None, 0, self.reported.reply] if ahead else [at or now, None, code, reply]
        return [key, rank.status, rank.attempt, *facts, provider_id, event_cells(event)[:-1]]


_Records = dict[tuple[int, Key], _Record]


def report(db: sqlite3.Connection, reports: Sequence[ReportedEvent], now: Instant) -> list[bool]:
    """Store these events. Returns which of them were new."""
    truncated = [each._replace(event=truncate_event(each.event)) for each in reports]
    records, stored = _find(db, truncated)
    kept: list[ReportedEvent] = []
    changes: dict[int, list[_Change]] = {}
    new = []
    for batch, key, event in truncated:
        record = records.get((batch, key))
        new.append(record is not None and (batch, key, event.id) not in stored and record.reported.takes(event))
        if record is not None and new[-1]:
            stored.add((batch, key, event.id))
            kept.append(ReportedEvent(batch, key, record.add(event)))
            changes.setdefault(batch, []).append(record.change(key.hex(), now, kept[-1].event))
    if kept:
        add_events(db, kept)
        _store_reported_status(db, kept, records)
        db.executemany(sql.APPEND_FEED, [(now, batch, _json(each)) for batch, each in changes.items()])
        db.execute(sql.MARK_STALE, (_json(list(changes)),))
    return new


def _find(db: sqlite3.Connection, reports: Sequence[ReportedEvent]) -> tuple[_Records, set[tuple[int, Key, str]]]:
    """The messages of these reports, and the events that are stored already."""
    values = _values(reports)
    (found,) = db.execute(sql.REPORTED_STATUS_OF, values).fetchone()
    records = {(batch, Key(bytes.fromhex(key))): _Record(row) for batch, key, *row in orjson.loads(found)}
    (repeated,) = db.execute(sql.KNOWN_EVENTS, values).fetchone()
    stored = [reports[index] for index in orjson.loads(repeated)]
    return records, {(batch, key, event.id) for batch, key, event in stored}


def _store_reported_status(db: sqlite3.Connection, kept: Sequence[ReportedEvent], records: _Records) -> None:
    places = list(dict.fromkeys((batch, key) for batch, key, _ in kept))
    rows = _json([[place[0], *records[place].reported] for place in places])
    db.execute(sql.STORE_REPORTED_STATUS, {"keys": b"".join([key for _, key in places]), "reported": rows})


def add_events(db: sqlite3.Connection, events: Sequence[ReportedEvent]) -> None:
    """Add events to the timelines. Events that are stored already stay as they are."""
    db.execute(sql.ADD_EVENTS, _values(events))


def own_events(batch: int, unsent: Sequence[Settlement]) -> list[ReportedEvent]:
    """The timeline entries of recorded outcomes other than success; a success follows from the record itself."""
    return [ReportedEvent(batch, s.key, event) for s in unsent if (event := event_from_settlement(s)) is not None]


def overtaken(db: sqlite3.Connection, batch: int, keys: bytes, changes: str) -> dict[str, _Change]:
    """The settled messages whose reported status is ahead of the new outcome: their status, attempt and facts."""
    values = {"batch": batch, "keys": keys, "changes": changes}
    rows = db.execute(sql.OVERTAKEN, values).fetchall()
    return {key.hex(): [status, attempt, at, None, 0, reply] for key, status, attempt, at, reply in rows}


def timeline(db: sqlite3.Connection, batch: int, key: Key) -> list[Event]:
    """The message's events in order of time."""
    events = [parse_event(data) for _, data in db.execute(sql.TIMELINE, (batch, key)).fetchall()]
    outcome = db.execute(sql.OUTCOME, (batch, key)).fetchone()
    if outcome is not None and outcome[0] == MessageStatus.SENT:
        status, attempt, at, code, reply = outcome
        sent = event_from_settlement(Settlement(key, MessageStatus(status), attempt, at, None, code, reply))
        events += [] if sent is None else [sent]
    return sort_events(events)


def erase_events(db: sqlite3.Connection, batch: int, key: Key) -> None:
    """Remove everything personal from the message's events."""
    for number, data in db.execute(sql.TIMELINE, (batch, key)).fetchall():
        db.execute(sql.REWRITE_EVENT, (event_text(redact_event(parse_event(data))), number))


def erased_change(change: _Change) -> _Change:
    """A change in the feed without anything personal."""
    kept = [*change[:6], "", *change[7:8]]
    return [*kept, _redacted(change[8])] if len(change) > 8 else kept


def _redacted(event: object) -> EventCells:
    assert isinstance(event, list)
    return [*event[:7], "", ""]


def _values(reports: Sequence[ReportedEvent]) -> dict[str, object]:
    rows = _json([[batch, event_cells(event)] for batch, _, event in reports])
    return {"keys": b"".join([key for _, key, _ in reports]), "reports": rows}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
