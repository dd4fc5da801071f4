"""What comes back, in a ledger file: events of messages, and the reported half of their records (model.news).

All of it happens in the caller's transaction, so a kill leaves a report noted whole or not at all. The lists go to SQLite as
one JSON value each, for the reason that messages.py gives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson

from postroom.clock import Instant
from postroom.model.event import Event, Standing
from postroom.model.event_text import Cells, cells, event_text, parse_event
from postroom.model.message import ERASED, MessageStatus, Settlement
from postroom.model.news import News, event_of, in_order, nameless, tidy
from postroom.model.shard import Key
from postroom.platform.embedded import _ledger_sql as sql
from postroom.platform.ports.messages import Reported

_Change = list[object]


class _Record:
    """A message while its news are heard."""

    def __init__(self, row: Sequence[object]) -> None:
        address, state, attempt, at, code, reply, provider_id, *news = row
        self.erased = address == ERASED
        self.outcome = Standing(attempt, MessageStatus(state))  # type: ignore[arg-type]
        self._facts = (at, code, reply, provider_id)
        self.news = News(*news)  # type: ignore[arg-type]

    def hear(self, event: Event) -> Event:
        """The event as it is to be kept."""
        kept = nameless(event) if self.erased else event
        self.news = self.news.hear(kept)
        return kept

    def change(self, key: str, now: Instant, event: Event) -> _Change:
        """For the feed: as settlements are written, with the event behind."""
        ahead, (at, code, reply, provider_id) = self.news.ahead_of(self.outcome), self._facts
        standing = ahead or self.outcome
        facts = [self.news.at, None, 0, self.news.reply] if ahead else [at or now, None, code, reply]
        return [key, standing.status, standing.attempt, *facts, provider_id, cells(event)[:-1]]


_Records = dict[tuple[int, Key], _Record]


def report(db: sqlite3.Connection, reports: Sequence[Reported], now: Instant) -> list[bool]:
    """Note these; which of them were new."""
    tidied = [each._replace(event=tidy(each.event)) for each in reports]
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
    return [Reported(batch, s.key, event) for s in unsent if (event := event_of(s)) is not None]


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
        sent = event_of(Settlement(key, MessageStatus(state), attempt, at, None, code, reply))
        events += [] if sent is None else [sent]
    return in_order(events)


def erase_events(db: sqlite3.Connection, batch: int, key: Key) -> None:
    """Keep of each what happened, and nothing of the person."""
    for number, told in db.execute(sql.TIMELINE, (batch, key)).fetchall():
        db.execute(sql.REWRITE_EVENT, (event_text(nameless(parse_event(told))), number))


def erased_change(change: _Change) -> _Change:
    """A change in the feed, without what may tell of the person."""
    told = [*change[:6], "", *change[7:8]]
    return [*told, _nameless(change[8])] if len(change) > 8 else told


def _nameless(event: object) -> Cells:
    assert isinstance(event, list)
    return [*event[:7], "", ""]


def _values(reports: Sequence[Reported]) -> dict[str, object]:
    rows = _json([[batch, cells(event)] for batch, _, event in reports])
    return {"keys": b"".join([key for _, key, _ in reports]), "reports": rows}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
