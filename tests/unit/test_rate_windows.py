"""Tallies: what every process heard adds up, by the minute, and stays within bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.errors import Unavailable
from postroom.ledger.rate_windows import OTHER_DOMAINS, MinuteRates, RateCounts, RateRecorder, RateWindows
from postroom.model.campaign import CampaignRef
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.message import MessageStatus
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import MAX_ITEM_BYTES, Write, item_json
from tests.fakes.clock import ManualClock

HOME = CampaignRef("default", "c1")
KEEP_MS = 3_600_000


class House:
    def __init__(self, tables: SqliteTables, clock: ManualClock) -> None:
        self.tables, self.clock = tables, clock

    def tally(self) -> RateRecorder:
        return RateRecorder(self.tables, self.clock, keep_ms=KEEP_MS)

    def minute(self, ago: int = 0) -> dict[str, MinuteRates]:
        return RateWindows(self.tables).read(self.clock.now() // 60_000 - ago)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield House(SqliteTables(control, clock), clock)


def event(kind: EventKind, bounce: BounceType | None = None) -> Event:
    said = None if bounce is None else Bounce(bounce, BounceClass.OTHER)
    return Event(kind=kind, attempt=1, at=Instant(0), id="e", source="dsn", bounce=said)


def test_what_several_processes_heard_adds_up_by_campaign_provider_and_domain(house: House) -> None:
    sender, feedback = house.tally(), house.tally()
    with sender.handovers(HOME, "/relay") as handovers:
        for number in range(10):
            handovers.settled(f"p{number}@a.example", MessageStatus.SENT)
        handovers.settled("gone@b.example", MessageStatus.BOUNCED)
        handovers.settled("busy@b.example", MessageStatus.DEFERRED)
        sender.flush()
    feedback.event(HOME, "/relay", "a.example", event(EventKind.BOUNCED, BounceType.SOFT))
    feedback.event(HOME, "/relay", "a.example", event(EventKind.REJECTED))
    feedback.event(HOME, "/relay", "a.example", event(EventKind.COMPLAINED))
    feedback.event(HOME, "/relay", "a.example", event(EventKind.OPENED))
    feedback.event(CampaignRef("other", "c2"), "/relay", "", event(EventKind.BOUNCED, BounceType.HARD))
    feedback.flush()
    minute = house.minute()["/relay"]
    assert minute.total == RateCounts(11, 2, 2, 1)
    assert minute.campaigns == {HOME: RateCounts(11, 1, 2, 1), CampaignRef("other", "c2"): RateCounts(0, 1, 0, 0)}
    assert minute.domains == {
        "a.example": RateCounts(10, 0, 2, 1),
        "b.example": RateCounts(1, 1, 0, 0),
        OTHER_DOMAINS: RateCounts(0, 1, 0, 0),
    }


def test_writing_down_again_adds_nothing_and_each_minute_stands_alone(house: House) -> None:
    tally = house.tally()
    tally.sent(HOME, "p", "a.example", 3)
    tally.flush()
    tally.flush()
    tally.sent(HOME, "p", "a.example", 4)
    tally.flush()
    assert house.minute()["p"].total == RateCounts(7)
    house.clock.advance(60)
    tally.sent(HOME, "p", "a.example")
    tally.flush()
    assert (house.minute()["p"].total, house.minute(1)["p"].total) == (RateCounts(1), RateCounts(7))
    house.clock.advance(KEEP_MS / 1000 + 60)
    assert house.minute(61) == {}


def test_what_a_run_counted_last_is_not_lost_with_it(house: House) -> None:
    tally = house.tally()
    with tally.handovers(HOME, "p") as handovers:
        handovers.settled("p@a.example", MessageStatus.SENT)
    tally.flush()
    assert house.minute()["p"].total == RateCounts(1)


def test_an_item_stays_within_its_limit_and_loses_no_event(house: House) -> None:
    tally = house.tally()
    for number in range(1_000):
        domain = f"{'long' * 20}{number}.example"
        tally.sent(CampaignRef("tenant" * 6, f"campaign{number:012d}"), "p", domain, 1_000_000 if number < 200 else 1)
    tally.flush()
    (item,) = house.tables.query(f"#tallies/{house.clock.now() // 60_000}").items
    assert len(item_json(item.data)) < MAX_ITEM_BYTES
    minute = house.minute()["p"]
    assert minute.total == RateCounts(200_000_800)
    assert (len(minute.domains), minute.domains[OTHER_DOMAINS]) == (201, RateCounts(800))
    assert len(minute.campaigns) == 300


def test_what_could_not_be_written_is_written_by_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tally, write = house.tally(), house.tables.write
    tally.sent(HOME, "p", "a.example")

    def unavailable(_writes: Sequence[Write]) -> list[int]:
        raise Unavailable("the disk is away")

    monkeypatch.setattr(house.tables, "write", unavailable)
    with pytest.raises(Unavailable):
        tally.flush()
    monkeypatch.setattr(house.tables, "write", write)
    house.clock.advance(60)
    tally.flush()
    assert house.minute(1)["p"].total == RateCounts(1)


def test_counting_and_writing_down_at_the_same_time_lose_nothing(house: House) -> None:
    tally, each = house.tally(), 2_000
    done = threading.Event()

    def flushing() -> None:
        while not done.is_set():
            tally.flush()

    def counting(name: str) -> None:
        with tally.handovers(CampaignRef("default", name), "p") as handovers:
            for number in range(each):
                handovers.settled(f"p@d{number % 7}.example", MessageStatus.SENT)

    writer = threading.Thread(target=flushing)
    counters = [threading.Thread(target=counting, args=(name,)) for name in ("c1", "c2", "c3")]
    for thread in (writer, *counters):
        thread.start()
    for thread in counters:
        thread.join()
    done.set()
    writer.join()
    tally.flush()
    assert house.minute()["p"].total == RateCounts(3 * each)


def test_no_password_of_a_url_is_written_down(house: House) -> None:
    tally = house.tally()
    tally.sent(HOME, "smtp://news:s3cret@relay.example", "a.example")
    tally.flush()
    assert list(house.minute()) == ["smtp://news@relay.example"]


def test_no_url_is_too_long_to_be_written_down(house: House) -> None:
    tally = house.tally()
    tally.sent(HOME, f"smtp://relay.example?{'x' * 2_000}", "a.example")
    tally.flush()
    assert [minute.total for minute in house.minute().values()] == [RateCounts(1)]
