"""An erasure that is killed between any two calls of a store, and repeated, leaves nothing behind and harms nobody."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from postroom.ledger.turns import TURN_MS
from postroom.model.message import ERASED
from postroom.services.campaigns import prefix
from tests.fakes.faults import Faults, Killed
from tests.unit.erasure_kit import BOB, house

_PARTS = 4


def _calls(root: Path) -> int:
    """How many an erasure takes."""
    faults = Faults()
    with house(root) as home:
        home.everywhere()
        home.erasure(faults).erase("default", home.anna)
    return len(faults.calls)


@pytest.mark.parametrize("part", range(_PARTS))
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_and_repeated_nothing_of_the_person_is_left(tmp_path: Path, after: bool, part: int) -> None:
    total = _calls(tmp_path / "counted")
    assert total > 40
    for at in range(1 + part, total + 1, _PARTS):
        with house(tmp_path / str(at)) as home:
            campaign = home.everywhere()
            report = home.objects.get(f"{prefix(campaign.home)}rejected.csv")
            with suppress(Killed):  # not at a call that ends with an error
                home.erasure(Faults(at, after=after)).erase("default", home.anna)
            home.clock.advance(TURN_MS / 1000 + 1)
            found = home.service.erase("default", home.anna)
            assert (found.complete, home.traces()) == (True, []), at
            assert home.message(campaign.home).address == ERASED
            assert home.message(campaign.home, home.service.key_of("default", BOB)).address == BOB
            kept = home.objects.get(f"{prefix(campaign.home)}rejected.csv")
            assert kept.splitlines() == [line for line in report.splitlines() if b"anna" not in line.lower()]
            assert not home.objects.list(f"{prefix(campaign.home)}export").objects
