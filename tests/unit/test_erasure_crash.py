"""An erasure that is killed between any two calls of a store, and repeated, leaves nothing behind and harms nobody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from postroom.ledger.tenants import LOCK_MS
from postroom.model.message import ERASED
from postroom.services.campaign_creation import prefix
from tests.fakes.faults import Faults, Killed
from tests.unit.erasure_kit import BOB, House, house

LONG_S = LOCK_MS / 1000 + 1


@contextmanager
def copied(original: Path, to: Path) -> Iterator[House]:
    """The same installation once more, a while later."""
    shutil.copytree(original, to)
    with house(to) as home:
        home.clock.advance(LONG_S)
        yield home
    shutil.rmtree(to)


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_and_repeated_nothing_of_the_person_is_left(tmp_path: Path, after: bool) -> None:
    original = tmp_path / "original"
    with house(original) as home:
        campaign = home.everywhere()
        report = home.objects.get(f"{prefix(campaign.ref)}rejected.csv")
    counted = Faults()
    with copied(original, tmp_path / "counted") as home:
        home.erasure(counted).erase("default", home.anna)
    assert len(counted.calls) > 40
    for at in range(1, len(counted.calls) + 1):
        with copied(original, tmp_path / str(at)) as home:
            with suppress(Killed):  # not at a call that ends with an error
                home.erasure(Faults(at, after=after)).erase("default", home.anna)
            home.clock.advance(LONG_S)
            found = home.service.erase("default", home.anna)
            assert (found.complete, home.traces()) == (True, []), at
            assert home.message(campaign.ref).address == ERASED
            assert home.message(campaign.ref, home.service.key_of("default", BOB)).address == BOB
            kept = home.objects.get(f"{prefix(campaign.ref)}rejected.csv")
            assert kept.splitlines() == [line for line in report.splitlines() if b"anna" not in line.lower()]
            assert not home.objects.list(f"{prefix(campaign.ref)}export").objects
