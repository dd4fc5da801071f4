"""Rate limits: how many fit at once, how they grow again, who is counted with whom, and what the answer says of it."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from postroom.gateway.rate_limits import ApiRates, RatePolicy
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Answer, Things, ask, door

SLOW = ApiRates(tenant=60.0, principal=30.0, address=20.0)


def get(app: FastAPI, headers: dict[str, str], client: str = "203.0.113.9") -> Answer:
    return ask(app, "GET", "/v1/things/a", headers=headers, client=client)


def admitted(policy: RatePolicy, who: str, now: float) -> bool:
    if policy.wait(who, now) > 0:
        return False
    policy.spend(who, now)
    return True


@given(st.integers(1, 40), st.lists(st.floats(0, 3), max_size=40))
def test_never_more_than_burst_and_rate_in_any_time(rate: int, pauses: list[float]) -> None:
    policy, now, times = RatePolicy("x", rate), 0.0, []
    for pause in [0.0] * 25 + pauses:
        now += pause
        if admitted(policy, "a", now):
            times.append(now)
    for first, begins in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= policy.burst + rate * (times[last] - begins) + 0.001


@given(st.integers(1, 500))
def test_a_full_bucket_admits_exactly_its_burst(rate: int) -> None:
    policy = RatePolicy("x", rate)
    assert sum(admitted(policy, "a", 5.0) for _ in range(policy.burst * 2)) == policy.burst
    assert policy.left("a", 5.0) == 0


@given(st.integers(1, 500))
def test_who_waits_as_long_as_told_is_admitted(rate: int) -> None:
    policy = RatePolicy("x", rate)
    while admitted(policy, "a", 5.0):
        pass
    assert admitted(policy, "a", 5.0 + policy.wait("a", 5.0) + 1e-6)


def test_memory_is_bounded_and_forgets_who_called_longest_ago() -> None:
    policy = RatePolicy("x", 1.0, kept=2)
    for who in ("a", "b", "a", "c"):
        policy.spend(who, 0.0)
    assert [policy.left(who, 0.0) for who in ("a", "b", "c")] == [policy.burst - 2, policy.burst, policy.burst - 1]


def test_the_rates_are_parts_of_the_setting() -> None:
    assert ApiRates.from_setting(2_000) == ApiRates(tenant=2_000.0, principal=1_000.0, address=200.0)


def test_who_calls_too_often_is_told_when_to_come_again() -> None:
    clock = ManualClock()
    things = Things()
    app = door(things, clock, rates=SLOW)
    for _ in range(30):
        assert get(app, EDITOR).status == 200
    answer = get(app, EDITOR)
    assert (answer.status, answer.json["type"]) == (429, "/problems/too-many-requests")
    assert answer.fields["ratelimit"] == '"caller";r=0;t=1'
    clock.advance(int(answer.fields["retry-after"]))
    assert get(app, EDITOR).status == 200


def test_a_refused_call_costs_nothing_and_reaches_no_handler() -> None:
    clock = ManualClock()
    things = Things()
    app = door(things, clock, rates=SLOW)
    for _ in range(50):
        ask(app, "POST", "/v1/things", headers=EDITOR, json={"name": "a"})
    assert things.runs == 30
    clock.advance(0.5)
    assert sum(get(app, EDITOR).status == 200 for _ in range(30)) == 15


def test_a_tenants_callers_share_its_limit() -> None:
    app = door(Things(), rates=SLOW)
    callers = [{"Authorization": f"Bearer editor acme p{n}"} for n in range(4)]
    statuses = [get(app, caller).status for caller in callers for _ in range(20)]
    assert (statuses.count(200), statuses.count(429)) == (60, 20)
    assert get(app, {"Authorization": "Bearer editor other"}).status == 200


def test_an_address_without_credentials_has_little_and_takes_nothing_from_others() -> None:
    app = door(Things(), rates=SLOW)
    assert [get(app, {}).status for _ in range(21)] == [401] * 20 + [429]
    assert get(app, {"Authorization": "wrong"}).status == 429
    assert get(app, {}, client="198.51.100.1").status == 401
    assert get(app, EDITOR).status == 200


def test_an_ipv6_network_counts_as_one_address() -> None:
    app = door(Things(), rates=SLOW)
    statuses = [get(app, {}, client=f"2001:db8::{n:x}").status for n in range(21)]
    assert statuses[-1] == 429


@pytest.mark.parametrize("headers", [EDITOR, {}])
def test_every_answer_says_what_is_left(headers: dict[str, str]) -> None:
    """In the form of draft-ietf-httpapi-ratelimit-headers-10: lists of strings with integer parameters."""
    item = r'"[a-z]+";{}=\d+;{}=\d+'
    fields = get(door(Things(), rates=SLOW), headers).fields
    policy, left = item.format("q", "w"), item.format("r", "t")
    assert re.fullmatch(f"{policy}(, {policy})*", fields["ratelimit-policy"])
    assert re.fullmatch(left, fields["ratelimit"])


def test_the_nearest_limit_is_shown() -> None:
    app = door(Things(), rates=ApiRates(tenant=25.0, principal=100.0, address=20.0))
    assert get(app, EDITOR).fields["ratelimit"].startswith('"tenant";r=24;')
    assert get(door(Things(), rates=SLOW), EDITOR).fields["ratelimit"].startswith('"caller";r=29;')
