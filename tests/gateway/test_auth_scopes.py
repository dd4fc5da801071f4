"""At the door: a key opens only the services it is for, and more than one Authorization field open nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from postroom.clock import SystemClock
from postroom.gateway.access import Operator, Viewer
from postroom.gateway.app import create_app
from postroom.gateway.pipeline import Route
from postroom.gateway.state import GatewayConfig
from postroom.model.access import Principal, PrincipalKind, Role
from tests.gateway.kit import problem


class OneKey:
    """Believes in one key, whose scopes are what the field says."""

    async def authenticate(self, authorization: str | None) -> Principal:
        words = (authorization or "").split()[1:]
        scopes = None if words == ["all"] else frozenset(words) - {"none"}
        return Principal(PrincipalKind.KEY, "k", "shop", "acme", Role.ADMIN, operator=True, scopes=scopes)


def routes(tag: str) -> APIRouter:
    router = APIRouter(prefix=f"/v1/{tag}", tags=[tag], route_class=Route)

    @router.get("")
    def read(who: Viewer) -> str:
        return who.name

    @router.get("/operate")
    def operate(who: Operator) -> str:
        return who.name

    return router


@pytest.fixture(scope="module")
def door() -> Iterator[TestClient]:
    app = create_app(GatewayConfig(authenticator=OneKey(), clock=SystemClock()), [routes("messages"), routes("campaigns")])
    with TestClient(app, base_url="http://door.example") as client:
        yield client


@pytest.mark.parametrize("path", ["", "/operate"])
@pytest.mark.parametrize(
    ("scopes", "opens"),
    [
        ("all", {"messages", "campaigns"}),
        ("messages campaigns", {"messages", "campaigns"}),
        ("messages", {"messages"}),
        ("templates", set()),
        ("none", set()),
    ],
)
def test_a_key_opens_its_services_only(door: TestClient, path: str, scopes: str, opens: set[str]) -> None:
    for tag in ("messages", "campaigns"):
        answer = door.get(f"/v1/{tag}{path}", headers={"Authorization": f"Bearer {scopes}"})
        assert (answer.status_code == 200) == (tag in opens)
        if tag not in opens:
            assert "only" in problem(answer, 403)


def test_two_authorization_fields_open_nothing(door: TestClient) -> None:
    fields = [("Authorization", "Bearer all"), ("Authorization", "Bearer messages")]
    assert "more than one Authorization field" in problem(door.get("/v1/messages", headers=fields), 401)
