"""Campaigns that ended longer ago than they are kept are deleted, of every tenant; others stay, however old."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import Conflict
from postroom.model.campaign import Campaign, CampaignState, Home
from postroom.services.campaigns import prefix
from postroom.services.retention import CampaignRetention
from tests.fakes.faults import Faults, Killed
from tests.unit.erasure_kit import House, house

DAY_S = 86_400


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made:
        yield made


def run(home: House, days: int = 30, *, stopped: bool = False) -> int:
    retention = CampaignRetention(home.tenants, home.stores.campaigns, home.campaigns)
    return retention.run(home.clock.now(), days=days, stopped=lambda: stopped)


def ended(home: House) -> Campaign:
    campaign = home.campaign()
    home.campaigns.cancel(campaign.home)
    return campaign


def there(home: House) -> list[str]:
    return [campaign.home.campaign for campaign in home.campaigns.list("default").campaigns]


def test_what_ended_long_ago_is_deleted_and_leaves_nothing(home: House) -> None:
    old = ended(home)
    home.clock.advance(31 * DAY_S)
    young = ended(home)
    assert run(home) == 1
    assert there(home) == [young.home.campaign]
    assert not home.objects.list(prefix(old.home)).objects
    assert home.stores.ledgers.homes() == [young.home]
    assert run(home) == 0


def test_the_days_count_from_its_end(home: House) -> None:
    campaign = home.campaign()
    home.clock.advance(31 * DAY_S)
    assert run(home) == 0
    home.campaigns.cancel(campaign.home)
    home.clock.advance(30 * DAY_S)
    assert run(home) == 0
    home.clock.advance(1)
    assert run(home) == 1


def test_what_has_not_ended_stays_however_old(home: House) -> None:
    ready, importing = home.campaign(), home.campaign(imported=False)
    paused = home.campaign(start=True)
    home.stores.campaigns.transition(paused, CampaignState.PAUSED)
    old = ended(home)
    home.clock.advance(1_000 * DAY_S)
    assert run(home) == 1
    assert set(there(home)) == {each.home.campaign for each in (ready, importing, paused)}
    assert old.home.campaign not in there(home)


def test_it_stops_when_it_is_told_to(home: House) -> None:
    ended(home)
    home.clock.advance(31 * DAY_S)
    assert run(home, stopped=True) == 0
    assert len(there(home)) == 1


def test_one_that_somebody_went_on_with_in_this_moment_is_left(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _second = ended(home), ended(home)
    home.clock.advance(31 * DAY_S)
    delete = home.campaigns.delete

    def busy(each: Home) -> None:
        if each == first.home:
            raise Conflict("it is sending")
        delete(each)

    monkeypatch.setattr(home.campaigns, "delete", busy)
    assert run(home) == 1
    assert there(home) == [first.home.campaign]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_the_next_run_finishes(tmp_path: Path, after: bool) -> None:
    at = 0
    while True:
        at += 1
        with house(tmp_path / str(at)) as home:
            old = ended(home)
            home.clock.advance(31 * DAY_S)
            faults = Faults(at, after=after)
            for port in ("_messages", "_objects", "_timers", "_workflows", "_journals"):
                setattr(home.campaigns, port, faults.wrap(getattr(home.campaigns, port)))
            try:
                run(home)
            except Killed:
                run(home)
                assert (there(home), home.stores.ledgers.homes()) == ([], [])
                assert not home.objects.list(prefix(old.home)).objects
            else:
                break
    assert at > 6
