"""The promise of `ports.timers`, on every home. Who fires them on one machine: test_timers_on_one_machine."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.queues import MAX_BODY_BYTES, Queues
from postroom.platform.ports.timers import MAX_AHEAD_MS, Timers
from tests.contract.home import Home

_LOOKS, _BETWEEN_S = 60, 0.5


@pytest.fixture
def timers(home: Home) -> Timers:
    return home.timers()


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


def fired(home: Home, queues: Queues, want: int) -> dict[str, Instant]:
    """The first `want` bodies that come, with the times when they were there."""
    found: dict[str, Instant] = {}
    for _ in range(_LOOKS):
        for queue in ("due", "other"):
            found |= dict.fromkeys(bodies(queues, queue), home.clock.now())
        if len(found) >= want:
            return found
        home.wait(_BETWEEN_S)
        home.fire()
    raise AssertionError(f"{want} timers should have fired, but only {found} did")


def test_a_timer_fires_once_its_time_has_come_as_it_was_set_last_and_is_gone(home: Home, timers: Timers, queues: Queues) -> None:
    """All in one: firing takes its time where the clock is not ours."""
    at = later(home, 2)
    timers.set("one", at, "due", '"one"')
    timers.set("replaced", at, "due", '"old"')
    home.timers().set("replaced", later(home, 2.001), "other", '"new"')
    timers.set("cancelled", at, "due", '"cancelled"')
    timers.cancel("cancelled")
    timers.set("far", later(home, 3_600), "due", '"far"')
    timers.set("put-off", at, "due", '"put off"')
    timers.set("put-off", later(home, 3_600), "due", '"put off"')
    found = fired(home, queues, 2)
    assert found.keys() == {'"one"', '"new"'}
    assert all(when >= at for when in found.values())
    assert timers.get("one") is timers.get("replaced") is None
    assert timers.get("far") is not None
    assert bodies(queues) == bodies(queues, "other") == []


def test_a_time_in_the_past_fires_at_once_in_place_of_what_was_set(home: Home, timers: Timers, queues: Queues) -> None:
    timers.set("one", later(home, 3_600), "due", '"later"')
    timers.set("one", later(home, -5_000), "due", '"past"')
    home.fire()
    assert fired(home, queues, 1).keys() == {'"past"'}
    assert timers.get("one") is None


def test_it_is_known_when_a_timer_fires_to_the_millisecond(home: Home, timers: Timers) -> None:
    assert timers.get("one") is None
    for at in (later(home, 60.001), later(home, 90_000.999), later(home, 60), later(home, 1)):
        timers.set("one", at, "due", "1")
        assert timers.get("one") == home.timers().get("one") == at
    assert timers.get("other") is None


def test_a_cancelled_timer_is_gone_and_cancelling_nothing_is_fine(home: Home, timers: Timers) -> None:
    timers.set("one", later(home, 60), "due", "1")
    timers.set("two", later(home, 60), "due", "2")
    timers.cancel("one")
    timers.cancel("one")
    timers.cancel("never")
    assert timers.get("one") is None
    assert timers.get("two") is not None


def test_limits(home: Home, timers: Timers) -> None:
    at = later(home, 60)
    for name, queue in (("a b", "due"), ("", "due"), ("a" * 61, "due"), ("one", "d/ue")):
        with pytest.raises(Invalid):
            timers.set(name, at, queue, "1")
    with pytest.raises(TooLarge):
        timers.set("one", at, "due", "x" * (MAX_BODY_BYTES + 1))
    with pytest.raises(Invalid):
        timers.set("one", Instant(home.clock.now() + MAX_AHEAD_MS + 60_000), "due", "1")
    assert timers.get("one") is None
    at = Instant(home.clock.now() + MAX_AHEAD_MS)
    timers.set("a" * 60, at, "due", '"' + "x" * (MAX_BODY_BYTES - 2) + '"')
    assert timers.get("a" * 60) == at
