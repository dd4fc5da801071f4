"""A campaign's batches, messages and files over HTTP."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.clock import Instant
from postroom.gateway.schemas.campaign_messages import CampaignMessageStatus
from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.message import MessageStatus
from postroom.model.tokens import message_id
from postroom.platform.ports.messages import ReportedEvent
from postroom.services.exports import COLUMNS
from tests.gateway.campaign_office import TENANT, Office, office
from tests.gateway.kit import problem

NOON = 1_893_499_200_000
"""On the first day of 2030."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as opened:
        yield opened


@pytest.fixture
def viewer(desk: Office) -> Iterator[TestClient]:
    with desk.client("viewer") as client:
        yield client


def campaign(desk: Office, upload: str = "uuuuuuuuuuuuuuuu", *, imported: bool = True) -> CampaignRef:
    with desk.client() as sender:
        answer = sender.post("/v1/campaigns", json=desk.order(upload_id=upload))
    ref = CampaignRef(TENANT, answer.json()["id"])
    if imported:
        desk.imported(ref)
    return ref


def many(desk: Office, people: int) -> CampaignRef:
    desk.put("vvvvvvvvvvvvvvvv", b"email,Vorname\n" + b"".join(b"p%d@a.example,P%d\n" % (n, n) for n in range(people)))
    return campaign(desk, "vvvvvvvvvvvvvvvv")


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_state_has_its_name() -> None:
    assert [state.label for state in MessageStatus] == sorted(
        (one.value for one in CampaignMessageStatus), key=lambda n: MessageStatus[n.upper()]
    )


