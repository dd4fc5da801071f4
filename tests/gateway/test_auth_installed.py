"""An installation as it is opened: its own issuer's tokens and its keys open the door, other tokens of the same issuer do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from postroom.entrypoints.application import all_routers, application
from postroom.errors import Invalid, Unauthenticated
from postroom.gateway.routes.campaign_status import StatusCache
from postroom.identity.tokens import Grant
from postroom.model.access import Membership, Principal, PrincipalKind, Role, Service
from postroom.services.keys import ApiKeyService
from postroom.settings import Settings
from postroom.wiring import Container, open_app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def postroom(tmp_path: Path) -> Iterator[Container]:
    with open_app(Settings(data=tmp_path)) as opened:
        yield opened


def who(postroom: Container, credential: str) -> Principal:
    return anyio.run(postroom.authenticator.authenticate, f"Bearer {credential}")


def test_a_token_of_the_built_in_issuer_opens_the_door(postroom: Container) -> None:
    issuer = postroom.issuer
    assert issuer is not None
    postroom.memberships.grant(Membership(issuer.membership_issuer, "ann", "default", Role.EDITOR, "ann@a.example"))
    token = issuer.tokens.access("ann", client="console", scope=("openid",))
    assert who(postroom, token) == Principal(PrincipalKind.USER, "ann", "ann@a.example", "default", Role.EDITOR)


def test_a_program_of_the_built_in_issuer_is_a_client(postroom: Container) -> None:
    issuer = postroom.issuer
    assert issuer is not None
    postroom.memberships.grant(Membership(issuer.membership_issuer, "c1", "default", Role.SENDER, "nightly"))
    assert who(postroom, issuer.tokens.access("c1", client="c1", scope=())).kind is PrincipalKind.CLIENT


def test_an_id_token_of_the_built_in_issuer_does_not(postroom: Container) -> None:
    issuer = postroom.issuer
    assert issuer is not None
    postroom.memberships.grant(Membership(issuer.membership_issuer, "ann", "default", Role.EDITOR, "ann@a.example"))
    grant = Grant(
        client="postroom", subject="ann", epoch=1, scope=("openid",), signed_in_at=postroom.clock.now(), methods=("pwd",)
    )
    with pytest.raises(Unauthenticated):
        who(postroom, issuer.tokens.identity(grant, email="ann@a.example"))


def test_a_key_of_the_installation_opens_the_door(postroom: Container) -> None:
    operator = Principal(PrincipalKind.OPERATOR, "root", "root", "default", Role.ADMIN, operator=True)
    keys: ApiKeyService = postroom.api_keys
    made = keys.create(operator, "shop", role=Role.SENDER, scopes=frozenset({Service.MESSAGES}), days=1)
    found = who(postroom, made.text)
    assert (found.kind, found.role, found.operator, found.scopes) == (
        PrincipalKind.KEY,
        Role.SENDER,
        False,
        frozenset({"messages"}),
    )


def test_who_is_let_in_through_the_door_comes_through_it(postroom: Container) -> None:
    """The issuer that a call does not name is the one that the door believes."""
    issuer = postroom.issuer
    assert issuer is not None
    postroom.memberships.grant(Membership(issuer.membership_issuer, "ann", "default", Role.ADMIN, "ann@a.example"))
    with TestClient(application(postroom), base_url="http://door.example") as client:
        ann = {"Authorization": f"Bearer {issuer.tokens.access('ann', client='console', scope=())}"}
        made = client.post("/v1/users", json={"subject": "bob", "role": "viewer", "name": "bob"}, headers=ann)
        assert made.status_code == 201
        bob = {"Authorization": f"Bearer {issuer.tokens.access('bob', client='console', scope=())}"}
        assert client.get("/v1/tenants/me", headers=bob).json()["you"]["name"] == "bob"


def test_a_foreign_issuer_needs_an_audience(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="POSTROOM_AUDIENCE"), open_app(Settings(data=tmp_path, issuer="https://id.example")):
        pass


def test_every_role_and_service_is_explained() -> None:
    page = (ROOT / "docs/reference/access.md").read_text("utf-8")
    assert all(f"| `{role}` |" in page for role in Role)
    assert " ".join(f"`{service}`" for service in Service) in page


def test_a_key_can_be_limited_to_every_service_and_to_nothing_else(postroom: Container) -> None:
    """Whoever adds a service adds its tag: else no key with scopes could ever call it."""
    found = [
        route
        for router in all_routers(postroom, StatusCache(postroom.status, postroom.clock))
        for route in router.routes
        if isinstance(route, APIRoute)
    ]
    tags = {str(tag) for route in found for tag in route.tags if route.path.startswith("/v1/")}
    assert tags <= set(Service)
    assert all(route.tags for route in found if route.path.startswith("/v1/"))
