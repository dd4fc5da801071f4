"""What comes back, into the ledger: events a second in groups of 100, beside a bare SQLite table that takes the same texts.

python -m bench.events [messages]

Of so many messages that are sent, each is delivered, three in ten are opened, and one in twenty bounces, in no order. Then what
their numbers cost: while all batches are stale, counting them anew, and after that.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.ledger import HOME, NOW, _rows, _send
from postroom.clock import Instant
from postroom.model.batch import batches_for
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind, event_text
from postroom.model.message import MessageRow
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.ports.messages import MAX_EVENTS_PER_CALL, ReportedEvent

_AGENT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15"
_HARD = Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")
_REPLY = "550 5.1.1 The email account that you tried to reach does not exist"


def main() -> None:
    """Print the figures."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory(dir=".") as directory:
        ledgers = LedgerFiles(Path(directory))
        ledger, rows = SqliteMessages(ledgers), _rows(messages, batches_for(messages))
        _sent(ledger, rows)
        reports = list(_reports(rows))
        bare = _bare(Path(directory) / "bare.db", reports)
        ours = _a_second(reports, lambda group: ledger.record_events(HOME, group, NOW))
        print(
            f"recorded by {MAX_EVENTS_PER_CALL}   {ours:9,.0f} events a second, {ours / bare:.2f} of a bare table ({bare:,.0f})"
        )
        for title, work in (
            ("numbers, all batches stale", lambda: ledger.totals(HOME)),
            ("counted anew", lambda: ledger.recount(HOME, ledger.stale(HOME))),
            ("numbers after that", lambda: ledger.totals(HOME)),
        ):
            print(f"{title:28} {_ms(work):9,.1f} ms of {messages:,} messages")
        ledgers.close()


def _sent(ledger: SqliteMessages, rows: Sequence[MessageRow]) -> None:
    batches = batches_for(len(rows))
    ledger.create(HOME, batches)
    ledger.store(HOME, sorted(rows), NOW)
    ledger.recount(HOME)
    for number in range(batches):
        _send(ledger, number)


def _reports(rows: Sequence[MessageRow]) -> Iterator[ReportedEvent]:
    chance = random.Random(1)
    told = [(row, EventKind.DELIVERED, "") for row in rows]
    told += [(row, EventKind.OPENED, _AGENT) for row in rows if chance.random() < 0.3]
    told += [(row, EventKind.BOUNCED, _REPLY) for row in rows if chance.random() < 0.05]
    chance.shuffle(told)
    for number, (row, kind, detail) in enumerate(told):
        bounce = _HARD if kind is EventKind.BOUNCED else None
        at = Instant(NOW + number)
        yield ReportedEvent(
            row.batch,
            row.key,
            Event(kind=kind, attempt=1, at=at, id=f"{number:020x}", source="ses", bounce=bounce, detail=detail),
        )


def _bare(path: Path, reports: Sequence[ReportedEvent]) -> float:
    """The same texts into one table with the same durability: what the disk and SQLite alone take."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE event (batch INTEGER, key BLOB, id TEXT, told TEXT, PRIMARY KEY (batch, key, id)) WITHOUT ROWID")

    def store(group: Sequence[ReportedEvent]) -> None:
        rows = [(batch, key, event.id, event_text(event)) for batch, key, event in group]
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?)", rows)
        db.execute("COMMIT")

    rate = _a_second(reports, store)
    db.close()
    return rate


def _a_second(reports: Sequence[ReportedEvent], report: Callable[[Sequence[ReportedEvent]], object]) -> float:
    began = time.perf_counter()
    for first in range(0, len(reports), MAX_EVENTS_PER_CALL):
        report(reports[first : first + MAX_EVENTS_PER_CALL])
    return len(reports) / (time.perf_counter() - began)


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1_000


if __name__ == "__main__":
    main()
