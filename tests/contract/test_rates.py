"""The promise of `ports.rates`, on every backend. What a killed process leaves on one machine: test_rates_on_disk."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.platform.ports.rates import BURST_MS, HORIZON_MS, RateLimit, Rates, Reservation, UsedUp
from tests.contract.backend import Backend
from tests.fakes.clock import START

B = "smtp://relay.example.org"
DAY_MS = 86_400_000
_names = itertools.count()


@pytest.fixture
def rates(backend: Backend) -> Rates:
    return backend.rates()


def at(milliseconds: float) -> Instant:
    return Instant(START + round(milliseconds))


def times(grant: Reservation) -> list[float]:
    """When each granted send may leave."""
    return [grant.at + n * grant.spacing_ms for n in range(grant.count)]


def never_above(sends: list[float], per_second: float, *, slack_ms: float) -> None:
    """No window of any length holds more sends than the rate times its length, one for its edge, and the slack's."""
    sends = sorted(sends)
    for first in range(len(sends)):
        for last in range(first, len(sends), max(1, len(sends) // 50)):
            window_ms = sends[last] - sends[first]
            assert last - first <= per_second * (window_ms + slack_ms) / 1_000 + 1e-6


def test_a_bucket_without_a_limit_grants_all_at_once(rates: Rates) -> None:
    assert rates.reserve(B, 1_000, at(0)) == Reservation(1_000, at(0), 0.0)
    assert rates.current(B, at(0)) is None


def test_grants_are_spaced_evenly_and_begin_before_the_horizon(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=10))
    first = rates.reserve(B, 1_000, at(0))
    assert first == Reservation(12, at(-BURST_MS), 100.0)
    refused = rates.reserve(B, 1, at(0))
    assert refused.count == 0
    assert refused.at == at(100)
    assert rates.reserve(B, 5, refused.at) == Reservation(1, at(HORIZON_MS + 100), 100.0)


def test_a_rate_below_one_a_second_grants_one_at_a_time(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=0.1))
    assert rates.reserve(B, 10, at(0)).count == 1
    refused = rates.reserve(B, 10, at(0))
    assert (refused.count, refused.at) == (0, at(10_000 - BURST_MS - HORIZON_MS))
    granted = rates.reserve(B, 10, refused.at)
    assert (granted.count, granted.at) == (1, at(10_000 - BURST_MS))


def test_unused_time_is_kept_for_no_longer_than_the_burst(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=100))
    rates.reserve(B, 1, at(0))
    grant = rates.reserve(B, 1_000, at(3_600_000))
    assert grant.at == at(3_600_000 - BURST_MS)
    assert grant.count == 100 * (HORIZON_MS + BURST_MS) // 1_000 + 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_second=st.one_of(st.floats(0.5, 20_000), st.sampled_from([1.0, 3.0, 14.0, 9_999.0])),
    asks=st.lists(st.tuples(st.integers(0, 700), st.integers(1, 1_000)), min_size=1, max_size=30),
)
def test_grants_never_pass_the_rate_over_any_window(rates: Rates, per_second: float, asks: list[tuple[int, int]]) -> None:
    """A millisecond of slack, for instants are whole milliseconds; whoever obeys a grant late uses time kept by the burst."""
    bucket = f"bucket {next(_names)}"
    rates.limit(bucket, RateLimit(per_second=per_second))
    now = 0
    sends: list[float] = []
    for pause, want in asks:
        now += pause
        grant = rates.reserve(bucket, want, at(now))
        assert grant.count <= want
        if grant.count:
            assert at(now - BURST_MS) <= grant.at
            assert times(grant)[-1] <= at(now + HORIZON_MS) + 1
            sends += times(grant)
        else:
            assert at(now) < grant.at, "it says when to ask again, and that is later"
            assert rates.reserve(bucket, 1, grant.at).count == 1, "and then there is something"
            sends += [grant.at + HORIZON_MS]
            now = grant.at - START
    never_above(sends, per_second, slack_ms=1.001)


@pytest.mark.backends(
    "embedded"
)  # the arithmetic is one for both (ports.buckets), and on AWS each of thousands of steps is a call
@pytest.mark.parametrize("per_second", [0.7, 14.0, 333.3, 10_000.0])
@pytest.mark.parametrize("want", [1, 7, 128])
def test_steady_demand_gets_the_whole_rate(rates: Rates, per_second: float, want: int) -> None:
    """Small grants lose nothing to rounding."""
    rates.limit(B, RateLimit(per_second=per_second))
    sends: list[float] = []
    now = 0.0
    while len(sends) < min(per_second * 20, 3_000):
        grant = rates.reserve(B, want, at(now))
        sends += times(grant)
        if not grant.count:
            now = grant.at - START
    span_s = (max(sends) - min(sends)) / 1_000
    assert (len(sends) - 1) / span_s == pytest.approx(per_second, rel=0.005)


