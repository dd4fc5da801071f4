"""The promise of `ports.timers`, on every backend. Who fires them on one machine: test_timers_on_one_machine."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.queues import MAX_BODY_BYTES, Queues
from postroom.platform.ports.timers import MAX_AHEAD_MS, Timers
from tests.contract.backend import Backend

_LOOKS, _BETWEEN_S = 60, 0.5


@pytest.fixture
def timers(backend: Backend) -> Timers:
    return backend.timers()


def later(backend: Backend, seconds: float) -> Instant:
    return Instant(backend.clock.now() + round(seconds * 1_000))


def bodies(queues: Queues, queue: str = "due") -> list[str]:
    """What is on the queue, taken off."""
    found: list[str] = []
    while items := queues.receive(queue, limit=10):
        for item in items:
            found.append(item.body)
            queues.delete(queue, item.receipt)
    return found


def fired(backend: Backend, queues: Queues, want: int) -> dict[str, Instant]:
    """The first `want` bodies that come, with the times when they were there."""
    found: dict[str, Instant] = {}
    for _ in range(_LOOKS):
        for queue in ("due", "other"):
            found |= dict.fromkeys(bodies(queues, queue), backend.clock.now())
        if len(found) >= want:
            return found
        backend.wait(_BETWEEN_S)
        backend.fire()
    raise AssertionError(f"{want} timers should have fired, but only {found} did")


def test_a_timer_fires_once_its_time_has_come_as_it_was_set_last_and_is_gone(
    backend: Backend, timers: Timers, queues: Queues
) -> None:
    """All in one: firing takes its time where the clock is not ours."""
    at = later(backend, 2)
    timers.set("one", at, "due", '"one"')
    timers.set("replaced", at, "due", '"old"')
    backend.timers().set("replaced", later(backend, 2.001), "other", '"new"')
    timers.set("cancelled", at, "due", '"cancelled"')
    timers.cancel("cancelled")
    timers.set("far", later(backend, 3_600), "due", '"far"')
    timers.set("put-off", at, "due", '"put off"')
    timers.set("put-off", later(backend, 3_600), "due", '"put off"')
    found = fired(backend, queues, 2)
    assert found.keys() == {'"one"', '"new"'}
    assert all(when >= at for when in found.values())
    assert timers.get("one") is timers.get("replaced") is None
    assert timers.get("far") is not None
    assert bodies(queues) == bodies(queues, "other") == []


def test_a_time_in_the_past_fires_at_once_in_place_of_what_was_set(backend: Backend, timers: Timers, queues: Queues) -> None:
    timers.set("one", later(backend, 3_600), "due", '"later"')
    timers.set("one", later(backend, -5_000), "due", '"past"')
    backend.fire()
    assert fired(backend, queues, 1).keys() == {'"past"'}
    assert timers.get("one") is None


def test_it_is_known_when_a_timer_fires_to_the_millisecond(backend: Backend, timers: Timers) -> None:
    assert timers.get("one") is None
    for at in (later(backend, 60.001), later(backend, 90_000.999), later(backend, 60), later(backend, 1)):
        timers.set("one", at, "due", "1")
        assert timers.get("one") == backend.timers().get("one") == at
    assert timers.get("other") is None


def test_a_cancelled_timer_is_gone_and_cancelling_nothing_is_fine(backend: Backend, timers: Timers) -> None:
    timers.set("one", later(backend, 60), "due", "1")
    timers.set("two", later(backend, 60), "due", "2")
    timers.cancel("one")
    timers.cancel("one")
    timers.cancel("never")
    assert timers.get("one") is None
    assert timers.get("two") is not None


def test_limits(backend: Backend, timers: Timers) -> None:
    at = later(backend, 60)
    for name, queue in (("a b", "due"), ("", "due"), ("a" * 61, "due"), ("one", "d/ue")):
        with pytest.raises(Invalid):
            timers.set(name, at, queue, "1")
    with pytest.raises(TooLarge):
        timers.set("one", at, "due", "x" * (MAX_BODY_BYTES + 1))
    with pytest.raises(Invalid):
        timers.set("one", Instant(backend.clock.now() + MAX_AHEAD_MS + 60_000), "due", "1")
    assert timers.get("one") is None
    at = Instant(backend.clock.now() + MAX_AHEAD_MS)
    timers.set("a" * 60, at, "due", '"' + "x" * (MAX_BODY_BYTES - 2) + '"')
    assert timers.get("a" * 60) == at
