"""The ledger files: one SQLite database a campaign, so campaigns share no lock and deleting one is deleting a file.

    message   what was imported, never changed: the wide part, written once
    outcome   how each message stands since something was tried: the narrow part, rewritten a group at a time
    batch     lease, fence, open group and the last count of each batch
    event     what happened to a message, one row each: its timeline
    feed      one row a write, in the same transaction

Messages and outcomes are clustered by (batch, key), so a worker's group is a run of neighbouring pages. A message without
an outcome is pending: importing writes no state, and recording 128 outcomes touches three pages instead of a dozen.

Counting a batch: its messages by where they stand, and what their recipients did.

What comes back, in a ledger file: events of messages, and the reported half of their records (model.news).

All of it happens in the caller's transaction, so a kill leaves a report noted whole or not at all. The lists go to SQLite as
one JSON value each, for the reason that messages.py gives.
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
from postroom.platform.ports.messages import Reported

_OPEN_FILES = 32


_CACHE_KIB = 32_768


class _Opened(NamedTuple):
    """An open file, and which one it is: another process may drop the campaign, and make it anew, under our hands."""

    database: Database
    identity: tuple[int, int] | None


class LedgerFiles:
    """The open ledger files of this process. Threads may share it; it is not for use across a fork."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[CampaignRef, _Opened] = OrderedDict()
        self._guard = threading.Lock()

    def create(self, ref: CampaignRef) -> Database:
        """The home's file, made if need be."""
        with self._guard:
            return self._database(ref)

    def get(self, ref: CampaignRef) -> Database:
        """The home's file; `NotFound`."""
        with self._guard:
            if _identity(self._path(ref)) is None:
                self._let_go(ref)
                raise NotFound(f"there are no messages of campaign {ref.campaign}")
            return self._database(ref)

    def drop(self, ref: CampaignRef) -> None:
        """Close and delete the home's file; absent: harmless."""
        with self._guard:
            self._let_go(ref)
            remove_database(self._path(ref))

    def refs(self) -> list[CampaignRef]:
        """All homes on disk."""
        files = self._root.glob("*/*.db")
        return [CampaignRef(path.parent.name, path.stem) for path in files if not path.name.endswith(SIDE_FILES)]

    def close(self) -> None:
        """Close every file."""
        with self._guard:
            while self._open:
                self._open.popitem()[1].database.close()

    def _let_go(self, ref: CampaignRef) -> None:
        opened = self._open.pop(ref, None)
        if opened is not None:
            opened.database.close()

    def _database(self, ref: CampaignRef) -> Database:
        path = self._path(ref)
        opened = self._open.get(ref)
        if opened is not None and opened.identity == _identity(path):
            self._open.move_to_end(ref)
            return opened.database
        self._let_go(ref)
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
    """Which file has this name now; None: no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class BatchCount(NamedTuple):
    """A batch, counted now."""

    totals: Totals
    unsettled: int
    next_due: Instant | None


def count(db: sqlite3.Connection, batch: int) -> BatchCount:
    """Messages by where they stand (none is `sending`), the unsettled among the unknown, and when there is work next."""
    total: int = db.execute(sql.COUNT_MESSAGES, (batch,)).fetchone()[0]
    by_label: dict[str, int] = {}
    engagement = Engagement()
    known = db.execute(sql.FENCE, (batch,)).fetchone()
    outcomes = sql.COUNT_OUTCOMES if known and known[1] else sql.COUNT_UNHEARD
    unsettled, next_due, tried = 0, None, 0
    for state, number, with_due, due, *people in db.execute(outcomes, (batch,)).fetchall():
        tried += number
        by_label[MessageStatus(state).label] = number
        engagement = engagement + Engagement(*people)
        if state == MessageStatus.UNKNOWN:
            unsettled = with_due
        if due is not None and state in (MessageStatus.DEFERRED, MessageStatus.UNKNOWN):
            next_due = due if next_due is None else min(due, next_due)
    by_label["pending"] = by_label.get("pending", 0) + total - tried
    totals = Totals(Counts(**by_label), engagement)
    return BatchCount(totals, unsettled, Instant(0) if by_label["pending"] else next_due)


def store_count(db: sqlite3.Connection, batch: int) -> None:
    """Count it and keep that."""
    totals, unsettled, next_due = count(db, batch)
    people = totals.engagement
    values = {"opened": people.opened, "clicked": people.clicked, "unsubscribed": people.unsubscribed}
    rest = {"unsettled": unsettled, "next_due": next_due, "number": batch}
    db.execute(sql.STORE_COUNT, {**totals.counts.as_dict(), **values, **rest})


def live_totals(db: sqlite3.Connection, batch: int, group: bytes | None) -> Totals:
    """Counted now, with those of its open group as `sending`."""
    totals = count(db, batch).totals
    if not group:
        return totals
    counts = totals.counts.as_dict()
    values = {"batch": batch, "keys": group, "count": len(group) // KEY_BYTES}
    for state, number in db.execute(sql.COUNT_GROUP, values).fetchall():
        counts[MessageStatus(state).label] -= number
        counts["sending"] += number
    return totals._replace(counts=Counts(**counts))


def stored_totals(row: Sequence[int]) -> Totals:
    """As `store_count` kept them."""
    pending, deferred, *rest = row
    return Totals(Counts(pending, 0, deferred, *rest[:-3]), Engagement(*rest[-3:]))


_Change = list[object]


class _Record:
    """A message while its news are heard."""

    def __init__(self, row: Sequence[object]) -> None:
        address, state, attempt, at, code, reply, provider_id, *news = row
        self.erased = address == ERASED
        self.outcome = StatusRank(attempt, MessageStatus(state))  # type: ignore[arg-type]
        self._facts = (at, code, reply, provider_id)
        self.news = ReportedStatus(*news)  # type: ignore[arg-type]

    def hear(self, event: Event) -> Event:
        """The event as it is to be kept."""
        kept = redact_event(event) if self.erased else event
        self.news = self.news.hear(kept)
        return kept

    def change(self, key: str, now: Instant, event: Event) -> _Change:
        """For the feed: as settlements are written, with the event behind."""
        ahead, (at, code, reply, provider_id) = self.news.ahead_of(self.outcome), self._facts
        standing = ahead or self.outcome
        facts = [self.news.at, None, 0, self.news.reply] if ahead else [at or now, None, code, reply]
        return [key, standing.status, standing.attempt, *facts, provider_id, event_cells(event)[:-1]]


_Records = dict[tuple[int, Key], _Record]


def report(db: sqlite3.Connection, reports: Sequence[Reported], now: Instant) -> list[bool]:
    """Note these; which of them were new."""
    tidied = [each._replace(event=truncate_event(each.event)) for each in reports]
    records, seen = _known(db, tidied)
    kept: list[Reported] = []
    changes: dict[int, list[_Change]] = {}
    new = []
    for batch, key, event in tidied:
        record = records.get((batch, key))
        new.append(record is not None and (batch, key, event.id) not in seen and record.news.takes(event))
        if record is not None and new[-1]:
            seen.add((batch, key, event.id))
            kept.append(Reported(batch, key, record.hear(event)))
            changes.setdefault(batch, []).append(record.change(key.hex(), now, kept[-1].event))
    if kept:
        add_events(db, kept)
        _store_news(db, kept, records)
        db.executemany(sql.APPEND_FEED, [(now, batch, _json(each)) for batch, each in changes.items()])
        db.execute(sql.MARK_STALE, (_json(list(changes)),))
    return new


def _known(db: sqlite3.Connection, reports: Sequence[Reported]) -> tuple[_Records, set[tuple[int, Key, str]]]:
    """The messages that are reported of, and which of their events are known."""
    values = _values(reports)
    (found,) = db.execute(sql.NEWS_OF, values).fetchone()
    records = {(batch, Key(bytes.fromhex(key))): _Record(row) for batch, key, *row in orjson.loads(found)}
    (repeated,) = db.execute(sql.KNOWN_EVENTS, values).fetchone()
    known = [reports[index] for index in orjson.loads(repeated)]
    return records, {(batch, key, event.id) for batch, key, event in known}


def _store_news(db: sqlite3.Connection, kept: Sequence[Reported], records: _Records) -> None:
    heard = list(dict.fromkeys((batch, key) for batch, key, _ in kept))
    news = _json([[place[0], *records[place].news] for place in heard])
    db.execute(sql.STORE_NEWS, {"keys": b"".join([key for _, key in heard]), "news": news})


def add_events(db: sqlite3.Connection, told: Sequence[Reported]) -> None:
    """Onto the timelines; those that are there already stay as they are."""
    db.execute(sql.ADD_EVENTS, _values(told))


def own_events(batch: int, unsent: Sequence[Settlement]) -> list[Reported]:
    """What belongs on timelines of what was recorded; a success is told by the record itself."""
    return [Reported(batch, s.key, event) for s in unsent if (event := event_from_settlement(s)) is not None]


def overtaken(db: sqlite3.Connection, batch: int, keys: bytes, changes: str) -> dict[str, _Change]:
    """Of the settled messages those that stand elsewhere all the same, because of their news: state, attempt and facts."""
    values = {"batch": batch, "keys": keys, "changes": changes}
    rows = db.execute(sql.OVERTAKEN, values).fetchall()
    return {key.hex(): [state, attempt, at, None, 0, reply] for key, state, attempt, at, reply in rows}


def timeline(db: sqlite3.Connection, batch: int, key: Key) -> list[Event]:
    """In order of time."""
    events = [parse_event(told) for _, told in db.execute(sql.TIMELINE, (batch, key)).fetchall()]
    outcome = db.execute(sql.OUTCOME, (batch, key)).fetchone()
    if outcome is not None and outcome[0] == MessageStatus.SENT:
        state, attempt, at, code, reply = outcome
        sent = event_from_settlement(Settlement(key, MessageStatus(state), attempt, at, None, code, reply))
        events += [] if sent is None else [sent]
    return sort_events(events)


def erase_events(db: sqlite3.Connection, batch: int, key: Key) -> None:
    """Keep of each what happened, and nothing of the person."""
    for number, told in db.execute(sql.TIMELINE, (batch, key)).fetchall():
        db.execute(sql.REWRITE_EVENT, (event_text(redact_event(parse_event(told))), number))


def erased_change(change: _Change) -> _Change:
    """A change in the feed, without what may tell of the person."""
    told = [*change[:6], "", *change[7:8]]
    return [*told, _nameless(change[8])] if len(change) > 8 else told


def _nameless(event: object) -> EventCells:
    assert isinstance(event, list)
    return [*event[:7], "", ""]


def _values(reports: Sequence[Reported]) -> dict[str, object]:
    rows = _json([[batch, event_cells(event)] for batch, _, event in reports])
    return {"keys": b"".join([key for _, key, _ in reports]), "reports": rows}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
