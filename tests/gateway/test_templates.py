"""`/v1/templates`: from the first draft to what recipients see; who may do what; who edits what another has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.errors import NotFound
from postroom.gateway.routes.templates import templates_routes
from tests.gateway.kit import client_of, problem
from tests.unit.template_kit import TemplateHome, open_templates

URL = "/v1/templates"
NEW = {"name": "News", "subject": "Hi {{ first_name }}", "html": "<p>Hi {{ first_name }}</p>"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TemplateHome]:
    with open_templates(tmp_path) as opened:
        yield opened


def rows(tenant: str, upload_id: str, number: int) -> Mapping[str, str]:
    if (tenant, upload_id) != ("acme", "aaaaaaaaaaaaaaaa"):
        raise NotFound("there is no such upload")
    return {"E-Mail": "Anna <anna@a.example>", "First Name": f" Anna {number} ", "other": "x"}


@pytest.fixture
def door(home: TemplateHome) -> Iterator[TestClient]:
    with client_of([templates_routes(home.service(), rows)], "editor", "acme", tables=home.tables) as client:
        yield client


def as_(role: str, tenant: str = "acme") -> dict[str, str]:
    return {"Authorization": f"Bearer {role} {tenant}"}


def made(door: TestClient, **more: Any) -> dict[str, Any]:
    answer = door.post(URL, json={**NEW, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"{URL}/{answer.json()['id']}"
    template: dict[str, Any] = answer.json()
    return template


def test_a_template_is_written_read_and_saved_again(door: TestClient) -> None:
    template = made(door)
    one = f"{URL}/{template['id']}"
    assert (template["version"], template["created_by"], template["created_at"]) == (
        1,
        "editor@acme.example",
        "2026-09-21T14:13:20.000Z",
    )
    assert (template["html"], template["mjml"], template["text"]) == (NEW["html"], None, None)
    assert template["variables"] == [{"name": "first_name", "required": True}]
    assert [finding["code"] for finding in template["findings"]] == ["no-unsubscribe"]
    assert door.get(one).json() == template
    saved = door.put(one, json={**NEW, "html": "<p>New</p>", "text": "New", "note": "shorter"}).json()
    assert (saved["version"], saved["text"]) == (2, "New")
    versions = door.get(f"{one}/versions").json()["items"]
    assert [(v["version"], v["note"]) for v in versions] == [(2, "shorter"), (1, "")]
    assert door.get(f"{one}/versions/1").json()["compiled"] == NEW["html"]
    parts = door.get(f"{one}/diff", params={"from": 1, "to": 2}).json()["parts"]
    assert [part["part"] for part in parts] == ["body", "text"]
    back = door.post(f"{one}/rollback", json={"version": 1}).json()
    assert (back["version"], back["html"]) == (3, NEW["html"])


def test_an_etag_spares_reading_and_protects_from_overwriting(door: TestClient) -> None:
    one = f"{URL}/{made(door)['id']}"
    etag = door.get(one).headers["ETag"]
    assert door.get(one, headers={"If-None-Match": etag}).status_code == 304
    mine = door.put(one, json={**NEW, "html": "<p>Mine</p>"}, headers={"If-Match": etag})
    assert mine.status_code == 200
    assert door.get(one, headers={"If-None-Match": etag}).headers["ETag"] == mine.headers["ETag"]
    for late in (
        door.put(one, json={**NEW, "html": "<p>Yours</p>"}, headers={"If-Match": etag}),
        door.post(f"{one}/rollback", json={"version": 1}, headers={"If-Match": etag}),
    ):
        assert "read it again" in problem(late, 412)
    assert door.get(one).json()["html"] == "<p>Mine</p>"


def test_the_same_key_makes_one_template(door: TestClient) -> None:
    key = {"Idempotency-Key": "k1"}
    first, second = door.post(URL, json=NEW, headers=key), door.post(URL, json=NEW, headers=key)
    assert first.json()["id"] == second.json()["id"]
    assert len(door.get(URL).json()["items"]) == 1


def test_errors_refuse_with_their_places(door: TestClient, home: TemplateHome) -> None:
    answer = door.post(URL, json={**NEW, "html": "<p>\n  {{ x|nonsense }}<img>"})
    assert "html, line 2, column 8: the filter nonsense is not available" in problem(answer, 422)
    (finding,) = answer.json()["findings"]
    assert (finding["severity"], finding["code"], finding["line"], finding["column"]) == ("error", "unknown-word", 2, 8)
    assert door.get(URL).json()["items"] == []


def test_validate_tells_everything_and_stores_nothing(door: TestClient, home: TemplateHome) -> None:
    good = door.post(f"{URL}/validate", json={"subject": "x", "html": "<img>{{ a }}"}, headers=as_("viewer")).json()
    assert (good["valid"], good["variables"]) == (True, [{"name": "a", "required": True}])
    assert [(f["code"], f["line"], f["column"]) for f in good["findings"]] == [
        ("image-without-alt", 1, 1),
        ("no-unsubscribe", None, None),
    ]
    bad = door.post(f"{URL}/validate", json={"subject": "{{", "mjml": "<mjml>"}).json()
    assert (bad["valid"], [f["part"] for f in bad["findings"]]) == (False, ["subject", "mjml"])
    assert door.get(URL).json()["items"] == []
    assert home.objects.list("acme/").objects == []


def test_a_preview_is_for_values_or_a_row_of_an_upload(door: TestClient) -> None:
    template = made(door, html="<p>{{ first_name }} {{ email }}</p>")
    preview = f"{URL}/{template['id']}/preview"
    shown = door.post(preview, json={"variables": {"first_name": "<B>"}}, headers=as_("viewer")).json()
    assert (shown["subject"], shown["missing"]) == ("Hi <B>", [])
    assert shown["html"] == "<p>&lt;B&gt; someone@example.com</p>\n"
    assert shown["text"] == "<B> someone@example.com\n"
    assert door.post(preview, json={}).json()["missing"] == ["first_name"]
    shown = door.post(preview, json={"upload_id": "aaaaaaaaaaaaaaaa", "row": 7}).json()
    assert shown["html"] == "<p>Anna 7 anna@a.example</p>\n"
    mixed = {"upload_id": "aaaaaaaaaaaaaaaa", "variables": {"first_name": "Me"}}
    assert door.post(preview, json=mixed).json()["subject"] == "Hi Me"
    problem(door.post(preview, json={"upload_id": "bbbbbbbbbbbbbbbb"}), 404)
    assert "editors" in problem(door.post(preview, json={"upload_id": "aaaaaaaaaaaaaaaa"}, headers=as_("viewer")), 403)
    problem(door.post(preview, json={"version": 9}), 404)
    assert "email" in problem(door.post(preview, json={"variables": {"email": "nobody"}}), 422)


def test_without_uploads_a_preview_says_so(home: TemplateHome) -> None:
    with client_of([templates_routes(home.service())], tenant="acme") as door:
        preview = f"{URL}/{made(door)['id']}/preview"
        assert "give the values" in problem(door.post(preview, json={"upload_id": "aaaaaaaaaaaaaaaa"}), 422)


def test_what_is_put_away_is_hidden_and_comes_back(door: TestClient) -> None:
    kept, away = made(door)["id"], made(door, name="Old")["id"]
    assert door.delete(f"{URL}/{away}").status_code == 204
    assert door.delete(f"{URL}/{away}").status_code == 204
    assert [t["id"] for t in door.get(URL).json()["items"]] == [kept]
    assert [t["id"] for t in door.get(URL, params={"archived": True}).json()["items"]] == [away]
    assert door.get(f"{URL}/{away}").json()["archived"] is True
    assert "unarchive" in problem(door.put(f"{URL}/{away}", json={**NEW, "html": "x"}), 409)
    assert door.post(f"{URL}/{away}/unarchive").json()["archived"] is False
    assert [t["name"] for t in door.get(URL, params={"name": "oL"}).json()["items"]] == ["Old"]


def test_another_tenants_template_is_not_there(door: TestClient) -> None:
    one, nobody = f"{URL}/{made(door)['id']}", f"{URL}/{'2' * 16}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PUT", "", NEW),
        ("DELETE", "", None),
        ("GET", "/versions", None),
        ("GET", "/versions/1", None),
        ("GET", "/diff?from=1&to=1", None),
        ("POST", "/rollback", {"version": 1}),
        ("POST", "/unarchive", None),
        ("POST", "/preview", {}),
    ]
    for method, path, body in calls:
        theirs = door.request(method, one + path, json=body, headers=as_("admin", "other"))
        nobodys = door.request(method, nobody + path, json=body, headers=as_("admin", "other"))
        assert theirs.status_code == nobodys.status_code == 404, (method, path)
        assert problem(theirs, 404).replace(one[-16:], "") == problem(nobodys, 404).replace("2" * 16, "")
    assert door.get(URL, headers=as_("admin", "other")).json()["items"] == []


def test_viewers_look_and_editors_write(door: TestClient) -> None:
    one = f"{URL}/{made(door)['id']}"
    for path in ("", "/versions", "/versions/1", "/diff?from=1&to=1"):
        assert door.get(one + path, headers=as_("viewer")).status_code == 200
    for method, path, body in (
        ("POST", URL, NEW),
        ("PUT", one, NEW),
        ("DELETE", one, None),
        ("POST", f"{one}/rollback", {"version": 1}),
        ("POST", f"{one}/unarchive", None),
    ):
        assert "editor" in problem(door.request(method, path, json=body, headers=as_("viewer")), 403)


@pytest.mark.parametrize(
    "change",
    [
        {"mjml": "<mjml></mjml>"},
        {"html": None},
        {"name": " "},
        {"name": "a\nb"},
        {"name": "x" * 201},
        {"subject": "a\nb"},
        {"html": "a\x00b"},
        {"html": "x" * 1_000_001},
        {"unknown": 1},
        {"note": "x" * 501},
    ],
)
def test_what_is_no_template_is_refused(door: TestClient, change: dict[str, Any]) -> None:
    problem(door.post(URL, json={**NEW, **change}), 422)


@pytest.mark.parametrize("body", [b'{"name":"\\ud800","subject":"s","html":"h"}', b'{"name":"n","subject":"s","html":"\\udfff"}'])
def test_a_lone_surrogate_is_refused(door: TestClient, body: bytes) -> None:
    problem(door.post(URL, content=body, headers={"Content-Type": "application/json"}), 422)


def test_a_cursor_of_somewhere_else_is_refused(door: TestClient) -> None:
    one = f"{URL}/{made(door)['id']}"
    for url in (URL, f"{one}/versions"):
        problem(door.get(url, params={"cursor": "{}!"}), 422)


def test_a_large_template_passes_the_door(door: TestClient) -> None:
    template = made(door, html="<p>" + "ü" * 900_000)
    assert "clipped" in [finding["code"] for finding in template["findings"]]
