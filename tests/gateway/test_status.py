"""A campaign's status over HTTP: cheap for any number of callers, changed only when something changed, waited for without a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.errors import NotFound, Unavailable
from postroom.gateway.routes.campaign_status import ENDED_EVERY_S, EVERY_S, MAX_WAIT_S, StatusCache
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.model.event import Event, EventKind
from postroom.model.message import MessageStatus
from postroom.platform.ports.messages import ReportedEvent
from postroom.services.status import StatusReport, StatusService
from tests.gateway.campaign_office import TENANT, Office, office
from tests.gateway.kit import problem


class Counted(StatusService):
    """Counts readings; each takes until `gate` opens."""

    def __init__(self, desk: Office) -> None:
        super().__init__(desk.made.campaigns, desk.made.messages, desk.made.clock)
        self.made = desk.made
        self.takes = 0.0
        self.readings = self.checks = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def get(self, ref: CampaignRef) -> StatusReport:
        self.readings += 1
        assert self.gate.wait(10)
        self.made.clock.advance(self.takes)
        if self.fault is not None:
            raise self.fault
        return super().get(ref)

    def get_unless(self, ref: CampaignRef, version: int) -> StatusReport | None:
        self.checks += 1
        return super().get_unless(ref, version)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as opened:
        yield opened


@pytest.fixture
def status(desk: Office) -> Counted:
    counted = Counted(desk)
    desk.board = StatusCache(counted, desk.made.clock, pause=desk._pause)
    return counted


@pytest.fixture
def viewer(desk: Office, status: Counted) -> Iterator[TestClient]:
    with desk.client("viewer") as client:
        yield client


def report(desk: Office, ref: CampaignRef, *kinds: EventKind) -> None:
    """Each of another message."""
    found, now = desk.made.messages.list(ref).messages, desk.made.clock.now()
    events = [Event(kind=kind, attempt=1, at=now, id=kind.value, source="dsn") for kind in kinds]
    reports = [ReportedEvent(one.batch, one.key, event) for one, event in zip(found, events, strict=False)]
    desk.made.messages.record_events(ref, reports, now)


def path(ref: CampaignRef) -> str:
    return f"/v1/campaigns/{ref.campaign}/status"


def test_it_is_the_object_of_the_command_line_with_a_tag(desk: Office, status: Counted, viewer: TestClient) -> None:
    ref = desk.made.campaign().ref
    answer = viewer.get(path(ref))
    assert answer.json() == status.get(ref).as_dict()
    assert answer.headers["etag"].startswith('"')
    assert answer.headers["cache-control"] == "private, no-cache"
    assert viewer.get(path(ref), headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert viewer.get(path(ref), headers={"If-None-Match": '"other"'}).status_code == 200


def test_it_is_read_once_in_a_while_however_many_look(desk: Office, status: Counted, viewer: TestClient) -> None:
    ref = desk.made.campaign().ref
    for _ in range(20):
        viewer.get(path(ref))
    assert status.readings == 1
    desk.made.clock.advance(EVERY_S)
    viewer.get(path(ref))
    assert status.readings == 2


def test_a_reading_that_takes_long_is_not_taken_all_the_time(desk: Office, status: Counted, viewer: TestClient) -> None:
    """Into a large campaign events may pour so fast that each reading counts all of it."""
    ref = desk.made.campaign().ref
    status.takes = 2.0
    viewer.get(path(ref))
    for _ in range(25):
        desk.made.clock.advance(EVERY_S)
        viewer.get(path(ref))
    assert status.readings == 2


def test_what_changed_shows_within_the_time_it_is_kept(desk: Office, status: Counted, viewer: TestClient) -> None:
    campaign = desk.made.campaign()
    before = viewer.get(path(campaign.ref))
    desk.made.campaigns.transition(campaign, CampaignStatus.PAUSED)
    desk.made.clock.advance(EVERY_S)
    after = viewer.get(path(campaign.ref), headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["status"]) == (200, "paused")


def test_what_is_changed_through_this_door_shows_at_once(desk: Office) -> None:
    ref = desk.made.campaign().ref
    with desk.client() as sender:
        assert sender.get(path(ref)).json()["status"] == "sending"
        sender.post(f"/v1/campaigns/{ref.campaign}/pause")
        assert sender.get(path(ref)).json()["status"] == "paused"


def test_of_an_ended_campaign_only_the_record_is_looked_at(desk: Office, status: Counted, viewer: TestClient) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)
    viewer.get(path(campaign.ref))
    for _ in range(5):
        desk.made.clock.advance(EVERY_S)
        viewer.get(path(campaign.ref))
    assert (status.readings, status.checks) == (1, 5)
    desk.made.campaigns.transition(campaign, CampaignStatus.SENDING)
    desk.made.clock.advance(EVERY_S)
    assert viewer.get(path(campaign.ref)).json()["status"] == "sending"


def test_counts_of_an_ended_campaign_are_taken_again_after_a_while(desk: Office, status: Counted, viewer: TestClient) -> None:
    campaign = desk.made.campaign(CampaignStatus.COMPLETED)
    viewer.get(path(campaign.ref))
    desk.settle(campaign.ref, MessageStatus.SENT)
    desk.made.clock.advance(ENDED_EVERY_S)
    assert viewer.get(path(campaign.ref)).json()["counts"]["sent"] == 10


def test_what_comes_back_changes_the_status_of_a_campaign_that_is_completed_and_leaves_it_so(
    desk: Office, status: Counted, viewer: TestClient
) -> None:
    campaign = desk.made.campaign()
    desk.settle(campaign.ref, MessageStatus.SENT)
    desk.made.campaigns.transition(campaign, CampaignStatus.COMPLETED)
    before = viewer.get(path(campaign.ref))
    report(desk, campaign.ref, EventKind.BOUNCED, EventKind.DELIVERED, EventKind.OPENED)
    desk.made.clock.advance(ENDED_EVERY_S)
    after = viewer.get(path(campaign.ref), headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["status"]) == (200, "completed")
    assert {name: n for name, n in after.json()["counts"].items() if n} == {
        "rows": 10,
        "accepted": 10,
        "sent": 8,
        "delivered": 1,
        "bounced": 1,
    }
    assert after.json()["engagement"] == {"opened": 1, "clicked": 0, "unsubscribed": 0}


def test_while_nothing_changes_the_tag_stays(desk: Office, status: Counted, viewer: TestClient) -> None:
    for state in (CampaignStatus.PAUSED, CampaignStatus.COMPLETED, CampaignStatus.READY):
        ref = desk.made.campaign(state).ref
        tag = viewer.get(path(ref)).headers["etag"]
        for _ in range(5):
            desk.made.clock.advance(1_000)
            assert viewer.get(path(ref)).headers["etag"] == tag, state


def test_waiting_ends_with_a_change(desk: Office, status: Counted, viewer: TestClient) -> None:
    campaign = desk.made.campaign()
    tag = viewer.get(path(campaign.ref)).headers["etag"]
    began = desk.made.clock.monotonic()

    async def change(seconds: float) -> None:
        desk.made.clock.advance(seconds)
        if desk.made.clock.monotonic() > began + 5 and desk.made.campaigns.get(campaign.ref).status is CampaignStatus.SENDING:
            desk.made.campaigns.transition(campaign, CampaignStatus.PAUSED)

    desk.board._pause = change
    answer = viewer.get(f"{path(campaign.ref)}?wait=20", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["status"]) == (200, "paused")
    assert 5 <= desk.made.clock.monotonic() - began < 6


@pytest.mark.parametrize("kind", [EventKind.DELIVERED, EventKind.COMPLAINED, EventKind.CLICKED, EventKind.UNSUBSCRIBED])
def test_waiting_ends_with_what_comes_back(desk: Office, status: Counted, viewer: TestClient, kind: EventKind) -> None:
    ref = desk.made.campaign(CampaignStatus.PAUSED).ref
    tag = viewer.get(path(ref)).headers["etag"]
    began = desk.made.clock.monotonic()

    async def tell(seconds: float) -> None:
        desk.made.clock.advance(seconds)
        if desk.made.clock.monotonic() > began + 5:
            report(desk, ref, kind)

    desk.board._pause = tell
    assert viewer.get(f"{path(ref)}?wait=20", headers={"If-None-Match": tag}).status_code == 200
    assert 5 <= desk.made.clock.monotonic() - began < 6


@pytest.mark.parametrize(("known", "code"), [(True, 304), (False, 200)])
def test_waiting_ends_with_its_time(desk: Office, status: Counted, viewer: TestClient, known: bool, code: int) -> None:
    ref = desk.made.campaign(CampaignStatus.PAUSED).ref
    tag = viewer.get(path(ref)).headers["etag"]
    began = desk.made.clock.monotonic()
    answer = viewer.get(f"{path(ref)}?wait=7", headers={"If-None-Match": tag} if known else {})
    assert (answer.status_code, answer.headers["etag"]) == (code, tag)
    assert desk.made.clock.monotonic() - began == pytest.approx(7)


def test_who_does_not_know_the_status_does_not_wait(desk: Office, status: Counted, viewer: TestClient) -> None:
    ref = desk.made.campaign(CampaignStatus.PAUSED).ref
    began = desk.made.clock.monotonic()
    assert viewer.get(f"{path(ref)}?wait=20", headers={"If-None-Match": '"old"'}).status_code == 200
    assert desk.made.clock.monotonic() == began


def test_nobody_waits_behind_a_door_that_closes(desk: Office, status: Counted, viewer: TestClient) -> None:
    ref = desk.made.campaign(CampaignStatus.PAUSED).ref
    tag = viewer.get(path(ref)).headers["etag"]
    began = desk.made.clock.monotonic()

    async def close(seconds: float) -> None:
        desk.made.clock.advance(seconds)
        desk.board.close()

    desk.board._pause = close
    assert viewer.get(f"{path(ref)}?wait=20", headers={"If-None-Match": tag}).status_code == 304
    assert desk.made.clock.monotonic() - began == pytest.approx(EVERY_S)


@pytest.mark.parametrize("wait", ["-1", str(MAX_WAIT_S + 1), "long", "1.5"])
def test_a_wait_is_bounded(desk: Office, viewer: TestClient, wait: str) -> None:
    problem(viewer.get(f"{path(desk.made.campaign().ref)}?wait={wait}"), 422)


def test_a_thousand_who_look_at_once_wait_for_one_reading(desk: Office, status: Counted) -> None:
    ref = desk.made.campaign().ref

    async def all_look() -> list[Any]:
        status.gate.clear()
        looks = [asyncio.ensure_future(desk.board.look(ref)) for _ in range(1_000)]
        await asyncio.sleep(0)
        looks[0].cancel()  # whoever began the reading goes away
        status.gate.set()
        return await asyncio.gather(*looks, return_exceptions=True)

    cancelled, *answers = asyncio.run(all_look())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert (status.readings, len(set(answers))) == (1, 1)


def test_a_change_during_a_reading_is_not_hidden_by_it(desk: Office, status: Counted) -> None:
    campaign = desk.made.campaign()

    async def race() -> tuple[bytes, bytes]:
        early = asyncio.ensure_future(desk.board.look(campaign.ref))
        await asyncio.sleep(0)
        desk.board.forget(campaign.ref)
        first = (await early).body
        desk.made.campaigns.transition(campaign, CampaignStatus.PAUSED)
        return first, (await desk.board.look(campaign.ref)).body

    first, second = asyncio.run(race())
    assert b'"sending"' in first
    assert b'"status":"paused"' in second


def test_what_nobody_has_and_what_cannot_be_read_is_not_remembered(desk: Office, status: Counted, viewer: TestClient) -> None:
    problem(viewer.get(path(CampaignRef(TENANT, "a" * 16))), 404)
    ref = desk.made.campaign().ref
    status.fault = Unavailable("busy")
    problem(viewer.get(path(ref)), 503)
    status.fault = None
    assert viewer.get(path(ref)).status_code == 200
    with pytest.raises(NotFound):
        asyncio.run(desk.board.look(CampaignRef("other", ref.campaign)))


def test_the_rate_of_late_is_told_to_who_watches(desk: Office, status: Counted, viewer: TestClient) -> None:
    ref = desk.made.campaign(people=20).ref
    assert viewer.get(path(ref)).json()["recent_messages_per_second"] is None
    desk.settle(ref, MessageStatus.SENT, limit=4)
    desk.made.clock.advance(2)
    shown = viewer.get(path(ref)).json()
    assert shown["recent_messages_per_second"] == pytest.approx(4)  # two batches, four of each
    assert shown["messages_per_second"] == pytest.approx(4, rel=0.2)
    desk.made.clock.advance(9)
    assert viewer.get(path(ref)).json()["recent_messages_per_second"] == pytest.approx(4)
    desk.made.clock.advance(1)
    assert viewer.get(path(ref)).json()["recent_messages_per_second"] == 0
