"""/v1/tenants: operators make and disable them, everybody sees their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.routes.access import tenants_routes
from postroom.ledger.tenants import Tenants
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.gateway.kit import client_of, problem


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[Tenants]:
    with closing(open_control(tmp_path)) as database:
        yield Tenants(SqliteTables(database, ManualClock()), ManualClock())


@pytest.fixture
def operator(tenants: Tenants) -> Iterator[TestClient]:
    with client_of([tenants_routes(tenants)], "admin+op") as client:
        yield client


@pytest.fixture
def admin(tenants: Tenants) -> Iterator[TestClient]:
    tenants.create("acme", "Acme")
    with client_of([tenants_routes(tenants)], "admin", "acme") as client:
        yield client


def test_an_operator_makes_a_tenant(operator: TestClient, tenants: Tenants) -> None:
    made = operator.post("/v1/tenants", json={"id": "newsroom", "name": "The newsroom"})
    assert made.status_code == 201
    assert made.json() == {
        "id": "newsroom",
        "name": "The newsroom",
        "disabled": False,
        "created_at": "2026-09-21T14:13:20.000Z",
    }
    assert operator.get("/v1/tenants/newsroom").json() == made.json()
    assert tenants.get("newsroom").number == 1
    assert "already" in problem(operator.post("/v1/tenants", json={"id": "newsroom"}), 409)


def test_neither_secret_nor_number_leaves(operator: TestClient, tenants: Tenants) -> None:
    made = operator.post("/v1/tenants", json={"id": "newsroom"})
    assert tenants.get("newsroom").secret.hex() not in made.text + operator.get("/v1/tenants").text
    assert "number" not in made.json()


def test_the_list_comes_in_pages(operator: TestClient) -> None:
    for name in ("a", "b", "c"):
        operator.post("/v1/tenants", json={"id": name})
    first = operator.get("/v1/tenants", params={"limit": 3}).json()
    rest = operator.get("/v1/tenants", params={"limit": 3, "cursor": first["cursor"]}).json()
    assert [one["id"] for one in first["items"] + rest["items"]] == ["a", "b", "c", "default"]
    assert rest["cursor"] is None
    problem(operator.get("/v1/tenants", params={"cursor": "made up"}), 422)


@pytest.mark.parametrize("body", [{"id": "A"}, {"id": ""}, {"id": "a" * 41}, {"id": "a", "name": "a\nb"}, {}])
def test_what_cannot_be_a_tenant_is_refused(operator: TestClient, body: dict[str, str]) -> None:
    problem(operator.post("/v1/tenants", json=body), 422)


def test_only_operators_see_others(admin: TestClient) -> None:
    for answer in (
        admin.get("/v1/tenants"),
        admin.get("/v1/tenants/acme"),
        admin.post("/v1/tenants", json={"id": "mine"}),
        admin.post("/v1/tenants/default/disable"),
        admin.post("/v1/tenants/acme/enable"),
    ):
        assert "operator" in problem(answer, 403)


def test_everybody_sees_their_own(admin: TestClient) -> None:
    mine = admin.get("/v1/tenants/me").json()
    assert (mine["tenant"]["id"], mine["tenant"]["name"]) == ("acme", "Acme")
    assert (mine["you"]["role"], mine["you"]["operator"], mine["you"]["scopes"]) == ("admin", False, None)


def test_a_tenant_is_disabled_and_enabled(operator: TestClient, tenants: Tenants) -> None:
    operator.post("/v1/tenants", json={"id": "newsroom"})
    assert operator.post("/v1/tenants/newsroom/disable").json()["disabled"]
    assert tenants.read("newsroom").disabled
    assert not operator.post("/v1/tenants/newsroom/enable").json()["disabled"]
    problem(operator.post("/v1/tenants/nobody/disable"), 404)
    problem(operator.post("/v1/tenants/default/disable"), 409)
    problem(operator.post("/v1/tenants", json={"id": "me"}), 409)
