"""Campaigns over HTTP: ordered, looked at, edited, operated; another tenant's are nobody's."""

from __future__ import annotations

import quopri
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.schemas.campaigns import NewCampaign
from postroom.model.campaign import CampaignRef, CampaignStatus, Policies
from postroom.model.message import MessageStatus
from postroom.model.template import TemplateContent
from postroom.model.upload import UploadKind
from tests.gateway.campaign_office import TEMPLATE, TENANT, Office, office
from tests.gateway.kit import problem


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as opened:
        yield opened


@pytest.fixture
def sender(desk: Office) -> Iterator[TestClient]:
    with desk.client() as client:
        yield client


def made(client: TestClient, desk: Office, **fields: object) -> CampaignRef:
    answer = client.post("/v1/campaigns", json=desk.order(**fields))
    assert answer.status_code == 201, answer.text
    return CampaignRef(TENANT, answer.json()["id"])


def test_a_campaign_is_made_and_imported_from_a_stored_template_and_upload(sender: TestClient, desk: Office) -> None:
    answer = sender.post("/v1/campaigns", json=desk.order(topic="news", rate=3))
    shown = answer.json()
    assert answer.headers["location"] == f"/v1/campaigns/{shown['id']}"
    assert (shown["status"], shown["template_version"], shown["rate"]) == ("importing", 1, 3)
    assert (shown["from"], shown["subject"], shown["columns"]) == (
        "News <news@example.com>",
        "Hi {{ first_name }}",
        {"first_name": "Vorname"},
    )
    assert shown["created_by"] == "sender@default.example"
    campaign = desk.imported(CampaignRef(TENANT, shown["id"]))
    assert campaign.status is CampaignStatus.SENDING
    assert sender.get(f"/v1/campaigns/{shown['id']}").json()["import"] == {
        "filename": "people.csv",
        "rows": 4,
        "accepted": 2,
        "invalid": 1,
        "duplicate": 1,
        "suppressed": 0,
    }


def test_a_variable_is_fed_from_the_column_that_was_named(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.imported(ref)
    messages = sender.get(f"/v1/campaigns/{ref.campaign}/messages").json()["items"]
    assert {(one["address"], one["values"]["first_name"]) for one in messages} == {
        ("ann@a.example", "Ann"),
        ("bob@a.example", "Bob"),
    }


def test_the_recipients_are_those_that_were_there_when_it_was_made(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.put("uuuuuuuuuuuuuuuu", b"email,Vorname\neve@a.example,Eve\n")
    desk.imported(ref)
    messages = sender.get(f"/v1/campaigns/{ref.campaign}/messages").json()["items"]
    assert {one["address"] for one in messages} == {"ann@a.example", "bob@a.example"}


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"columns": {"first_name": "Vornahme"}}, 422, "no column 'Vornahme' for the variable 'first_name'"),
        ({"columns": {"email": "Adresse"}}, 422, "no column 'Adresse'"),
        ({"template_id": "oooooooooooooooo"}, 404, "template_id: there is no template"),
        ({"template_version": 2}, 404, "template_id"),
        ({"upload_id": "oooooooooooooooo"}, 404, "upload_id: there is no upload"),
        ({"attachments": [{"upload_id": "uuuuuuuuuuuuuuuu"}]}, 422, "kind recipients"),
        ({"from": "news@elsewhere.example"}, 403, "no sender of yours"),
        ({"provider": "other"}, 404, "provider: there is no provider"),
        ({"schedule": {"at": "yesterday"}}, 422, "schedule.at yesterday"),
        ({"schedule": {"at": "2026-12-01T09:00", "timezone": "America"}}, 422, "no IANA time zone"),
        ({"subject": "{{ first_name"}, 422, "subject"),
        ({"topic": "ü" * 60}, 422, "topic"),
    ],
)
def test_an_order_that_cannot_be_carried_out_makes_nothing(
    sender: TestClient, desk: Office, fields: dict[str, object], status: int, says: str
) -> None:
    stored = len(desk.objects.list().objects)
    assert says in problem(sender.post("/v1/campaigns", json=desk.order(**fields)), status)
    assert sender.get("/v1/campaigns").json() == {"items": [], "cursor": None}
    assert len(desk.objects.list().objects) == stored


