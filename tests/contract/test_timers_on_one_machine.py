"""How timers fire on one machine: the worker loop moves those that are due to their queues."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from postroom.platform.embedded.timers import SqliteTimers
from postroom.platform.ports.queues import Queues
from tests.contract.backend import Backend
from tests.contract.test_timers import bodies, later

pytestmark = pytest.mark.backends("embedded")


def connect(backend: Backend) -> SqliteTimers:
    timers = backend.timers()
    assert isinstance(timers, SqliteTimers)
    return timers


@pytest.fixture
def timers(backend: Backend) -> SqliteTimers:
    return connect(backend)


def test_a_timer_fires_at_its_millisecond_and_once(backend: Backend, timers: SqliteTimers, queues: Queues) -> None:
    at = later(backend, 60)
    timers.set("one", at, "due", '{"for": 60}')
    assert timers.next_due() == at
    backend.wait(59.999)
    assert timers.fire_due(backend.clock.now()) == 0
    assert bodies(queues) == []
    backend.wait(0.001)
    assert timers.fire_due(backend.clock.now()) == 1
    assert bodies(queues) == ['{"for": 60}']
    assert timers.get("one") is timers.next_due() is None
    assert timers.fire_due(backend.clock.now()) == 0


def test_a_timer_missed_in_an_outage_fires_late_and_one_in_the_past_at_once(
    backend: Backend, timers: SqliteTimers, queues: Queues
) -> None:
    timers.set("missed", later(backend, 10), "due", "1")
    backend.wait(100_000)
    timers.set("past", later(backend, -5_000), "due", "2")
    assert connect(backend).fire_due(backend.clock.now()) == 2
    assert sorted(bodies(queues)) == ["1", "2"]


def test_any_number_fires_in_the_order_of_their_times(backend: Backend, timers: SqliteTimers, queues: Queues) -> None:
    for n in range(230):
        timers.set(f"t{n}", later(backend, 300 - n), "due", str(n))
    backend.wait(200)
    fired = timers.fire_due(backend.clock.now())
    assert fired == 130
    assert bodies(queues) == [str(n) for n in range(229, 99, -1)]
    assert timers.next_due() == later(backend, 1)


def test_racing_workers_fire_each_timer_once(backend: Backend, queues: Queues) -> None:
    workers = [connect(backend) for _ in range(3)]
    for n in range(60):
        workers[0].set(f"t{n}", later(backend, 0), "due", str(n))
    start = threading.Barrier(len(workers))

    def fire(worker: SqliteTimers) -> int:
        start.wait(10)
        return worker.fire_due(backend.clock.now())

    with ThreadPoolExecutor(len(workers)) as pool:
        assert sum(pool.map(fire, workers)) == 60
    assert sorted(bodies(queues), key=int) == [str(n) for n in range(60)]
