"""The breaker opens after a row of failures, probes at growing and spread intervals, and closes at the first success."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.platform.mail.breaker import Breaker, BreakerPolicy, BreakerState
from tests.fakes.clock import ManualClock

POLICY = BreakerPolicy(threshold=3, first_wait_s=1, longest_wait_s=60, stubborn_wait_s=15)


def fail(breaker: Breaker, clock: ManualClock, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(clock.monotonic(), "refused", chance=0.999)


def test_it_stays_closed_until_the_threshold_in_a_row() -> None:
    breaker, clock = Breaker(POLICY), ManualClock()
    fail(breaker, clock, 2)
    breaker.succeeded()
    fail(breaker, clock, 2)
    assert breaker.allows(clock.monotonic())
    assert breaker.reason == "refused"
    fail(breaker, clock)
    assert not breaker.allows(clock.monotonic())
    assert breaker.state is BreakerState.OPEN


def test_it_probes_when_its_wait_is_over_and_waits_longer_each_time() -> None:
    breaker, clock = Breaker(POLICY), ManualClock()
    fail(breaker, clock, 3)
    waits = []
    for _ in range(9):
        waits.append(round(breaker.retry_in(clock.monotonic())))
        clock.advance(breaker.retry_in(clock.monotonic()) - 0.01)
        assert not breaker.allows(clock.monotonic())
        clock.advance(0.02)
        assert breaker.allows(clock.monotonic())
        assert breaker.state.value == "half_open"
        fail(breaker, clock)
        assert breaker.state.value == "open"
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_success_forgets_everything() -> None:
    breaker, clock = Breaker(POLICY), ManualClock()
    fail(breaker, clock, 8)
    breaker.succeeded()
    assert (breaker.state, breaker.reason, breaker.retry_in(clock.monotonic())) == (BreakerState.CLOSED, "", 0.0)
    fail(breaker, clock, 3)
    assert round(breaker.retry_in(clock.monotonic())) == 1


def test_what_only_a_person_can_mend_opens_at_once_and_waits_longer() -> None:
    breaker, clock = Breaker(POLICY), ManualClock()
    breaker.failed(clock.monotonic(), "wrong password", chance=0.0, stubborn=True)
    assert not breaker.allows(clock.monotonic())
    assert breaker.retry_in(clock.monotonic()) == 7.5


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=60), st.booleans())
def test_waits_keep_to_their_bounds_whatever_the_chance(chances: list[float], stubborn: bool) -> None:
    breaker, now = Breaker(POLICY), 0.0
    for chance in chances:
        breaker.failed(now, "x", chance=chance, stubborn=stubborn)
        wait = breaker.retry_in(now)
        assert 0 <= wait < 60 or wait == pytest.approx(60)  # a difference of two floats
        now += wait
