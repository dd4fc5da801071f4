"""A provider's "too fast" slows the shared bucket to a part of the pace seen while sending, never to that of an idle moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.pipeline.sender.rate_gate import ThrottleFeedback
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.mail.port import Result, Verdict
from postroom.platform.ports.rates import RateLimit
from tests.fakes.clock import ManualClock
from tests.fakes.mailer import ACCEPTED

TOO_FAST = Result(Verdict.TEMPORARY, 450, "4.7.0", "slow down", throttled=True)


@pytest.fixture
def rates(tmp_path: Path) -> Iterator[SqliteRates]:
    made = SqliteRates(tmp_path / "rates.db")
    yield made
    made.close()


def _after(rates: SqliteRates, *steps: tuple[int, float, Result], workers: int = 1) -> float:
    """The bucket's rate after each of `steps`: so many results, spread over so many seconds."""
    clock = ManualClock()

    async def run() -> float:
        threads = ThreadBridge()
        throttle = ThrottleFeedback(rates, "provider", threads, clock, workers=workers)
        for count, seconds, result in steps:
            for _ in range(count):
                clock.advance(seconds / count)
                throttle.on_result(result)
                await throttle.settle()
        threads.close()
        rate = rates.current("provider", clock.now())
        assert rate is not None
        return rate

    return asyncio.run(run())


def test_while_sending_the_bucket_is_slowed_to_a_part_of_the_pace(rates: SqliteRates) -> None:
    assert _after(rates, (1_000, 10, ACCEPTED), (1, 0, TOO_FAST), workers=2) == pytest.approx(0.7 * 200, rel=0.1)


def test_a_pace_that_has_just_grown_counts(rates: SqliteRates) -> None:
    assert _after(rates, (200, 20, ACCEPTED), (600, 3, ACCEPTED), (1, 0, TOO_FAST)) == pytest.approx(0.7 * 200, rel=0.15)


def test_one_answer_to_the_first_message_does_not_stop_everybody(rates: SqliteRates) -> None:
    assert _after(rates, (1, 0, TOO_FAST), workers=4) == pytest.approx(2.8)


@pytest.mark.parametrize("accepted", [0, 5, 60])
def test_an_answer_in_the_first_moments_takes_its_part_of_the_rate_in_force(rates: SqliteRates, accepted: int) -> None:
    """A function that has just begun has no pace of its own, and others may be sending fast."""
    rates.limit("provider", RateLimit(per_second=200.0))
    assert _after(rates, (accepted, 1, ACCEPTED), (1, 0, TOO_FAST)) == pytest.approx(0.7 * 200)


def test_one_answer_in_the_idle_tail_tells_the_pace_from_when_there_was_one(rates: SqliteRates) -> None:
    assert _after(rates, (1_000, 10, ACCEPTED), (3, 600, ACCEPTED), (1, 60, TOO_FAST)) > 40


def test_answers_that_go_on_slow_the_bucket_down_to_the_least(rates: SqliteRates) -> None:
    assert _after(rates, (1_000, 10, ACCEPTED), (60, 61, TOO_FAST)) == pytest.approx(0.1)


def test_seconds_are_forgotten_one_by_one(rates: SqliteRates) -> None:
    """An old burst is no pace any more once as many seconds of slower sending have followed."""
    assert _after(rates, (5_000, 5, ACCEPTED), (400, 40, ACCEPTED), (1, 0, TOO_FAST)) == pytest.approx(7, rel=0.1)
