"""What durability costs: recording outcomes by groups of 128, with FULL and feed, without either, in one run.

python -m bench.ledger [messages]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from postroom.clock import Instant
from postroom.model.batch import batch_of, batches_for
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key
from postroom.model.message import MessageRow, MessageStatus, Settlement
from postroom.platform.embedded import _ledger, _ledger_sql
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import Database
from postroom.platform.embedded.messages import SqliteMessages

HOME = CampaignRef("default", "aaaaaaaaaaaaaaaa")
NOW = Instant(1_790_000_000_000)
NO_FEED = "SELECT ?, ?, ?"


def measure(messages: int) -> tuple[float, float]:
    """Microseconds a message: storing, and recording its outcome with the next group's intent."""
    with tempfile.TemporaryDirectory(dir=".") as directory:
        ledgers = LedgerFiles(Path(directory))
        ledger, batches = SqliteMessages(ledgers), batches_for(messages)
        ledger.create(HOME, batches)
        rows = _rows(messages, batches)
        began = time.perf_counter()
        for first in range(0, messages, 50_000):
            ledger.store(HOME, sorted(rows[first : first + 50_000]), NOW)
        ledger.recount(HOME)
        stored = time.perf_counter()
        for number in range(batches):
            _send(ledger, number)
        recorded = time.perf_counter()
        ledgers.close()
    return (stored - began) / messages * 1e6, (recorded - stored) / messages * 1e6


def _rows(count: int, batches: int) -> list[MessageRow]:
    keys = [Key(os.urandom(12)) for _ in range(count)]
    values = '["Anna","Acme & Sons","Team","12","2027-01-31"]'
    return [MessageRow(batch_of(key, batches), key, n, f"person{n}@example.com", None, values) for n, key in enumerate(keys)]


def _send(ledger: SqliteMessages, number: int) -> None:
    opened = ledger.open(HOME, number, "bench", NOW, lease_ms=60_000)
    assert opened is not None
    work = ledger.load(HOME, number, NOW, 2_000)
    settled: list[Settlement] = []
    for first in range(0, len(work), 128):
        group = [recipient.key for recipient in work[first : first + 128]]
        ledger.record(HOME, number, opened.fence, settled, group, NOW, lease_ms=60_000)
        reply = "2.0.0 Ok: queued as 4bXyZ12345"
        settled = [Settlement(key, MessageStatus.SENT, 1, NOW, None, 250, reply, "4bXyZ12345") for key in group]
    ledger.record(HOME, number, opened.fence, settled, (), NOW, lease_ms=60_000)
    ledger.close(HOME, number, opened.fence)


def _normal(path: Path, migrations: tuple[str, ...], *, cache_kib: int) -> Database:
    return Database(path, migrations, synchronous="NORMAL", cache_kib=cache_kib)


def main() -> None:
    """Print the figures."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    whole = _show("FULL, with feed", lambda: measure(messages))
    with patch.object(_ledger, "Database", _normal):
        _show("NORMAL, with feed", lambda: measure(messages), whole)
    with patch.object(_ledger_sql, "APPEND_FEED", NO_FEED):
        _show("FULL, without feed", lambda: measure(messages), whole)


def _show(name: str, run: Callable[[], tuple[float, float]], whole: float | None = None) -> float:
    stored, recorded = min(run() for _ in range(3))
    ratio = "" if whole is None else f", {recorded / whole:.2f} of FULL with feed"
    print(f"{name:20} stored {stored:5.1f} µs, recorded {recorded:5.1f} µs a message{ratio}", flush=True)
    return recorded


if __name__ == "__main__":
    main()
