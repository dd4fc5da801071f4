"""When messages may leave: never faster than the slowest bucket, and in groups that are seen to move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Instant, SystemClock
from postroom.model.batch import GROUP_SIZE
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Recipient
from postroom.pipeline.sender.rate_gate import RateGate
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.ports.rates import RateLimit, Reservation
from tests.fakes.mailer import ScriptedMailer

GROUP = [Recipient(Key(n.to_bytes(12, "big")), n, f"p{n}@x.example", None, "[]", MessageStatus.PENDING, 0) for n in range(100)]


@pytest.fixture
def rates(tmp_path: Path) -> Iterator[SqliteRates]:
    made = SqliteRates(tmp_path / "rates.db")
    yield made
    made.close()


def _gate(rates: SqliteRates, *buckets: str) -> RateGate:
    return RateGate(rates, buckets, ThreadBridge(), SystemClock(), ScriptedMailer())


async def _release(rate_gate: RateGate, stopping: asyncio.Event, *, stop_after: int | None = None) -> list[float]:
    """When each message left, in seconds."""
    began, left = time.monotonic(), list[float]()
    async for part in rate_gate.release(GROUP, stopping):
        left += [time.monotonic() - began] * len(part)
        if stop_after is not None and len(left) >= stop_after:
            stopping.set()
    return left


def test_without_a_limit_a_group_leaves_at_once(rates: SqliteRates) -> None:
    async def run() -> list[float]:
        return await _release(_gate(rates, "provider", "campaign"), asyncio.Event())

    left = asyncio.run(run())
    assert len(left) == len(GROUP)
    assert left[-1] - left[0] == 0


def test_the_slowest_bucket_rules_and_messages_are_spread_evenly(rates: SqliteRates) -> None:
    rates.limit("provider", RateLimit(per_second=10_000))
    rates.limit("campaign", RateLimit(per_second=200))

    async def run() -> list[float]:
        return await _release(_gate(rates, "provider", "campaign"), asyncio.Event())

    left = asyncio.run(run())
    assert len(left) == len(GROUP)
    for n, moment in enumerate(left):
        assert moment >= n / 200 - 0.12, "the bucket keeps a tenth of a second of unused time"


def test_stopping_ends_the_release_and_gives_the_rest_back(rates: SqliteRates) -> None:
    rates.limit("campaign", RateLimit(per_second=100, per_day=1_000))

    async def run() -> list[float]:
        return await _release(_gate(rates, "campaign"), asyncio.Event(), stop_after=20)

    left = asyncio.run(run())
    assert 20 <= len(left) < len(GROUP)
    now = SystemClock().now()
    rates.limit("campaign", RateLimit(per_day=1_000))
    rest = 0
    while granted := rates.reserve("campaign", 1_000, now).count:
        rest += granted
    assert rest == 1_000 - len(left)


@pytest.mark.parametrize(
    ("per_second", "size"), [(None, GROUP_SIZE), (0.1, 1), (2, 1), (50, 25), (200, 100), (100_000, GROUP_SIZE)]
)
def test_a_slow_campaign_opens_small_groups(rates: SqliteRates, per_second: float | None, size: int) -> None:
    rates.limit("campaign", RateLimit(per_second=per_second))
    assert asyncio.run(_gate(rates, "provider", "campaign").group_size()) == size


def test_where_each_write_is_paid_for_a_slow_campaign_makes_few_of_them(rates: SqliteRates) -> None:
    rates.limit("campaign", RateLimit(per_second=50))
    grants: list[int] = []
    reserve = rates.reserve

    def counted(bucket: str, want: int, now: Instant) -> Reservation:
        grants.append(want)
        return reserve(bucket, want, now)

    rates.reserve = counted  # type: ignore[method-assign]

    async def run() -> int:
        rate_gate = RateGate(rates, ["campaign"], ThreadBridge(), SystemClock(), ScriptedMailer(), moment_s=4)
        stopping = asyncio.Event()
        await _release(rate_gate, stopping, stop_after=1)
        return await rate_gate.group_size()

    assert asyncio.run(run()) == GROUP_SIZE, "of four seconds, but no larger than any"
    assert grants == [64], "of two seconds, but no larger than any"
