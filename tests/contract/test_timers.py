"""The promise of `ports.timers`, on every home that keeps it yet; how they fire is the worker loop's on one machine."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.embedded.timers import SqliteTimers
from postroom.platform.ports.queues import MAX_BODY_BYTES, Queues
from postroom.platform.ports.timers import MAX_AHEAD_MS
from tests.contract.home import Home

pytestmark = pytest.mark.homes("embedded")


def connect(home: Home) -> SqliteTimers:
    timers = home.timers()
    assert isinstance(timers, SqliteTimers)
    return timers


@pytest.fixture
def timers(home: Home) -> SqliteTimers:
    return connect(home)


def later(home: Home, seconds: float) -> Instant:
    return Instant(home.clock.now() + round(seconds * 1_000))


def bodies(queues: Queues, queue: str = "due") -> list[str]:
    """What is on the queue, taken off."""
    found: list[str] = []
    while items := queues.receive(queue, limit=10):
        for item in items:
            found.append(item.body)
            queues.delete(queue, item.receipt)
    return found


def test_a_timer_fires_once_its_time_has_come_never_early_and_is_gone(home: Home, timers: SqliteTimers, queues: Queues) -> None:
    at = later(home, 60)
    timers.set("one", at, "due", '{"for": 60}')
    assert timers.get("one") == timers.next_due() == at
    home.wait(59.999)
    assert timers.fire_due(home.clock.now()) == 0
    assert bodies(queues) == []
    home.wait(0.001)
    assert timers.fire_due(home.clock.now()) == 1
    assert bodies(queues) == ['{"for": 60}']
    assert timers.get("one") is timers.next_due() is None
    assert timers.fire_due(home.clock.now()) == 0


def test_a_timer_missed_in_an_outage_fires_late_and_one_in_the_past_at_once(
    home: Home, timers: SqliteTimers, queues: Queues
) -> None:
    timers.set("missed", later(home, 10), "due", "1")
    home.wait(100_000)
    timers.set("past", later(home, -5_000), "due", "2")
    assert connect(home).fire_due(home.clock.now()) == 2
    assert sorted(bodies(queues)) == ["1", "2"]


def test_setting_a_name_again_replaces_it(home: Home, timers: SqliteTimers, queues: Queues) -> None:
    timers.set("one", later(home, 10), "due", "old")
    connect(home).set("one", later(home, 20), "other", "new")
    home.wait(15)
    assert timers.fire_due(home.clock.now()) == 0
    home.wait(5)
    assert timers.fire_due(home.clock.now()) == 1
    assert (bodies(queues), bodies(queues, "other")) == ([], ["new"])


def test_a_cancelled_timer_does_not_fire_and_cancelling_nothing_is_fine(home: Home, timers: SqliteTimers, queues: Queues) -> None:
    timers.set("one", later(home, 10), "due", "1")
    timers.set("two", later(home, 10), "due", "2")
    timers.cancel("one")
    timers.cancel("one")
    timers.cancel("never")
    home.wait(10)
    assert timers.fire_due(home.clock.now()) == 1
    assert bodies(queues) == ["2"]


def test_any_number_fires_in_the_order_of_their_times(home: Home, timers: SqliteTimers, queues: Queues) -> None:
    for n in range(230):
        timers.set(f"t{n}", later(home, 300 - n), "due", str(n))
    home.wait(200)
    fired = timers.fire_due(home.clock.now())
    assert fired == 130
    assert bodies(queues) == [str(n) for n in range(229, 99, -1)]
    assert timers.next_due() == later(home, 1)


def test_racing_workers_fire_each_timer_once(home: Home, queues: Queues) -> None:
    workers = [connect(home) for _ in range(3)]
    for n in range(60):
        workers[0].set(f"t{n}", later(home, 0), "due", str(n))
    start = threading.Barrier(len(workers))

    def fire(worker: SqliteTimers) -> int:
        start.wait(10)
        return worker.fire_due(home.clock.now())

    with ThreadPoolExecutor(len(workers)) as pool:
        assert sum(pool.map(fire, workers)) == 60
    assert sorted(bodies(queues), key=int) == [str(n) for n in range(60)]


def test_limits(home: Home, timers: SqliteTimers) -> None:
    at = later(home, 1)
    for name, queue in (("a b", "due"), ("", "due"), ("a" * 61, "due"), ("one", "d/ue")):
        with pytest.raises(Invalid):
            timers.set(name, at, queue, "1")
    with pytest.raises(TooLarge):
        timers.set("one", at, "due", "x" * (MAX_BODY_BYTES + 1))
    with pytest.raises(Invalid):
        timers.set("one", Instant(home.clock.now() + MAX_AHEAD_MS + 1), "due", "1")
    assert timers.next_due() is None
    timers.set("a" * 60, Instant(home.clock.now() + MAX_AHEAD_MS), "due", "x" * MAX_BODY_BYTES)
    assert timers.get("a" * 60) == home.clock.now() + MAX_AHEAD_MS