def test_all_workers_share_the_bucket(backend: Backend) -> None:
    clients = [backend.rates() for _ in range(4)]
    clients[0].limit(B, RateLimit(per_second=1_000))
    start = threading.Barrier(len(clients))

    def draw(client: Rates) -> list[float]:
        start.wait(10)
        return [time for now in range(0, 2_000, 50) for time in times(client.reserve(B, 25, at(now)))]

    with ThreadPoolExecutor(len(clients)) as pool:
        sends = [time for drawn in pool.map(draw, clients) for time in drawn]
    assert len(sends) <= 1_000 * 3.1 + 1
    never_above(sends, 1_000, slack_ms=1.001)


def test_a_worker_that_was_stopped_for_a_while_gets_nothing_and_disturbs_nobody(rates: Rates) -> None:
    """It asks with the time it read before it was stopped."""
    rates.limit(B, RateLimit(per_second=100))
    fresh = rates.reserve(B, 50, at(10_000))
    assert rates.reserve(B, 50, at(1_000)).count == 0
    again = rates.reserve(B, 50, at(10_000))
    assert again.at == fresh.at + 500


def test_buckets_are_apart(rates: Rates) -> None:
    rates.limit("a", RateLimit(per_second=1))
    rates.reserve("a", 10, at(0))
    assert rates.reserve("A", 10, at(0)).count == 10
    assert rates.reserve("\x00 é \U0001f600 '\"", 10, at(0)).count == 10


def test_a_changed_limit_holds_from_the_next_reservation(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=0.001))
    rates.reserve(B, 1, at(0))
    rates.limit(B, RateLimit(per_second=100))
    assert rates.reserve(B, 1, at(0)).at == at(-BURST_MS + 10), "nobody waits out the old rate"
    rates.limit(B, RateLimit(per_second=0.5))
    assert rates.reserve(B, 1, at(0)).at == at(-BURST_MS + 2_010 - HORIZON_MS), "nor is the new one too fast"
    rates.limit(B, RateLimit())
    assert rates.reserve(B, 500, at(5_000)) == Reservation(500, at(5_000), 0.0)


def test_a_clock_set_back_stops_nothing(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=100))
    rates.reserve(B, 100, at(3_600_000))
    refused = rates.reserve(B, 1, at(0))
    assert refused.at <= at(12_000)
    assert rates.reserve(B, 1, refused.at).count == 1


