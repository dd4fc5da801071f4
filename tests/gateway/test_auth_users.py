"""/v1/users: an admin lets people in and out of the tenant, and nobody grants more than they have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.routes.access import users_routes
from postroom.ledger.memberships import Memberships
from postroom.model.access import Membership, Role
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.services.users import MemberService
from tests.fakes.clock import ManualClock
from tests.gateway.kit import client_of, problem

ISSUER = "https://id.example"
BOB = {"subject": "bob", "role": "editor", "name": "bob@a.example"}


@pytest.fixture
def memberships(tmp_path: Path) -> Iterator[Memberships]:
    with closing(open_control(tmp_path)) as database:
        made = Memberships(SqliteTables(database, ManualClock()), ManualClock())
        made.grant(Membership(ISSUER, "ann", "acme", Role.ADMIN, "ann@a.example"))
        made.grant(Membership(ISSUER, "olga", "acme", Role.VIEWER, "olga", operator=True))
        made.grant(Membership(ISSUER, "zoe", "other", Role.ADMIN, "zoe@b.example"))
        yield made


@pytest.fixture
def admin(memberships: Memberships) -> Iterator[TestClient]:
    with client_of([users_routes(MemberService(memberships), issuer=ISSUER)], "admin", "acme") as client:
        yield client


@pytest.fixture
def operator(memberships: Memberships) -> Iterator[TestClient]:
    with client_of([users_routes(MemberService(memberships), issuer=ISSUER)], "admin+op", "acme") as client:
        yield client


def id_of(memberships: Memberships, subject: str) -> str:
    found = memberships.find(ISSUER, subject)
    assert found is not None
    return found.id


def test_who_is_let_in_belongs_to_the_callers_tenant(admin: TestClient, memberships: Memberships) -> None:
    made = admin.post("/v1/users", json=BOB)
    assert made.status_code == 201
    found = memberships.find(ISSUER, "bob")
    assert found is not None
    assert (found.tenant, found.role, found.name, found.operator) == ("acme", Role.EDITOR, "bob@a.example", False)
    assert admin.get(f"/v1/users/{found.id}").json() == made.json()
    assert made.json() in admin.get("/v1/users").json()["items"]


def test_letting_in_the_same_again_answers_the_same(admin: TestClient) -> None:
    assert admin.post("/v1/users", json=BOB).json() == admin.post("/v1/users", json=BOB).json()
    problem(admin.post("/v1/users", json=BOB | {"role": "admin"}), 409)


def test_nobody_is_taken_from_another_tenant(admin: TestClient, memberships: Memberships) -> None:
    said = problem(admin.post("/v1/users", json=BOB | {"subject": "zoe"}), 409)
    assert "other" not in said
    found = memberships.find(ISSUER, "zoe")
    assert found is not None
    assert found.tenant == "other"


def test_another_tenants_user_is_not_there(admin: TestClient, memberships: Memberships) -> None:
    said = []
    for one in (id_of(memberships, "zoe"), "a" * 26):
        at = f"/v1/users/{one}"
        calls = (admin.get(at), admin.delete(at), admin.patch(at, json={"role": "viewer"}))
        said.append({problem(call, 404).replace(one, "") for call in calls})
    assert said[0] == said[1]
    assert "zoe" not in admin.get("/v1/users").text


def test_a_role_is_changed_and_taken(admin: TestClient, memberships: Memberships) -> None:
    at = f"/v1/users/{admin.post('/v1/users', json=BOB).json()['id']}"
    changed = admin.patch(at, json={"role": "sender", "name": None}).json()
    assert (changed["role"], changed["name"]) == ("sender", "bob@a.example")
    assert admin.patch(at, json={}).json() == changed
    assert admin.delete(at).status_code == 204
    assert memberships.find(ISSUER, "bob") is None
    problem(admin.delete(at), 404)


def test_the_last_admin_is_neither_removed_nor_demoted(admin: TestClient, memberships: Memberships) -> None:
    at = f"/v1/users/{id_of(memberships, 'ann')}"
    assert "last admin" in problem(admin.delete(at), 409)
    assert "last admin" in problem(admin.patch(at, json={"role": "sender"}), 409)
    admin.post("/v1/users", json=BOB | {"role": "admin"})
    assert admin.delete(at).status_code == 204


def test_only_operators_make_or_touch_operators(admin: TestClient, operator: TestClient, memberships: Memberships) -> None:
    olga, bob = f"/v1/users/{id_of(memberships, 'olga')}", BOB | {"operator": True}
    for call in (
        admin.post("/v1/users", json=bob),
        admin.patch(olga, json={"role": "editor"}),
        admin.patch(olga, json={"operator": False}),
        admin.patch(f"/v1/users/{id_of(memberships, 'ann')}", json={"operator": True}),
        admin.delete(olga),
    ):
        assert "operator" in problem(call, 403)
    assert operator.post("/v1/users", json=bob).json()["operator"]
    assert not operator.patch(olga, json={"operator": False}).json()["operator"]


@pytest.mark.parametrize("role", ["viewer", "editor", "sender"])
def test_only_admins_see_who_belongs_to_the_tenant(memberships: Memberships, role: str) -> None:
    with client_of([users_routes(MemberService(memberships), issuer=ISSUER)], role, "acme") as client:
        problem(client.get("/v1/users"), 403)
        problem(client.post("/v1/users", json=BOB), 403)


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "owner"},
        {"subject": ""},
        {"subject": "a" * 201},
        {"subject": "a\x00"},
        {"name": ""},
        {"name": "a\nb"},
        {"issuer": "no url"},
        {"tenant": "other"},
        {"operator": "perhaps"},
    ],
    ids=str,
)
def test_what_cannot_be_a_user_is_refused(admin: TestClient, wrong: dict[str, Any]) -> None:
    problem(admin.post("/v1/users", json=BOB | wrong), 422)


def test_a_cursor_of_nobody_is_refused(admin: TestClient) -> None:
    problem(admin.get("/v1/users", params={"cursor": "made up"}), 422)
