"""Numbers are cheap again soon after something was reported, whoever dies or is late, and nobody looks where nothing happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.entrypoints.server.timers import MaintenanceLoop
from postroom.ledger.inbound_events import InboundEvent
from postroom.ledger.recounts import MOMENT_S, Recounts
from postroom.model.batch import batch_of
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, EventKind
from postroom.model.message import MessageRow
from postroom.model.stream import day_of, stream_batches, stream_ref, transactional_key
from postroom.platform.ports.messages import ReportedEvent
from postroom.settings import Settings
from postroom.wiring import open_app
from tests.fakes.ledger import Bench, bench
from tests.flow.campaign_kit import until


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as opened:
        yield opened


def recounts(made: Bench) -> Recounts:
    """Another process'."""
    return Recounts(made.tables, made.messages, made.clock)


def report(made: Bench, ref: CampaignRef, number: int, kind: EventKind = EventKind.DELIVERED) -> None:
    message = made.messages.list(ref, limit=1_000).messages[number]
    event = Event(kind=kind, attempt=1, at=made.clock.now(), id=f"{kind}{number}", source="dsn")
    assert made.messages.record_events(ref, [ReportedEvent(message.batch, message.key, event)], made.clock.now()) == [True]


def listed(made: Bench) -> int:
    return len(made.tables.query("#heard-of-campaigns").items)


def test_what_was_reported_is_counted_at_the_next_turn(made: Bench) -> None:
    refs = [made.campaign(people=6).ref for _ in range(3)]
    reporter, keeper = recounts(made), recounts(made)
    for ref in refs[:2]:
        report(made, ref, 0)
        reporter.note(ref)
    keeper.run(seconds=10)
    assert [list(made.messages.stale(ref)) for ref in refs] == [[], [], []]
    assert made.messages.counts(refs[0]).delivered == 1


def test_whoever_reports_all_the_time_is_entered_once_in_a_while_and_nothing_is_missed(made: Bench) -> None:
    ref = made.campaign(people=60, batches=60).ref
    reporter, keeper = recounts(made), recounts(made)
    entries = set()
    for number in range(50):
        report(made, ref, number)
        reporter.note(ref)
        if number % 3 == 0:
            keeper.run(seconds=10)
        entries |= {item.key for item in made.tables.query("#heard-of-campaigns").items}
        made.clock.advance(1)
    assert len(entries) == 50 / MOMENT_S
    for _ in range(2):
        made.clock.advance(2 * MOMENT_S)
        keeper.run(seconds=10)
    assert list(made.messages.stale(ref)) == []
    assert listed(made) == 0


def test_an_entry_outlives_the_report_that_it_stands_for_by_another(made: Bench) -> None:
    """A second report within the moment is not entered: the entry of the first must still be there when it comes."""
    ref = made.campaign(people=6).ref
    reporter, keeper = recounts(made), recounts(made)
    report(made, ref, 0)
    reporter.note(ref)
    keeper.run(seconds=10)
    made.clock.advance(MOMENT_S - 1)
    keeper.run(seconds=10)
    report(made, ref, 1)
    reporter.note(ref)
    assert listed(made) == 1
    made.clock.advance(2 * MOMENT_S)
    keeper.run(seconds=10)
    assert (list(made.messages.stale(ref)), listed(made)) == ([], 0)


def test_a_turn_ends_and_the_next_goes_on_where_it_was(made: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign in which a great deal happens keeps no other waiting, and none of its own batches."""
    large, small = made.campaign(people=200, batches=100).ref, made.campaign(people=6).ref
    for number in range(200):
        report(made, large, number)
    report(made, small, 0)
    reporter, keeper = recounts(made), recounts(made)
    reporter.note(large)
    reporter.note(small)
    recount, counted = made.messages.recount, list[tuple[CampaignRef, int]]()

    def slow(ref: CampaignRef, batches: list[int]) -> None:
        made.clock.advance(1)
        recount(ref, batches)
        counted.extend((ref, number) for number in batches)
        for number in batches[:5]:  # and more comes in all the time, of the same
            message = next(one for one in made.messages.list(ref, limit=1_000).messages if one.batch == number)
            event = Event(kind=EventKind.OPENED, attempt=1, at=made.clock.now(), id=f"{len(counted)}", source="tracking")
            made.messages.record_events(ref, [ReportedEvent(message.batch, message.key, event)], made.clock.now())

    monkeypatch.setattr(made.messages, "recount", slow)
    for _ in range(12):
        keeper.run(seconds=0.5)
    held = {message.batch for message in made.messages.list(large, limit=1_000).messages}
    assert {number for ref, number in counted if ref == large} == held
    assert small in {ref for ref, _ in counted}


def test_what_is_deleted_leaves_the_list(made: Bench) -> None:
    gone, there = made.campaign().ref, made.campaign().ref
    keeper = recounts(made)
    for ref in (gone, there):
        report(made, ref, 0)
        recounts(made).note(ref)
    made.messages.drop(gone)
    keeper.run(seconds=10)
    assert list(made.messages.stale(there)) == []
    assert listed(made) == 1


def test_it_stops_when_told(made: Bench) -> None:
    ref = made.campaign().ref
    report(made, ref, 0)
    recounts(made).note(ref)
    keeper = recounts(made)
    keeper.run(seconds=10, stopped=lambda: True)
    keeper.run(seconds=10)
    assert list(made.messages.stale(ref)) == []


def test_in_an_installation_what_comes_back_is_counted_by_the_chores(tmp_path: Path) -> None:
    with open_app(Settings.load({"POSTROOM_DATA": str(tmp_path / "data")}, None, {})) as postroom:
        messages, now, tenant = postroom.messages, postroom.clock.now(), postroom.tenants.get("default")
        ref, key = stream_ref(tenant, day_of(now)), transactional_key(tenant.secret, "seed", 0)
        messages.create(ref, stream_batches(ref.campaign))
        batch = batch_of(key, stream_batches(ref.campaign))
        messages.store(ref, [MessageRow(batch, key, 1, "anna@example.org", None, "[]")], now)
        messages.recount(ref)
        bounced = Event(kind=EventKind.DELIVERED, attempt=1, at=now, id="e", source="dsn")
        postroom.inbound_events.put([InboundEvent(tenant.number, ref.campaign, batch, key, bounced)])
        assert postroom.feedback.once()
        assert list(messages.stale(ref)) == [batch]
        stopped = threading.Event()
        maintenance = threading.Thread(target=MaintenanceLoop(postroom, only=None, stopped=stopped).run)
        maintenance.start()
        try:
            until(lambda: not messages.stale(ref), "the maintenance to count", 5)
        finally:
            stopped.set()
            maintenance.join()
        assert messages.counts(ref).delivered == 1