@pytest.mark.parametrize(
    "fields",
    [
        {"nonsense": 1},
        {"rate": 0},
        {"rate": "fast"},
        {"callback_url": "http://example.com/"},
        {"callback_url": "https://user:secret@example.com/"},
        {"name": ""},
        {"variables": {"": "x"}},
        {"attachments": [{"upload_id": "u", "content_id": "a>b"}]},
    ],
)
def test_what_the_description_does_not_allow_is_refused(sender: TestClient, desk: Office, fields: dict[str, object]) -> None:
    problem(sender.post("/v1/campaigns", json=desk.order(**fields)), 422)


def test_an_asset_becomes_an_attachment_of_the_campaigns_own(sender: TestClient, desk: Office) -> None:
    desk.put("aaaaaaaaaaaaaaaa", b"%PDF-", UploadKind.ASSET)
    ref = made(sender, desk, attachments=[{"upload_id": "aaaaaaaaaaaaaaaa", "filename": "terms.pdf"}])
    (attachment,) = desk.made.campaigns.get(ref).files.attachments
    assert (attachment.filename, desk.objects.get(attachment.object_key)) == ("terms.pdf", b"%PDF-")


def test_attachments_are_bounded_together(sender: TestClient, desk: Office) -> None:
    desk.put("aaaaaaaaaaaaaaaa", b"x" * 6_000_000, UploadKind.ASSET)
    answer = sender.post("/v1/campaigns", json=desk.order(attachments=[{"upload_id": "aaaaaaaaaaaaaaaa"}] * 2))
    assert "12,000,000 bytes" in problem(answer, 413)


def test_an_editor_makes_drafts_and_only_a_sender_sends(desk: Office) -> None:
    with desk.client("editor") as editor, desk.client("viewer") as viewer:
        assert "role sender" in problem(editor.post("/v1/campaigns", json=desk.order()), 403)
        problem(viewer.post("/v1/campaigns", json=desk.order(start=False)), 403)
        ref = made(editor, desk, start=False)
        assert viewer.get(f"/v1/campaigns/{ref.campaign}").json()["start"] is False
        problem(editor.post(f"/v1/campaigns/{ref.campaign}/start"), 403)
        assert editor.patch(f"/v1/campaigns/{ref.campaign}", json={"name": "Spring"}).json()["name"] == "Spring"


def test_a_draft_waits_until_it_is_started_and_starting_again_is_harmless(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk, start=False)
    assert desk.imported(ref).status is CampaignStatus.READY
    for _ in range(2):
        assert sender.post(f"/v1/campaigns/{ref.campaign}/start").status_code == 200
    assert desk.scheduled(ref).status is CampaignStatus.SENDING
    assert sender.post(f"/v1/campaigns/{ref.campaign}/start").json()["status"] == "sending"


