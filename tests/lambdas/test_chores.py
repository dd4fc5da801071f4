"""Keeping house by the minute: each chore in the minutes its interval divides, each failing alone, none begun too late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.entrypoints.lambdas import maintenance
from postroom.entrypoints.maintenance import MaintenanceJob, MaintenanceJobs
from postroom.errors import Unavailable
from postroom.ledger.rate_windows import RateRecorder
from postroom.model.campaign import Campaign, CampaignStatus, Import, Schedule
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.services.status import STILL_MS, StalledCampaigns
from postroom.wiring import Container
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.lambdas.kit import Context, installed

COUNTED: list[tuple[str, float]] = []


@pytest.fixture
def postroom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    COUNTED.clear()
    monkeypatch.setattr(maintenance, "count", lambda name, value=1: COUNTED.append((name, value)))
    with installed(tmp_path, monkeypatch, maintenance) as opened:
        yield opened


def campaign(postroom: Container, state: CampaignStatus, *, age_ms: int = 0, schedule: Schedule | None = None) -> Campaign:
    now, home = postroom.clock.now(), postroom.records.new_ref("default")
    postroom.messages.create(home, 1)
    postroom.messages.store(home, [MessageRow(0, Key(b"k" * 12), 2, "anna@example.net", None, "[]")], now)
    postroom.messages.recount(home)
    made = campaign_record(
        home,
        state,
        type(now)(now - age_ms),
        spec=campaign_spec(schedule=schedule),
        source=Import("upload", "people.csv", batches=1, rows=1),
        sending_since=type(now)(now - age_ms),
    )
    return postroom.records.create(made)


def test_a_call_starts_what_a_lost_note_would_have_started(postroom: Container) -> None:
    home = campaign(postroom, CampaignStatus.READY).ref
    postroom.records.change(postroom.records.get(home), start_when_ready=True)
    maintenance.run_jobs({"time": "2026-11-24T16:00:00Z", "source": "aws.events"}, Context())
    assert postroom.records.get(home).status is CampaignStatus.SENDING
    assert COUNTED == [("StuckCampaigns", 0)]


def test_what_is_done_less_often_is_done_in_its_own_minutes() -> None:
    done: list[str] = []
    every = {"guard": 5.0, "minute": 60.0, "uploads": 300.0, "campaigns": 3_600.0}
    kept = [MaintenanceJob(name, seconds, lambda name=name: done.append(name)) for name, seconds in every.items()]  # type: ignore[misc]
    for minute in range(120):
        maintenance.run_due_jobs(kept, minute, lambda: False)
    assert {name: done.count(name) for name in every} == {"guard": 120, "minute": 120, "uploads": 24, "campaigns": 2}


def test_a_chore_that_fails_holds_up_no_other_and_is_counted(postroom: Container) -> None:
    def fails() -> None:
        raise Unavailable("busy")

    done: list[int] = []
    maintenance.run_due_jobs([MaintenanceJob("a", 60, fails), MaintenanceJob("b", 60, lambda: done.append(1))], 1, lambda: False)
    assert done == [1]
    assert COUNTED == [("MaintenanceFailures", 1)]


def test_nothing_is_begun_when_the_time_is_nearly_over(postroom: Container) -> None:
    home = campaign(postroom, CampaignStatus.READY).ref
    postroom.records.change(postroom.records.get(home), start_when_ready=True)
    maintenance.run_jobs({"time": "2026-11-24T16:00:00Z"}, Context(left_ms=100))
    assert postroom.records.get(home).status is CampaignStatus.READY
    assert {name for name, _ in COUNTED} == {"MaintenanceFailures"}


def test_both_homes_do_the_same_chores_but_for_the_feed(postroom: Container) -> None:
    here = {job.name for job in MaintenanceJobs(postroom).jobs()}
    assert here == {"guard", "records", "feed", "seal", "uploads", "recount", "singles", "campaigns"}
    stores = postroom.stores

    class Elsewhere:
        machine = None

        def __getattr__(self, name: str) -> object:
            return getattr(stores, name)

    there = {job.name for job in MaintenanceJobs(postroom.but(stores=Elsewhere())).jobs()}
    assert here - there == {"feed"}


def stuck(postroom: Container, *, waits: str | None = None) -> dict[str, str]:
    found = StalledCampaigns(
        postroom.records,
        postroom.messages,
        postroom.stalled_campaigns._rate_windows,
        waiting_for=lambda _: waits,
        clock=postroom.clock,
    ).find()
    return {each.ref.campaign: each.why for each in found}


def test_a_campaign_that_sends_and_does_not_move_is_stuck(postroom: Container) -> None:
    still = campaign(postroom, CampaignStatus.SENDING, age_ms=STILL_MS + 1)
    campaign(postroom, CampaignStatus.SENDING)
    moving = campaign(postroom, CampaignStatus.SENDING, age_ms=STILL_MS + 1)
    tally = RateRecorder(postroom.tables, postroom.clock, keep_ms=3_600_000)
    tally.sent(moving.ref, "default", "example.net")
    tally.flush()
    idle = campaign(postroom, CampaignStatus.SENDING, age_ms=STILL_MS + 1)
    assert postroom.messages.open(idle.ref, 0, "w", postroom.clock.now(), lease_ms=60_000)  # somebody works on all that is due
    assert stuck(postroom).keys() == {still.ref.campaign}
    assert stuck(postroom, waits="today's recipients are used up") == {}


def test_one_whose_time_has_come_or_whose_import_does_not_end_is_stuck(postroom: Container) -> None:
    now = postroom.clock.now()
    late = campaign(postroom, CampaignStatus.SCHEDULED, schedule=Schedule(type(now)(now - 360_000), "UTC"))
    campaign(postroom, CampaignStatus.SCHEDULED, schedule=Schedule(type(now)(now + 360_000), "UTC"))
    long = campaign(postroom, CampaignStatus.IMPORTING, age_ms=61 * 60_000)
    campaign(postroom, CampaignStatus.IMPORTING)
    campaign(postroom, CampaignStatus.PAUSED, age_ms=10 * STILL_MS)
    assert stuck(postroom).keys() == {late.ref.campaign, long.ref.campaign}
