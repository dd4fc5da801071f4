"""Rates that many functions share: all go on, nothing is granted twice; and answers that are lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.errors import Corrupt, Unavailable
from postroom.platform.aws._dynamo import Expression, PrimaryKey, Table
from postroom.platform.aws.rates import DynamoRates
from postroom.platform.ports.rates import HORIZON_MS, RateLimit
from tests.aws.faults import Interruption, LostAnswers
from tests.contract.aws_backend import AwsBackend
from tests.fakes.clock import START, ManualClock

B = "ses://us-east-1"
NOW = Instant(START)


def test_twenty_functions_use_up_a_day_to_the_last_send_and_each_gets_on(backend: AwsBackend) -> None:
    functions = [backend.rates() for _ in range(20)]
    functions[0].limit(B, RateLimit(per_day=1_000))
    start = threading.Barrier(len(functions))

    def draw(function: DynamoRates) -> int:
        start.wait(30)
        return sum(function.reserve(B, 11, NOW).count for _ in range(5))

    with ThreadPoolExecutor(len(functions)) as pool:
        drawn = list(pool.map(draw, functions))
    assert sum(drawn) == 1_000
    assert functions[0].used_up(B, Instant(NOW)) is not None
    functions[0].refund(B, 10, NOW)
    assert functions[1].reserve(B, 99, Instant(NOW + 10 * HORIZON_MS)).count == 10


def test_a_reservation_costs_one_write_of_one_unit(backend: AwsBackend) -> None:
    table = backend.table()
    rates = DynamoRates(table, backend.clock)
    rates.limit("x" * 200, RateLimit(per_second=100.123456789, per_day=1_000_000))
    rates.slow("x" * 200, 33.3, NOW)
    units: list[float] = []
    table._client.meta.events.register(
        "provide-client-params.dynamodb.PutItem", lambda params, **_: params | {"ReturnConsumedCapacity": "TOTAL"}
    )
    table._client.meta.events.register(
        "after-call.dynamodb.PutItem", lambda parsed, **_: units.append(parsed["ConsumedCapacity"]["CapacityUnits"])
    )
    for n in range(3):
        assert rates.reserve("x" * 200, 10, Instant(NOW + n * HORIZON_MS)).count == 10
    assert units == [1, 1, 1]


@pytest.fixture
def rates(backend: AwsBackend) -> tuple[DynamoRates, Any]:
    """Rates, and the client whose answers can be lost."""
    table = backend.table()
    return DynamoRates(table, ManualClock()), table._client


@pytest.mark.usefixtures("no_backoff")
def test_a_change_that_was_carried_out_unseen_is_ours(rates: tuple[DynamoRates, Any]) -> None:
    subject, client = rates
    subject.limit(B, RateLimit(per_day=10))
    lost = LostAnswers(client, "PutItem")
    assert subject.reserve(B, 4, NOW).count == 4
    assert subject.reserve(B, 3, NOW).count == 3
    subject.refund(B, 2, NOW)
    assert lost.lost == 3
    assert subject.reserve(B, 99, NOW).count == 5


@pytest.mark.usefixtures("no_backoff")
def test_a_grant_that_may_have_been_taken_is_taken_again_and_counted_twice(
    backend: AwsBackend, rates: tuple[DynamoRates, Any]
) -> None:
    """As a killed worker's: never too many leave."""
    subject, client = rates
    subject.limit(B, RateLimit(per_day=10))
    other = backend.rates()
    once = iter([1])
    LostAnswers(client, "PutItem", meanwhile=lambda: [other.reserve(B, n, NOW) for n in once])
    assert subject.reserve(B, 3, NOW).count == 3
    assert backend.rates().reserve(B, 99, NOW).count == 10 - 3 - 1 - 3


@pytest.mark.usefixtures("no_backoff")
def test_a_refund_that_may_have_been_made_is_not_made_again(backend: AwsBackend, rates: tuple[DynamoRates, Any]) -> None:
    subject, client = rates
    subject.limit(B, RateLimit(per_day=10))
    subject.reserve(B, 8, NOW)
    other = backend.rates()
    lost = LostAnswers(client, "PutItem", meanwhile=lambda: other.reserve(B, 1, NOW))
    subject.refund(B, 4, NOW)
    assert lost.lost == 1
    assert backend.rates().reserve(B, 99, NOW).count == 10 - (8 - 4 + 1)


def test_a_refusal_is_decided_anew_on_the_bucket_it_brings(backend: AwsBackend, rates: tuple[DynamoRates, Any]) -> None:
    subject, client = rates
    subject.limit(B, RateLimit(per_day=10))
    other = backend.rates()
    between = Interruption(client, 0, lambda: other.reserve(B, 9, NOW), "PutItem")
    assert subject.reserve(B, 5, NOW).count == 1
    assert between.happened


def test_a_bucket_that_others_keep_changing_is_unavailable(backend: AwsBackend) -> None:
    class Contended(Table):
        def put(self, item: Any, condition: str, terms: Expression) -> Any:
            other.reserve(B, 1, NOW)
            return super().put(item, condition, terms)

    other, clock, table = backend.rates(), ManualClock(), backend.table()
    contended = Contended(table._client, table.name, clock)
    with pytest.raises(Unavailable):
        DynamoRates(contended, clock).reserve(B, 1, NOW)
    contended.close()
    assert len(clock.slept) == 23
    assert sum(clock.slept) < 5


def test_a_bucket_that_cannot_be_read_is_corrupt(backend: AwsBackend) -> None:
    table = backend.table()
    terms = Expression()
    table.put({"pk": f"R#{B}", "sk": "rates", "data": '{"speed": 1}', "version": 1}, terms.equals("pk", None), terms)
    assert table.get(PrimaryKey(f"R#{B}", "rates")) is not None
    with pytest.raises(Corrupt):
        backend.rates().current(B, NOW)
