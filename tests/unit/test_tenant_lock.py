"""A turn is one's alone, for as long as it is kept, and nobody's two minutes after its holder died."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import Conflict
from postroom.ledger.tenants import TenantLock, tenant_lock
from postroom.platform.ports.tables import ItemKey
from tests.fakes.ledger import Bench, bench

KEY = ItemKey("default#turns", "work")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as opened:
        yield opened


def take(made: Bench) -> TenantLock:
    return TenantLock(made.tables, made.clock, KEY)


def test_a_second_must_wait_until_it_ends(made: Bench) -> None:
    with tenant_lock(made.tables, made.clock, tenant="default", work="work"), pytest.raises(Conflict):
        take(made)
    take(made)


def test_kept_it_lasts(made: Bench) -> None:
    first = take(made)
    for _ in range(10):
        made.clock.advance(60)
        first.keep()
    with pytest.raises(Conflict):
        take(made)
    first.release()
    take(made)


def test_of_one_who_died_it_runs_out_and_what_he_still_does_is_refused(made: Bench) -> None:
    dead = take(made)
    made.clock.advance(121)
    alive = take(made)
    with pytest.raises(Conflict):
        dead.keep()
    dead.release()
    alive.keep()
    with pytest.raises(Conflict):
        take(made)
