"""/v1/keys: shown once, no wider than its maker, the same again for the same call, gone when revoked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.errors import Denied, Unavailable
from postroom.gateway.routes.access import keys_routes
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.services.keys import ApiKeyService
from tests.fakes.clock import ManualClock
from tests.fakes.faults import Faults
from tests.fakes.secrets import PlainSecrets
from tests.gateway.kit import client_of, problem
from tests.gateway.token_kit import open_gate

SHOP = {"name": "shop", "role": "sender", "scopes": ["messages"], "expires_in_days": 90}
ANN = Principal(PrincipalKind.USER, "ann", "ann", "acme", Role.ADMIN)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, ManualClock())


@pytest.fixture
def keys(tables: SqliteTables) -> ApiKeyRecords:
    return ApiKeyRecords(tables, ManualClock())


@pytest.fixture
def service(keys: ApiKeyRecords) -> ApiKeyService:
    return ApiKeyService(keys, ManualClock())


@pytest.fixture
def admin(service: ApiKeyService) -> Iterator[TestClient]:
    with client_of([keys_routes(service, PlainSecrets())], "admin", "acme") as client:
        yield client


def test_a_key_is_shown_once(admin: TestClient, keys: ApiKeyRecords) -> None:
    answer = admin.post("/v1/keys", json=SHOP)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    text = made.pop("key")
    assert re.fullmatch("pr_[a-z2-7]{16}_[a-z2-7]{39}", text)
    assert made == {
        "id": text[3:19],
        "name": "shop",
        "role": "sender",
        "scopes": ["messages"],
        "created_at": "2026-09-21T14:13:20.000Z",
        "created_by": "admin@acme.example",
        "expires_at": "2026-12-20T14:13:20.000Z",
        "last_used_at": None,
    }
    stored = keys.find(made["id"])
    assert stored is not None
    assert stored.is_of(text)
    assert admin.get(f"/v1/keys/{made['id']}").json() == made
    assert admin.get("/v1/keys").json()["items"] == [made]


def test_a_revoked_key_is_gone(admin: TestClient, keys: ApiKeyRecords) -> None:
    made = admin.post("/v1/keys", json=SHOP).json()["id"]
    assert admin.delete(f"/v1/keys/{made}").status_code == 204
    assert keys.find(made) is None
    for call in (admin.get, admin.delete):
        problem(call(f"/v1/keys/{made}"), 404)


def test_another_tenants_key_is_not_there(admin: TestClient, service: ApiKeyService) -> None:
    other = service.create(Principal(PrincipalKind.USER, "zoe", "zoe", "other", Role.ADMIN), "theirs", role=Role.VIEWER)
    for call in (admin.get, admin.delete):
        said = problem(call(f"/v1/keys/{other.key.id}"), 404)
        assert said == problem(call("/v1/keys/" + "a" * 16), 404).replace("a" * 16, other.key.id)
    assert admin.get("/v1/keys").json()["items"] == []


KEYED = {"Idempotency-Key": "try-1"}


def test_the_same_call_again_answers_the_same_key(tables: SqliteTables, service: ApiKeyService) -> None:
    with client_of([keys_routes(service, PlainSecrets())], "admin", "acme", tables=tables) as admin:
        first, again = (admin.post("/v1/keys", json=SHOP, headers=KEYED) for _ in range(2))
        other = admin.post("/v1/keys", json=SHOP, headers={"Idempotency-Key": "try-2"})
    assert first.json() == again.json() != other.json()
    assert {used.key.id for used in service.list(ANN).items} == {first.json()["id"], other.json()["id"]}


@pytest.mark.parametrize("after", [False, True])
def test_a_call_that_died_midway_makes_the_same_key_when_it_comes_again(tables: SqliteTables, after: bool) -> None:
    """It died right before the key was stored, or right after."""

    def fail() -> None:
        raise Unavailable("the store went away")

    dying = ApiKeyService(ApiKeyRecords(Faults(1, after=after, happens=fail).wrap(tables), ManualClock()), ManualClock(seed=1))
    with client_of([keys_routes(dying, PlainSecrets())], "admin", "acme", tables=tables) as admin:
        problem(admin.post("/v1/keys", json=SHOP, headers=KEYED), 503)
        made = admin.post("/v1/keys", json=SHOP, headers=KEYED).json()
    (stored,) = dying.list(ANN).items
    assert stored.key.id == made["id"]
    assert stored.key.is_of(made["key"])


def test_no_store_holds_the_text_in_clear(tables: SqliteTables, service: ApiKeyService, tmp_path: Path) -> None:
    """Neither the recovery points nor the kept answer."""
    with client_of([keys_routes(service, PlainSecrets())], "admin", "acme", tables=tables) as admin:
        secret = admin.post("/v1/keys", json=SHOP, headers=KEYED).json()["key"].rsplit("_", 1)[1][:32]
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"acme#idempotency" in files
    assert secret.encode() not in files


@pytest.mark.parametrize("role", ["viewer", "editor", "sender"])
def test_only_admins_make_and_see_keys(service: ApiKeyService, role: str) -> None:
    with client_of([keys_routes(service, PlainSecrets())], role, "acme") as client:
        problem(client.get("/v1/keys"), 403)
        problem(client.post("/v1/keys", json=SHOP), 403)


def test_nobody_makes_a_key_above_their_own_role(service: ApiKeyService) -> None:
    editor = Principal(PrincipalKind.USER, "ed", "ed", "acme", Role.EDITOR)
    service.create(editor, "mine", role=Role.EDITOR)
    with pytest.raises(Denied, match="would be sender"):
        service.create(editor, "more", role=Role.SENDER)


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [(None, False), ({"keys", "messages"}, True), ({"messages"}, True), ({"messages", "users"}, False)],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_a_key_with_scopes_makes_none_that_is_wider(service: ApiKeyService, scopes: set[str] | None, allowed: bool) -> None:
    limited = Principal(PrincipalKind.KEY, "k", "maker", "acme", Role.ADMIN, scopes=frozenset({"keys", "messages"}))
    if allowed:
        assert service.create(limited, "new", role=Role.VIEWER, scopes=scopes).key.scopes == scopes
    else:
        with pytest.raises(Denied, match="only"):
            service.create(limited, "new", role=Role.VIEWER, scopes=scopes)


def test_a_key_that_expires_makes_none_that_outlives_it(tmp_path: Path) -> None:
    with open_gate(tmp_path) as gate:
        service = ApiKeyService(gate.keys, gate.clock)
        lent = service.create(Principal(PrincipalKind.USER, "ann", "ann", "acme", Role.ADMIN), "lent", role=Role.ADMIN, days=7)
        borrower = gate.who(lent.text)
        for days in (None, 8):
            with pytest.raises(Denied, match="no later"):
                service.create(borrower, "for ever", role=Role.ADMIN, days=days)
        assert service.create(borrower, "as long", role=Role.ADMIN, days=7).key.expires_at == lent.key.expires_at


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a" * 101},
        {"role": "operator"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": "messages"},
        {"expires_in_days": 0},
        {"expires_in_days": 3_661},
        {"expires_in_days": "5"},
        {"expires_in_days": True},
        {"expires_in_days": 1.5},
        {"tenant": "other"},
    ],
    ids=str,
)
def test_what_cannot_be_a_key_is_refused(admin: TestClient, wrong: dict[str, Any]) -> None:
    problem(admin.post("/v1/keys", json=SHOP | wrong), 422)


def test_a_cursor_of_nobody_is_refused(admin: TestClient) -> None:
    problem(admin.get("/v1/keys", params={"cursor": "made up"}), 422)
