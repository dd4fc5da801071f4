"""The circuit breaker: when it opens, what it lets through, what closes it."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from postroom.errors import Conflict, Invalid, NotFound, PostroomError, StorageFull, Unavailable
from postroom.gateway.breaker import BreakerOptions, CircuitBreaker, CircuitBreakers, ServiceHealth
from postroom.gateway.errors import CircuitOpen
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Answer, Things, ask, door

OPTIONS = BreakerOptions(failures=3, window_s=10.0, wait_s=2.0, longest_s=5.0, probe_s=30.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker(OPTIONS, clock)


def pass_through(breaker: CircuitBreaker, outcome: ServiceHealth) -> None:
    breaker.leave(outcome, probe=breaker.enter())


def open_it(breaker: CircuitBreaker) -> None:
    for _ in range(OPTIONS.failures):
        pass_through(breaker, ServiceHealth.SICK)


def test_it_opens_after_so_many_failures_in_a_row(breaker: CircuitBreaker) -> None:
    open_it(breaker)
    with pytest.raises(CircuitOpen) as refused:
        breaker.enter()
    assert refused.value.retry_after_s == 2


def test_one_success_in_between_and_it_stays_closed(breaker: CircuitBreaker) -> None:
    for outcome in [ServiceHealth.SICK, ServiceHealth.SICK, ServiceHealth.WELL, ServiceHealth.SICK, ServiceHealth.SICK]:
        pass_through(breaker, outcome)
    assert breaker.enter() is False


def test_failures_far_apart_do_not_open_it(breaker: CircuitBreaker, clock: ManualClock) -> None:
    for _ in range(10):
        pass_through(breaker, ServiceHealth.SICK)
        clock.advance(6)
    assert breaker.enter() is False


def test_what_was_refused_on_its_own_merits_neither_opens_nor_excuses(breaker: CircuitBreaker) -> None:
    for outcome in [ServiceHealth.NOTHING] * 10 + [
        ServiceHealth.SICK,
        ServiceHealth.NOTHING,
        ServiceHealth.SICK,
        ServiceHealth.NOTHING,
        ServiceHealth.SICK,
    ]:
        pass_through(breaker, outcome)
    with pytest.raises(CircuitOpen):
        breaker.enter()


def test_one_probe_at_a_time(breaker: CircuitBreaker, clock: ManualClock) -> None:
    open_it(breaker)
    clock.advance(2)
    assert breaker.enter() is True
    with pytest.raises(CircuitOpen):
        breaker.enter()


def test_a_probe_that_is_answered_closes_it(breaker: CircuitBreaker, clock: ManualClock) -> None:
    open_it(breaker)
    clock.advance(2)
    pass_through(breaker, ServiceHealth.WELL)
    assert breaker.enter() is False


def test_a_probe_that_fails_doubles_the_wait_up_to_a_bound(breaker: CircuitBreaker, clock: ManualClock) -> None:
    open_it(breaker)
    waits = []
    for _ in range(3):
        with pytest.raises(CircuitOpen) as refused:
            breaker.enter()
        waits.append(refused.value.retry_after_s)
        clock.advance(refused.value.retry_after_s)
        pass_through(breaker, ServiceHealth.SICK)
    assert waits == [2, 4, 5]


def test_a_probe_that_tells_nothing_makes_room_for_the_next(breaker: CircuitBreaker, clock: ManualClock) -> None:
    open_it(breaker)
    clock.advance(2)
    pass_through(breaker, ServiceHealth.NOTHING)
    assert breaker.enter() is True


def test_a_probe_that_never_returns_is_given_up(breaker: CircuitBreaker, clock: ManualClock) -> None:
    open_it(breaker)
    clock.advance(2)
    breaker.enter()
    clock.advance(30)
    assert breaker.enter() is True


def test_calls_that_were_on_their_way_do_not_lengthen_the_wait(breaker: CircuitBreaker, clock: ManualClock) -> None:
    early = [breaker.enter() for _ in range(10)]
    open_it(breaker)
    for probe in early:
        breaker.leave(ServiceHealth.SICK, probe=probe)
    breaker.leave(ServiceHealth.NOTHING, probe=False)
    with pytest.raises(CircuitOpen) as refused:
        breaker.enter()
    assert refused.value.retry_after_s == 2


def test_services_have_their_own(clock: ManualClock) -> None:
    breakers = CircuitBreakers(OPTIONS, clock)
    open_it(breakers.of("messages"))
    assert breakers.of("templates").enter() is False
    with pytest.raises(CircuitOpen):
        breakers.of("messages").enter()


class Sick(Things):
    """Fails as told, and counts how often it was touched."""

    def __init__(self, error: PostroomError) -> None:
        super().__init__(before=self.fail)
        self.error: PostroomError | None = error
        self.touched = 0

    def fail(self) -> None:
        self.touched += 1
        if self.error is not None:
            raise self.error


def get(app: FastAPI) -> Answer:
    return ask(app, "GET", "/v1/things/a", headers=EDITOR)


def test_a_sick_store_is_not_touched_any_more_until_it_is_well(clock: ManualClock) -> None:
    things = Sick(Unavailable("away"))
    app = door(things, clock, breaker=OPTIONS)
    answers = [get(app) for _ in range(20)]
    assert {answer.status for answer in answers} == {503}
    assert things.touched == OPTIONS.failures
    assert answers[-1].fields["retry-after"] == "2"
    things.error = None
    clock.advance(2)
    assert get(app).status == 200
    assert get(app).status == 200


@pytest.mark.parametrize("error", [StorageFull("full"), Conflict("other state"), NotFound("none"), Invalid("wrong")])
def test_nothing_else_opens_it(clock: ManualClock, error: PostroomError) -> None:
    things = Sick(error)
    app = door(things, clock, breaker=OPTIONS)
    for _ in range(20):
        get(app)
    assert things.touched == 20


def test_what_needs_no_store_is_answered_all_the_while(clock: ManualClock) -> None:
    app = door(Sick(Unavailable("away")), clock, breaker=OPTIONS)
    for _ in range(5):
        get(app)
    assert ask(app, "GET", "/openapi.json").status == 200
