"""What a kill in the middle of a report leaves in a ledger file: nothing of it; and that repeating it is as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded.feed import SqliteFeed
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.ports.messages import Messages, ReportedEvent
from tests.contract.embedded_backend import EmbeddedBackend
from tests.contract.messages_kit import CAMPAIGN, K, S, at, event, key, listed, opened, outcome, record, stored

pytestmark = pytest.mark.backends("embedded")

REPORTS = [
    ReportedEvent(0, key(0), event(K.BOUNCED, ms=5, detail="no such user")),
    ReportedEvent(1, key(0), event(K.OPENED, ms=6)),
    ReportedEvent(0, key(0), event(K.COMPLAINED, ms=7)),
    ReportedEvent(1, key(2), event(K.UNSUBSCRIBED, ms=8)),
]
NEW = [True] * len(REPORTS)


class Left(NamedTuple):
    """All that can be seen of a ledger."""

    messages: Any
    totals: Any
    timelines: Any
    stale: Any
    changes: Any


def seen(messages: Messages, feed: SqliteFeed) -> Left:
    found = listed(messages)
    return Left(
        found,
        messages.totals(CAMPAIGN),
        [messages.timeline(CAMPAIGN, one.batch, one.key) for one in found],
        list(messages.stale(CAMPAIGN)),
        [change._replace(sequence=0) for change in feed.read("acme/spring", None).changes],
    )


def deaths(backend: EmbeddedBackend, messages: SqliteMessages, act: Callable[[], object]) -> list[Path]:
    """Copies of the ledgers as a kill right before each statement of `act`, its commit included, leaves them on the disk."""
    copies: list[Path] = []

    def copy(_: str) -> None:
        copies.append(backend.root / f"killed{len(copies)}")
        shutil.copytree(backend.root / "ledgers", copies[-1], ignore=shutil.ignore_patterns("*-shm", "*-lock"))

    writer = messages._ledgers.get(CAMPAIGN)._writer
    writer.set_trace_callback(copy)
    act()
    writer.set_trace_callback(None)
    return copies


def checked(copy: Path, check: Callable[[SqliteMessages, SqliteFeed], None]) -> None:
    with closing(LedgerFiles(copy)) as ledgers:
        check(SqliteMessages(ledgers), SqliteFeed(ledgers))


def test_whoever_dies_in_a_report_has_reported_nothing_and_a_repeat_makes_it_whole(
    backend: EmbeddedBackend, messages: SqliteMessages
) -> None:
    stored(messages, 0, 1)
    fence = opened(messages)
    record(messages, fence, [outcome(0), outcome(1, S.DEFERRED, due=5)], [2])
    feed = backend.feed()
    before = seen(messages, feed)
    copies = deaths(backend, messages, lambda: messages.record_events(CAMPAIGN, REPORTS, at(9)))
    after = seen(messages, feed)

    def check(found: SqliteMessages, told: SqliteFeed) -> None:
        assert seen(found, told) == before
        assert found.record_events(CAMPAIGN, REPORTS, at(9)) == NEW
        assert seen(found, told) == after
        assert found.record_events(CAMPAIGN, REPORTS, at(9)) == [False] * len(REPORTS)
        assert seen(found, told) == after

    assert before != after
    assert len(copies) > 6, "it begins, looks twice, writes four times and commits"
    for copy in copies:
        checked(copy, check)


def test_whoever_dies_while_recording_leaves_no_event_without_its_outcome(
    backend: EmbeddedBackend, messages: SqliteMessages
) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [], [0, 1])
    messages.record_events(CAMPAIGN, REPORTS[:1], at(4))
    settled = [outcome(0, S.DEFERRED, due=5), outcome(1, S.FAILED)]
    feed = backend.feed()
    before = seen(messages, feed)
    copies = deaths(backend, messages, lambda: record(messages, fence, settled))
    after = seen(messages, feed)

    def check(found: SqliteMessages, told: SqliteFeed) -> None:
        assert seen(found, told) == before
        record(found, fence, settled)
        assert seen(found, told) == after

    for copy in copies:
        checked(copy, check)
    assert len(copies) > 4
