"""Bounces that may pass are counted a person and for a while."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.ledger.auto_suppression import SoftBounceCounts, SoftBouncePolicy
from postroom.model.ids import Key
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock

ANN, BOB = Key(b"a" * 12), Key(b"b" * 12)
PATIENCE = SoftBouncePolicy(bounces=3, window_ms=10_000, hold_ms=5_000)


class Counter:
    """Counts, and a clock."""

    def __init__(self, root: Path, patience: SoftBouncePolicy = PATIENCE) -> None:
        self.control = open_control(root)
        self.clock = ManualClock()
        self.counts = SoftBounceCounts(SqliteTables(self.control, self.clock), patience, self.clock)

    def note(self, message: str, key: Key = ANN, tenant: str = "acme") -> Instant | None:
        return self.counts.record(tenant, key, message)


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    made = Counter(tmp_path)
    with closing(made.control):
        yield made


def test_the_third_within_the_window_is_too_many(counter: Counter) -> None:
    assert [counter.note(name) for name in "abc"] == [None, None, Instant(counter.clock.now() + 5_000)]
    assert counter.note("d") == Instant(counter.clock.now() + 5_000)


def test_a_message_that_bounces_again_counts_once(counter: Counter) -> None:
    assert [counter.note(name) for name in "aabb"] == [None] * 4


def test_old_ones_are_forgotten(counter: Counter) -> None:
    counter.note("a")
    counter.clock.advance(6)
    counter.note("b")
    counter.clock.advance(6)
    assert counter.note("c") is None
    assert counter.note("d") is not None


def test_people_and_tenants_are_told_apart(counter: Counter) -> None:
    counter.note("a")
    counter.note("b")
    assert counter.note("c", BOB) is None
    assert counter.note("c", tenant="other") is None


def test_switched_off_nobody_is_counted(tmp_path: Path) -> None:
    counter = Counter(tmp_path, SoftBouncePolicy(bounces=0))
    with closing(counter.control):
        assert [counter.note(str(number)) for number in range(20)] == [None] * 20


def test_of_messages_that_bounce_at_the_same_moment_none_is_forgotten(tmp_path: Path) -> None:
    counter = Counter(tmp_path, SoftBouncePolicy(bounces=8, window_ms=10_000, hold_ms=5_000))
    with closing(counter.control), ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(counter.note, "aabbccddeeffgghh"))
        assert [answer for answer in answers if answer is not None]
        assert counter.note("a") is not None
