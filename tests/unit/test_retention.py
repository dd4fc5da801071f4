"""Campaigns that ended longer ago than they are kept are deleted, of every tenant; others stay, however old."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import Conflict
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.services.campaign_creation import prefix
from postroom.services.retention import CampaignRetention
from tests.fakes.faults import Faults, Killed
from tests.unit.erasure_kit import House, house

DAY_S = 86_400


@pytest.fixture
def ref(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made:
        yield made


def run(ref: House, days: int = 30, *, stopped: bool = False) -> int:
    retention = CampaignRetention(ref.tenants, ref.stores.campaigns, ref.campaigns)
    return retention.run(ref.clock.now(), days=days, stopped=lambda: stopped)


def ended(ref: House) -> Campaign:
    campaign = ref.campaign()
    ref.campaigns.cancel(campaign.ref)
    return campaign


def there(ref: House) -> list[str]:
    return [campaign.ref.campaign for campaign in ref.campaigns.list("default").items]


def test_what_ended_long_ago_is_deleted_and_leaves_nothing(ref: House) -> None:
    old = ended(ref)
    ref.clock.advance(31 * DAY_S)
    young = ended(ref)
    assert run(ref) == 1
    assert there(ref) == [young.ref.campaign]
    assert not ref.objects.list(prefix(old.ref)).objects
    assert ref.stores.ledgers.refs() == [young.ref]
    assert run(ref) == 0


def test_the_days_count_from_its_end(ref: House) -> None:
    campaign = ref.campaign()
    ref.clock.advance(31 * DAY_S)
    assert run(ref) == 0
    ref.campaigns.cancel(campaign.ref)
    ref.clock.advance(30 * DAY_S)
    assert run(ref) == 0
    ref.clock.advance(1)
    assert run(ref) == 1


def test_what_has_not_ended_stays_however_old(ref: House) -> None:
    ready, importing = ref.campaign(), ref.campaign(imported=False)
    paused = ref.campaign(start=True)
    ref.stores.campaigns.transition(paused, CampaignStatus.PAUSED)
    old = ended(ref)
    ref.clock.advance(1_000 * DAY_S)
    assert run(ref) == 1
    assert set(there(ref)) == {each.ref.campaign for each in (ready, importing, paused)}
    assert old.ref.campaign not in there(ref)


def test_it_stops_when_it_is_told_to(ref: House) -> None:
    ended(ref)
    ref.clock.advance(31 * DAY_S)
    assert run(ref, stopped=True) == 0
    assert len(there(ref)) == 1


def test_one_that_somebody_went_on_with_in_this_moment_is_left(ref: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _second = ended(ref), ended(ref)
    ref.clock.advance(31 * DAY_S)
    delete = ref.campaigns.delete

    def busy(each: CampaignRef) -> None:
        if each == first.ref:
            raise Conflict("it is sending")
        delete(each)

    monkeypatch.setattr(ref.campaigns, "delete", busy)
    assert run(ref) == 1
    assert there(ref) == [first.ref.campaign]


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_call_the_next_run_finishes(tmp_path: Path, after: bool) -> None:
    at = 0
    while True:
        at += 1
        with house(tmp_path / str(at)) as ref:
            old = ended(ref)
            ref.clock.advance(31 * DAY_S)
            faults = Faults(at, after=after)
            for port in ("_messages", "_objects", "_timers", "_workflows", "_journals"):
                setattr(ref.campaigns, port, faults.wrap(getattr(ref.campaigns, port)))
            try:
                run(ref)
            except Killed:
                run(ref)
                assert (there(ref), ref.stores.ledgers.refs()) == ([], [])
                assert not ref.objects.list(prefix(old.ref)).objects
            else:
                break
    assert at > 6