def test_a_day_that_is_used_up_says_so_until_the_next_begins_and_asking_takes_nothing(rates: Rates) -> None:
    midnight = Instant((START // DAY_MS + 1) * DAY_MS)
    assert rates.used_up(B, at(0)) is None
    rates.limit(B, RateLimit(per_day=10))
    rates.reserve(B, 9, at(0))
    assert rates.used_up(B, at(0)) is None
    rates.reserve(B, 9, at(0))
    assert rates.used_up(B, at(0)) == UsedUp(10, midnight)
    assert rates.used_up(B, midnight) is None
    rates.refund(B, 1, at(0))
    assert rates.used_up(B, at(0)) is None


def test_the_day_is_counted_in_utc_and_begins_anew(rates: Rates) -> None:
    midnight = Instant((START // DAY_MS + 1) * DAY_MS)
    rates.limit(B, RateLimit(per_day=100))
    assert rates.reserve(B, 70, at(0)).count == 70
    assert rates.reserve(B, 70, at(1)).count == 30
    assert rates.reserve(B, 70, at(2)) == Reservation(0, midnight, 0.0)
    assert rates.reserve(B, 1, Instant(midnight - 1)).count == 0
    assert rates.reserve(B, 70, midnight).count == 70


def test_what_was_not_sent_is_given_back_to_its_day(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_day=10))
    rates.reserve(B, 10, at(0))
    rates.refund(B, 4, at(0))
    assert rates.reserve(B, 10, at(0)).count == 4
    rates.refund(B, 99, at(0))
    assert rates.reserve(B, 99, at(0)).count == 10, "never more than the limit"
    rates.refund(B, 5, at(DAY_MS))
    assert rates.reserve(B, 1, at(0)).count == 0, "another day's refund is not today's"
    rates.refund("never used", 1, at(0))


def test_sends_before_a_daily_limit_was_set_count_too(rates: Rates) -> None:
    rates.reserve(B, 60, at(0))
    rates.limit(B, RateLimit(per_day=100))
    assert rates.reserve(B, 100, at(0)).count == 40
    rates.limit(B, RateLimit(per_second=5, per_day=110))
    assert rates.reserve(B, 100, at(0)).count == 6, "what fits before the horizon"
    assert rates.reserve(B, 100, at(1_000)).count == 4, "what is left of the day"


def test_a_clock_set_back_over_midnight_opens_no_new_day(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_day=10))
    rates.reserve(B, 10, at(0))
    assert rates.reserve(B, 10, at(-DAY_MS)).count == 0


def test_a_throttle_answer_slows_to_seven_tenths_of_what_was_seen_and_the_rate_climbs_back(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=100))
    rates.slow(B, 50, at(0))
    assert rates.current(B, at(0)) == pytest.approx(35)
    assert rates.current(B, at(9_999)) == pytest.approx(35)
    assert rates.current(B, at(10_000)) == pytest.approx(38.5)
    assert rates.current(B, at(20_000)) == pytest.approx(42.35)
    assert rates.current(B, at(110_000)) == pytest.approx(99.86, rel=0.001)
    assert rates.current(B, at(120_000)) == 100
    assert rates.reserve(B, 1_000, at(0)).spacing_ms == pytest.approx(1_000 / 35)


def test_callers_within_a_second_count_as_one_and_a_later_one_slows_further(backend: Backend) -> None:
    one, other = backend.rates(), backend.rates()
    one.limit(B, RateLimit(per_second=100))
    one.slow(B, 100, at(0))
    other.slow(B, 100, at(999))
    assert one.current(B, at(999)) == pytest.approx(70)
    other.slow(B, 100, at(1_000))
    assert one.current(B, at(1_000)) == pytest.approx(49), "seen cannot be more than the rate in force"
    assert one.current(B, at(11_000)) == pytest.approx(53.9), "and the climb begins anew"


def test_no_throttle_answer_slows_below_one_in_ten_seconds_or_speeds_up(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=10))
    rates.slow(B, 1_000_000, at(0))
    assert rates.current(B, at(0)) == pytest.approx(7)
    for n in range(1, 40):
        rates.slow(B, 0, at(n * 1_000))
    assert rates.current(B, at(39_000)) == pytest.approx(0.1)
    assert rates.reserve(B, 5, at(39_000)).count == 1


def test_a_bucket_without_a_limit_is_limited_only_while_it_is_slowed(rates: Rates) -> None:
    rates.slow(B, 20, at(0))
    assert rates.current(B, at(0)) == pytest.approx(14)
    assert rates.reserve(B, 1_000, at(0)).count == 16
    assert rates.current(B, at(100_000)) == pytest.approx(14 * 1.1**10)
    assert rates.current(B, at(3_600_000)) is None
    assert rates.reserve(B, 1_000, at(3_600_000)) == Reservation(1_000, at(3_600_000), 0.0)


def test_setting_the_limit_again_keeps_what_was_learned_and_counted(rates: Rates) -> None:
    rates.limit(B, RateLimit(per_second=100, per_day=20))
    rates.reserve(B, 15, at(0))
    rates.slow(B, 100, at(0))
    rates.limit(B, RateLimit(per_second=100, per_day=20))
    assert rates.current(B, at(0)) == pytest.approx(70)
    assert rates.reserve(B, 100, at(0)).count == 5


@pytest.mark.parametrize("want", [0, -1, 1_001])
def test_a_number_out_of_range_is_invalid(rates: Rates, want: int) -> None:
    with pytest.raises(Invalid):
        rates.reserve(B, want, at(0))


def test_nonsense_is_invalid(rates: Rates) -> None:
    for bucket in ("", "x" * 201, "\ud800"):
        with pytest.raises(Invalid):
            rates.reserve(bucket, 1, at(0))
    for limit in (RateLimit(per_second=0), RateLimit(per_second=-1), RateLimit(per_second=float("nan")), RateLimit(per_day=-1)):
        with pytest.raises(Invalid):
            rates.limit(B, limit)
    for seen in (-1.0, float("nan"), float("inf")):
        with pytest.raises(Invalid):
            rates.slow(B, seen, at(0))
    with pytest.raises(Invalid):
        rates.refund(B, -1, at(0))
    assert rates.current(B, at(0)) is None
    rates.limit("x" * 200, RateLimit(per_day=0))
    assert rates.reserve("x" * 200, 1, at(0)).count == 0