def test_verbs_may_be_repeated_and_say_why_they_cannot(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    path = f"/v1/campaigns/{ref.campaign}"
    assert "is importing" in problem(sender.post(f"{path}/pause"), 409)
    desk.imported(ref)
    for verb, state in [("pause", "paused"), ("pause", "paused"), ("resume", "sending"), ("resume", "sending")]:
        assert sender.post(f"{path}/{verb}").json()["status"] == state
    assert sender.post(f"{path}/pause").json()["reason"] == "paused by sender@default.example"
    assert "resume it" in problem(sender.post(f"{path}/start"), 409)
    assert "cancel it before" in problem(sender.delete(path), 409)
    for _ in range(2):
        assert sender.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert "is cancelled" in problem(sender.post(f"{path}/resume"), 409)
    assert sender.delete(path).status_code == 204
    problem(sender.get(path), 404)


def test_cancelling_ends_sending_at_once_and_the_workers_skip_who_waits(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.imported(ref)
    assert sender.post(f"/v1/campaigns/{ref.campaign}/cancel").json()["status"] == "cancelled"
    assert desk.made.messages.counts(ref).waiting == 2
    assert desk.carry_out() == 1
    assert desk.made.messages.counts(ref).skipped == 2


def test_who_failed_is_tried_again_by_the_workers(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.imported(ref)
    path = f"/v1/campaigns/{ref.campaign}/retry-failed"
    assert "pause it first" in problem(sender.post(path), 409)
    desk.settle(ref, MessageStatus.FAILED)
    desk.made.finish.complete(ref)
    for _ in range(2):
        assert sender.post(path).json() == {"messages": 2}
    assert desk.carry_out() == 1
    assert desk.made.campaigns.get(ref).status is CampaignStatus.SENDING
    assert desk.made.messages.counts(ref).pending == 2


def test_what_is_unknown_is_settled_once_and_one_way(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.imported(ref)
    desk.settle(ref, MessageStatus.UNKNOWN)
    desk.made.finish.complete(ref)
    path = f"/v1/campaigns/{ref.campaign}/settle"
    assert sender.post(path, json={"decision": "sent"}).json() == {"messages": 2}
    assert "settled otherwise" in problem(sender.post(path, json={"decision": "failed"}), 409)
    problem(sender.post(path, json={"decision": "perhaps"}), 422)
    desk.carry_out()
    assert desk.made.messages.counts(ref).sent == 2


def test_a_campaign_cancelled_while_it_is_retried_ends_with_nobody_waiting(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.imported(ref)
    sender.post(f"/v1/campaigns/{ref.campaign}/pause")
    desk.settle(ref, MessageStatus.FAILED, limit=1)
    sender.post(f"/v1/campaigns/{ref.campaign}/retry-failed")
    desk.made.campaigns.transition(desk.made.campaigns.get(ref), CampaignStatus.CANCELLED)
    desk.carry_out()
    counts = desk.made.messages.counts(ref)
    assert (counts.failed, counts.skipped, counts.waiting) == (1, 1, 0)


def test_an_edit_is_made_to_what_was_read_or_not_at_all(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk, start=False)
    path = f"/v1/campaigns/{ref.campaign}"
    desk.imported(ref)
    etag = sender.get(path).headers["etag"]
    assert sender.get(path, headers={"If-None-Match": etag}).status_code == 304
    edited = sender.patch(path, json={"rate": 50, "name": "Winter"}, headers={"If-Match": etag})
    assert (edited.json()["rate"], edited.json()["name"]) == (50, "Winter")
    assert edited.headers["etag"] == sender.get(path).headers["etag"] != etag
    problem(sender.patch(path, json={"rate": 51}, headers={"If-Match": etag}), 412)
    assert sender.patch(path, json={"rate": None}).json()["rate"] is None
    assert sender.patch(path, json={}).json()["name"] == "Winter"


def test_a_schedule_is_moved_and_taken_away(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk, schedule={"at": "2026-11-01T09:00", "timezone": "Europe/Paris"})
    path = f"/v1/campaigns/{ref.campaign}"
    assert desk.imported(ref).status is CampaignStatus.SCHEDULED
    assert sender.get(path).json()["schedule"] == {"at": "2026-11-01T08:00:00.000Z", "timezone": "Europe/Paris"}
    moved = sender.patch(path, json={"schedule": {"at": "2026-11-02T09:00:00Z"}}).json()
    assert (moved["status"], moved["schedule"]["at"]) == ("scheduled", "2026-11-02T09:00:00.000Z")
    assert sender.patch(path, json={"schedule": None}).json()["status"] == "sending"
    assert "schedule cannot be changed" in problem(sender.patch(path, json={"schedule": None}), 409)
    assert "rate cannot be changed" in problem(sender.patch(path, json={"rate": 1}), 409)
    assert sender.patch(path, json={"name": "now"}).json()["name"] == "now"


def test_lists_are_newest_first_and_filtered(sender: TestClient, desk: Office) -> None:
    refs = []
    for name in ("Spring", "summer", "Spring again"):
        refs.append(made(sender, desk, name=name, start=False).campaign)
        desk.made.clock.advance(1)
    desk.imported(CampaignRef(TENANT, refs[0]))

    def listed(query: str) -> list[str]:
        return [one["id"] for one in sender.get(f"/v1/campaigns{query}").json()["items"]]

    assert listed("") == refs[::-1]
    assert listed("?name=spring") == [refs[2], refs[0]]
    assert listed("?status=ready") == [refs[0]]
    assert listed("?status=ready&status=importing&name=s") == refs[::-1]
    first = sender.get("/v1/campaigns?limit=2").json()
    assert listed(f"?limit=2&cursor={first['cursor']}") == [refs[0]]
    problem(sender.get("/v1/campaigns?cursor=nonsense"), 422)


def test_a_dry_run_tells_what_would_happen_and_keeps_nothing(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk, variables={}, start=False)
    before = desk.made.campaigns.get(ref)
    found = sender.post(f"/v1/campaigns/{ref.campaign}/dry-run").json()
    assert {name: found[name] for name in ("rows", "accepted", "invalid", "duplicate", "suppressed", "not_composed")} == {
        "rows": 4,
        "accepted": 2,
        "invalid": 1,
        "duplicate": 1,
        "suppressed": 0,
        "not_composed": 2,
    }
    assert found["complete"]
    assert [(one["line"], one["reason"]) for one in found["problems"]] == [
        (2, "not_composed"),
        (3, "not_composed"),
        (4, "no_at"),
        (5, "duplicate"),
    ]
    assert desk.made.campaigns.get(ref) == before


def test_a_dry_run_shows_a_message_as_it_would_leave(sender: TestClient, desk: Office) -> None:
    desk.put("vvvvvvvvvvvvvvvv", b"email,Vorname\n" + b"".join(b"p%d@a.example,P%d\n" % (n, n) for n in range(1_500)))
    ref = made(sender, desk, upload_id="vvvvvvvvvvvvvvvv", start=False)
    found = sender.post(f"/v1/campaigns/{ref.campaign}/dry-run").json()
    assert (found["rows"], found["accepted"], found["complete"]) == (1_000, 1_000, False)
    assert (found["sample"]["to"], found["sample"]["subject"]) == ("p0@a.example", "Hi P0")
    source = found["sample"]["source"]
    assert "Hello P0 of Springfield" in quopri.decodestring(source.encode()).decode()
    assert found["largest_message_bytes"] >= found["sample"]["size"] == len(source)


def test_a_dry_run_holds_only_so_much_at_once(sender: TestClient, desk: Office) -> None:
    desk.put(
        "vvvvvvvvvvvvvvvv", b"email,Vorname,other\n" + b"".join(b"p%d@a.example,P,%b\n" % (n, b"x" * 900_000) for n in range(9))
    )
    ref = made(sender, desk, upload_id="vvvvvvvvvvvvvvvv", start=False)
    found = sender.post(f"/v1/campaigns/{ref.campaign}/dry-run").json()
    assert (found["rows"], found["accepted"], found["complete"]) == (4, 4, False)


def test_another_tenant_finds_nothing(sender: TestClient, desk: Office) -> None:
    ref = made(sender, desk)
    desk.imported(ref)
    (one, _) = sender.get(f"/v1/campaigns/{ref.campaign}/messages").json()["items"]
    with desk.client("admin", "other") as stranger:
        assert stranger.get("/v1/campaigns").json()["items"] == []
        for path in ("", "/status", "/batches", "/messages", f"/messages/{one['id']}", "/rejected.csv", "/export.csv"):
            theirs = problem(stranger.get(f"/v1/campaigns/{ref.campaign}{path}"), 404)
            nobodys = problem(stranger.get(f"/v1/campaigns/{'a' * 16}{path.replace(ref.campaign, 'a' * 16)}"), 404)
            assert theirs.replace(ref.campaign, "a" * 16) == nobodys
        for verb in ("start", "pause", "resume", "cancel", "retry-failed", "dry-run"):
            problem(stranger.post(f"/v1/campaigns/{ref.campaign}/{verb}"), 404)
        problem(stranger.post(f"/v1/campaigns/{ref.campaign}/settle", json={"decision": "sent"}), 404)
        problem(stranger.patch(f"/v1/campaigns/{ref.campaign}", json={"name": "x"}), 404)
        problem(stranger.delete(f"/v1/campaigns/{ref.campaign}"), 404)
        problem(stranger.post("/v1/campaigns", json=desk.order()), 404)


def test_the_same_order_under_the_same_id_makes_one_campaign_with_one_content(desk: Office) -> None:
    ref = CampaignRef(TENANT, desk.campaigns.new_id(TENANT))
    body = NewCampaign.model_validate(desk.order())
    spec = body.spec(template_version=1, created_by="x", schedule=None, policies=Policies())
    first = desk.requests.create(ref, spec, start=True)
    assert desk.requests.create(ref, spec, start=True) == first
    desk.versions.append(TemplateContent(TEMPLATE, 2, "Other", "<p>other</p>", None))
    desk.uploads.clear()  # gone meanwhile: nothing is looked up again
    assert desk.requests.find_created(ref) == first
