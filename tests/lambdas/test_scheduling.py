"""A note does what the record asks, and comes again only where that may help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.entrypoints.lambdas import maintenance
from postroom.errors import Unavailable
from postroom.ledger import scheduler_messages
from postroom.model.campaign import Campaign, CampaignStatus, Import, Schedule
from postroom.wiring import Container
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.lambdas.kit import Context, from_queue, installed, returned


@pytest.fixture
def postroom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    with installed(tmp_path, monkeypatch, maintenance) as opened:
        yield opened


def scheduled(postroom: Container) -> Campaign:
    """A campaign whose time has come."""
    now, home = postroom.clock.now(), postroom.records.new_ref("default")
    postroom.messages.create(home, 1)
    source, spec = Import("upload", "people.csv", batches=1), campaign_spec(schedule=Schedule(now, "UTC"))
    made = campaign_record(home, CampaignStatus.SCHEDULED, now, spec=spec, source=source)
    return postroom.records.create(made)


def test_a_schedule_whose_time_has_come_starts_its_campaign_whatever_stands_beside_it(postroom: Container) -> None:
    campaign = scheduled(postroom)
    assert campaign.spec.schedule is not None
    due = scheduler_messages.timer_body(campaign.ref, campaign.spec.schedule.at)
    batch = from_queue(
        "scheduler",
        "nonsense",
        scheduler_messages.timer_body(postroom.records.new_ref("default"), campaign.spec.schedule.at),
        due,
        due,
    )
    assert returned(maintenance.schedule(batch, Context())) == []
    assert postroom.records.get(campaign.ref).status is CampaignStatus.SENDING


def test_a_note_that_meets_a_store_that_does_not_answer_comes_again(postroom: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = scheduled(postroom), scheduled(postroom)
    assert one.spec.schedule is not None
    assert other.spec.schedule is not None
    handle = postroom.scheduler.handle

    def fails(body: str) -> None:
        if one.ref.campaign in body:
            raise Unavailable("busy")
        handle(body)

    monkeypatch.setattr(postroom.scheduler, "handle", fails)
    batch = from_queue(
        "scheduler",
        scheduler_messages.timer_body(one.ref, one.spec.schedule.at),
        scheduler_messages.timer_body(other.ref, other.spec.schedule.at),
    )
    assert returned(maintenance.schedule(batch, Context())) == ["0"]
    assert postroom.records.get(other.ref).status is CampaignStatus.SENDING