def test_messages_are_listed_page_by_page_each_once(desk: Office, viewer: TestClient) -> None:
    ref = many(desk, 25)
    seen: list[str] = []
    cursor = ""
    while True:
        page = viewer.get(f"/v1/campaigns/{ref.campaign}/messages?limit=10{cursor}").json()
        seen += [one["address"] for one in page["items"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert sorted(seen) == sorted(f"p{n}@a.example" for n in range(25))


def test_messages_are_listed_by_state_with_their_reply(desk: Office, viewer: TestClient) -> None:
    ref = campaign(desk)
    path = f"/v1/campaigns/{ref.campaign}/messages"
    assert viewer.get(f"{path}?status=failed").json()["items"] == []
    desk.settle(ref, MessageStatus.FAILED, limit=1)
    (failed,) = viewer.get(f"{path}?status=failed").json()["items"]
    assert (failed["status"], failed["code"], failed["reply"], failed["attempts"]) == ("failed", 550, "=no", 1)
    assert len(viewer.get(f"{path}?status=failed&status=pending").json()["items"]) == 2
    problem(viewer.get(f"{path}?status=lost"), 422)


@pytest.mark.parametrize("cursor", ["nonsense", "0:zz", "-1:00", "9:9", "-99999999999999999:00", "1:" + "0" * 400])
def test_a_foreign_cursor_is_refused_or_the_end(desk: Office, viewer: TestClient, cursor: str) -> None:
    ref = campaign(desk)
    answer = viewer.get(f"/v1/campaigns/{ref.campaign}/messages", params={"cursor": cursor})
    assert answer.status_code in {200, 422}


def test_one_message_is_found_by_its_id_in_its_own_campaign_only(desk: Office, viewer: TestClient) -> None:
    ref, other = campaign(desk), campaign(desk, imported=False)
    (one, _) = viewer.get(f"/v1/campaigns/{ref.campaign}/messages").json()["items"]
    shown = viewer.get(f"/v1/campaigns/{ref.campaign}/messages/{one['id']}").json()
    assert shown == {**one, "events": shown["events"]}
    problem(viewer.get(f"/v1/campaigns/{other.campaign}/messages/{one['id']}"), 404)
    theirs = one["id"].replace(ref.campaign, other.campaign)
    problem(viewer.get(f"/v1/campaigns/{other.campaign}/messages/{theirs}"), 404)
    problem(viewer.get(f"/v1/campaigns/{ref.campaign}/messages/{ref.campaign}-{'2' * 20}"), 404)
    problem(viewer.get(f"/v1/campaigns/{ref.campaign}/messages/{ref.campaign}-{'z' * 20}"), 404)


def report(desk: Office, ref: CampaignRef, address: str, *events: Event) -> str:
    """Of the message to this address; its id."""
    (found,) = [each for each in desk.made.messages.list(ref).messages if each.address == address]
    desk.made.messages.record_events(
        ref, [ReportedEvent(found.batch, found.key, event) for event in events], desk.made.clock.now()
    )
    return message_id(ref, found.key)


def told(kind: EventKind, minutes: int, **more: Any) -> Event:
    return Event(kind=kind, attempt=1, at=Instant(NOON + 60_000 * minutes), id=f"{kind}{minutes}", source="dsn", **more)


def test_a_message_is_shown_with_all_that_happened_to_it(desk: Office, viewer: TestClient) -> None:
    ref = campaign(desk)
    desk.settle(ref, MessageStatus.SENT)
    bounced = told(
        EventKind.BOUNCED, 3, bounce=Bounce(BounceType.SOFT, BounceClass.QUOTA, "4.2.2"), detail="full", raw="4.2.2 full"
    )
    clicked = told(EventKind.CLICKED, 2, url="https://shop.example/", machine=True)
    id_ = report(desk, ref, "ann@a.example", bounced, clicked, told(EventKind.OPENED, 1))
    shown = viewer.get(f"/v1/campaigns/{ref.campaign}/messages/{id_}").json()
    assert (shown["status"], shown["reply"], shown["opened_at"]) == ("bounced", "4.2.2 full", "2030-01-01T12:01:00.000Z")
    assert (shown["clicked_at"], shown["unsubscribed_at"]) == (None, None)
    assert [event["kind"] for event in shown["events"]] == ["queued", "sent", "opened", "clicked", "bounced"]
    assert shown["events"][-1] == {
        "id": "bounced3",
        "kind": "bounced",
        "at": "2030-01-01T12:03:00.000Z",
        "attempt": 1,
        "source": "dsn",
        "bounce": {"type": "soft", "class": "quota", "code": "4.2.2"},
        "machine": False,
        "detail": "full",
        "url": None,
        "raw": "4.2.2 full",
    }
    assert (shown["events"][3]["url"], shown["events"][3]["machine"]) == ("https://shop.example/", True)


def test_what_came_back_is_listed_exported_and_counted_where_messages_stand(desk: Office, viewer: TestClient) -> None:
    ref = campaign(desk)
    desk.settle(ref, MessageStatus.SENT)
    report(desk, ref, "ann@a.example", told(EventKind.COMPLAINED, 1), told(EventKind.UNSUBSCRIBED, 2))
    path = f"/v1/campaigns/{ref.campaign}"
    assert [one["address"] for one in viewer.get(f"{path}/messages?status=complained").json()["items"]] == ["ann@a.example"]
    assert [one["address"] for one in viewer.get(f"{path}/messages?status=sent").json()["items"]] == ["bob@a.example"]
    (row,) = table(viewer.get(f"{path}/export.csv?status=complained").text)
    assert (row["opened_at"], row["unsubscribed_at"]) == ("", "2030-01-01T12:02:00.000Z")
    assert sum(batch["counts"]["complained"] for batch in viewer.get(f"{path}/batches").json()["items"]) == 1


def test_who_failed_and_was_bounced_since_is_not_tried_again(desk: Office, viewer: TestClient) -> None:
    """However the two come: what came back says that the attempt got through, or that the address is bad."""
    ref = campaign(desk)
    desk.settle(ref, MessageStatus.FAILED)
    desk.made.campaigns.transition(desk.made.campaigns.get(ref), CampaignStatus.PAUSED)
    report(desk, ref, "ann@a.example", told(EventKind.BOUNCED, 1))
    with desk.client("sender") as sender:
        assert sender.post(f"/v1/campaigns/{ref.campaign}/retry-failed").json() == {"messages": 1}
    desk.carry_out()
    report(desk, ref, "bob@a.example", told(EventKind.COMPLAINED, 1))
    now, batches = desk.made.clock.now(), desk.made.campaigns.get(ref).source.batches
    assert [one for number in range(batches) for one in desk.made.messages.load(ref, number, now, 100)] == []
    states = {one["address"]: one["status"] for one in viewer.get(f"/v1/campaigns/{ref.campaign}/messages").json()["items"]}
    assert states == {"ann@a.example": "bounced", "bob@a.example": "complained"}


def test_batches_are_listed_by_number(desk: Office, viewer: TestClient) -> None:
    ref = many(desk, 1_200)
    path = f"/v1/campaigns/{ref.campaign}/batches"
    first = viewer.get(f"{path}?limit=2").json()
    rest = viewer.get(f"{path}?limit=2&cursor={first['cursor']}").json()
    numbers = [batch["number"] for batch in (*first["items"], *rest["items"])]
    assert (numbers, rest["cursor"]) == ([0, 1, 2], None)
    assert sum(batch["counts"]["pending"] for batch in (*first["items"], *rest["items"])) == 1_200
    for cursor in ("x", "-1", "9" * 30, "٣"):
        problem(viewer.get(path, params={"cursor": cursor}), 422)


def test_before_the_import_there_is_nothing_to_see(desk: Office, viewer: TestClient) -> None:
    path = f"/v1/campaigns/{campaign(desk, imported=False).campaign}"
    assert viewer.get(f"{path}/batches").json() == viewer.get(f"{path}/messages").json() == {"items": [], "cursor": None}
    assert viewer.get(f"{path}/rejected.csv").text == "line,address,reason,detail\r\n"
    assert viewer.get(f"{path}/export.csv").text == ",".join((*COLUMNS, "city", "first_name")) + "\r\n"


def test_rejected_rows_come_as_a_file(desk: Office, viewer: TestClient) -> None:
    ref = campaign(desk)
    answer = viewer.get(f"/v1/campaigns/{ref.campaign}/rejected.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{ref.campaign}-rejected.csv"'
    assert [(row["line"], row["reason"]) for row in table(answer.text)] == [("4", "no_at"), ("5", "duplicate")]


def test_an_export_has_every_message_and_no_formula(desk: Office, viewer: TestClient) -> None:
    desk.put("vvvvvvvvvvvvvvvv", b"email,Vorname,city\n+49@a.example,=1+1,Rome\n" + b"p@a.example,Bob,\n")
    ref = campaign(desk, "vvvvvvvvvvvvvvvv")
    desk.settle(ref, MessageStatus.FAILED)
    rows = table(viewer.get(f"/v1/campaigns/{ref.campaign}/export.csv").text)
    assert {(row["address"], row["first_name"], row["city"], row["reply"]) for row in rows} == {
        ("'+49@a.example", "'=1+1", "Rome", "'=no"),
        ("p@a.example", "Bob", "", "'=no"),
    }
    assert table(viewer.get(f"/v1/campaigns/{ref.campaign}/export.csv?status=sent").text) == []


def test_a_large_export_is_whole(desk: Office, viewer: TestClient) -> None:
    ref = many(desk, 5_000)
    rows = table(viewer.get(f"/v1/campaigns/{ref.campaign}/export.csv").text)
    assert {row["address"] for row in rows} == {f"p{n}@a.example" for n in range(5_000)}
