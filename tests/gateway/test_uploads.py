"""`/v1/uploads`: from the announcement to the rows, and who may see what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from postroom.gateway.routes.uploads import transfers_routes, uploads_routes
from tests.fakes.clock import ManualClock
from tests.gateway.kit import client_of, problem
from tests.unit.upload_kit import CSV, DAY_S, Uploads, open_uploads

NEW = {"kind": "recipients", "filename": "people.csv", "content_type": "text/csv", "size": len(CSV)}
EXAMPLE = Path(__file__).parents[2] / "examples" / "recipients.csv"


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    with open_uploads(tmp_path, ManualClock()) as opened:
        yield opened


@pytest.fixture
def door(uploads: Uploads) -> Iterator[TestClient]:
    routers = [uploads_routes(uploads.service), transfers_routes(uploads.objects, uploads.transfers)]
    with client_of(routers, role="editor", tenant="acme") as client:
        client.follow_redirects = False
        yield client


def as_(role: str, tenant: str = "acme") -> dict[str, str]:
    return {"Authorization": f"Bearer {role} {tenant}"}


def bring(door: TestClient, raw: bytes = CSV, **new: Any) -> str:
    """Announce and upload, as a client does; the id."""
    announced = door.post("/v1/uploads", json={**NEW, "size": len(raw), **new})
    assert announced.status_code == 201, announced.text
    signed = announced.json()
    sent = httpx.Headers(signed["headers"])
    brought = door.request(signed["method"], signed["url"], headers=sent, content=raw)
    assert brought.status_code == 200, brought.text
    upload_id: str = signed["id"]
    return upload_id


def test_a_file_is_announced_brought_and_seen(door: TestClient) -> None:
    raw = EXAMPLE.read_bytes()
    upload_id = bring(door, raw, filename="C:\\lists\\recipients.csv")
    seen = door.get(f"/v1/uploads/{upload_id}").json()
    assert (seen["status"], seen["filename"], seen["size"], seen["author"]) == (
        "ready",
        "recipients.csv",
        len(raw),
        "editor@acme.example",
    )
    assert (seen["created_at"], seen["expires_at"]) == ("2026-09-21T14:13:20.000Z", "2026-10-21T14:13:20.000Z")
    inspection = seen["inspection"]
    assert (inspection["encoding"], inspection["delimiter"], inspection["address_column"]) == ("utf-8", ";", "E-Mail")
    assert inspection["columns"][:2] == ["E-Mail", "First Name"]
    assert (inspection["rows"], inspection["rows_exact"], inspection["problems"]) == (1306, True, [])
    assert inspection["sample"][0]["First Name"] == "Uma"
    assert len(inspection["sample"]) == 5


def test_rows_are_not_shown_to_viewers_nor_in_lists(door: TestClient) -> None:
    upload_id = bring(door)
    assert door.get(f"/v1/uploads/{upload_id}").json()["inspection"]["sample"][0]["Name"] == "Ännchen"
    as_viewer = door.get(f"/v1/uploads/{upload_id}", headers=as_("viewer"))
    assert as_viewer.json()["inspection"]["sample"] is None
    assert as_viewer.json()["inspection"]["columns"] == ["E-Mail", "Name"]
    listed = door.get("/v1/uploads").json()
    assert [item["id"] for item in listed["items"]] == [upload_id]
    assert listed["items"][0]["inspection"]["sample"] is None
    for text in (as_viewer.text, door.get("/v1/uploads").text):
        assert "mail.example" not in text


def test_viewers_only_look(door: TestClient) -> None:
    upload_id = bring(door)
    problem(door.post("/v1/uploads", json=NEW, headers=as_("viewer")), 403)
    problem(door.delete(f"/v1/uploads/{upload_id}", headers=as_("viewer")), 403)
    problem(door.get(f"/v1/uploads/{upload_id}/content", headers=as_("viewer")), 403)
    assert door.get("/v1/uploads", headers=as_("viewer")).status_code == 200


def test_another_tenant_sees_nothing(door: TestClient) -> None:
    upload_id = bring(door)
    nobodys = "2" * 16
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        theirs = problem(door.request(method, f"/v1/uploads/{upload_id}{path}", headers=as_("admin", "other")), 404)
        none = problem(door.request(method, f"/v1/uploads/{nobodys}{path}", headers=as_("admin", "other")), 404)
        assert theirs.replace(upload_id, "") == none.replace(nobodys, "")
    assert door.get("/v1/uploads", headers=as_("admin", "other")).json() == {"items": [], "cursor": None}
    assert door.get(f"/v1/uploads/{upload_id}").status_code == 200


def test_content_is_a_signed_download(door: TestClient) -> None:
    upload_id = bring(door)
    redirect = door.get(f"/v1/uploads/{upload_id}/content")
    assert redirect.status_code == 307
    download = door.get(redirect.headers["location"], headers={"Authorization": ""})
    assert download.content == CSV
    assert download.headers["content-disposition"] == "attachment; filename=\"people.csv\"; filename*=UTF-8''people.csv"
    assert download.headers["x-content-type-options"] == "nosniff"


def test_before_it_arrives_and_after_it_expired(uploads: Uploads, door: TestClient) -> None:
    upload_id = door.post("/v1/uploads", json=NEW).json()["id"]
    waiting = door.get(f"/v1/uploads/{upload_id}").json()
    assert (waiting["status"], waiting["inspection"], waiting["expires_at"]) == ("waiting", None, "2026-09-22T14:13:20.000Z")
    assert "not arrived" in problem(door.get(f"/v1/uploads/{upload_id}/content"), 422)
    uploads.clock.advance(DAY_S)
    uploads.housekeeping()
    expired = door.get(f"/v1/uploads/{upload_id}").json()
    assert (expired["status"], expired["filename"], expired["author"], expired["expires_at"]) == ("expired", None, None, None)


def test_deleted_is_gone(uploads: Uploads, door: TestClient) -> None:
    upload_id = bring(door)
    uploads.used.add(upload_id)
    assert "in use" in problem(door.delete(f"/v1/uploads/{upload_id}"), 409)
    uploads.used.clear()
    assert door.delete(f"/v1/uploads/{upload_id}").status_code == 204
    problem(door.delete(f"/v1/uploads/{upload_id}"), 404)
    problem(door.get(f"/v1/uploads/{upload_id}"), 404)


def test_a_workbook_is_told_what_it_is(door: TestClient) -> None:
    upload_id = bring(door, b"PK\x03\x04" + b"\x00" * 30 + b"xl/workbook.xml")
    inspection = door.get(f"/v1/uploads/{upload_id}").json()["inspection"]
    assert (inspection["encoding"], inspection["rows"], inspection["sample"]) == (None, None, [])
    assert inspection["problems"] == ["The file is an Excel workbook: open it there and save it as CSV, then upload that."]


def test_lists_come_in_pages(uploads: Uploads, door: TestClient) -> None:
    made = []
    for _ in range(3):
        made.append(bring(door))
        uploads.clock.advance(1)
    first = door.get("/v1/uploads", params={"limit": 2}).json()
    rest = door.get("/v1/uploads", params={"limit": 2, "cursor": first["cursor"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == made[::-1]
    assert rest["cursor"] is None
    problem(door.get("/v1/uploads", params={"cursor": "x"}), 422)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "templates"},
        {"filename": ""},
        {"filename": "a\x00b"},
        {"filename": "x" * 1_001},
        {"content_type": "csv"},
        {"content_type": "text/csv\r\nX-Evil: 1"},
        {"content_type": "text/html; charset=utf-8; x=y"},
        {"size": 0},
        {"size": (2 << 30) + 1},
        {"size": "many"},
        {"sha256": "AB" * 32},
        {"extra": 1},
    ],
)
def test_an_announcement_that_is_not_right_is_refused(door: TestClient, wrong: dict[str, Any]) -> None:
    assert door.post("/v1/uploads", json={**NEW, **wrong}).status_code == 422


def test_a_lone_surrogate_is_refused(door: TestClient) -> None:
    body = '{"kind": "asset", "filename": "\\ud800", "content_type": "text/csv", "size": 1}'
    assert door.post("/v1/uploads", content=body, headers={"Content-Type": "application/json"}).status_code == 422


def test_an_asset_that_is_too_large_is_refused_before_it_is_sent(door: TestClient) -> None:
    told = problem(door.post("/v1/uploads", json={**NEW, "kind": "asset", "size": 26_214_401}), 422)
    assert "26214400" in told


def test_other_bytes_than_the_announced_sha256_do_not_arrive(door: TestClient) -> None:
    signed = door.post("/v1/uploads", json={**NEW, "sha256": "00" * 32}).json()
    problem(door.put(signed["url"], headers=signed["headers"], content=CSV), 422)
    assert door.get(f"/v1/uploads/{signed['id']}").json()["status"] == "waiting"
