"""Each route has a least role. Whoever has less is refused, so is anybody without credentials, a tenant that is disabled, and a key
for other services: before anything else of the call is looked at, and with nothing done.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from postroom.gateway.pipeline import Route
from postroom.model.access import Role, Service
from tests.gateway.door_kit import OPERATOR, RANKS, Household, WholeDoor, household, whole_door
from tests.gateway.door_recipes import RECIPES, call, routes

LEAST = {
    "viewer": """
        GET /v1/templates
        GET /v1/templates/{template_id}
        GET /v1/templates/{template_id}/versions
        GET /v1/templates/{template_id}/versions/{version}
        GET /v1/templates/{template_id}/diff
        POST /v1/templates/validate
        POST /v1/templates/{template_id}/preview
        GET /v1/uploads
        GET /v1/uploads/{upload_id}
        GET /v1/campaigns
        GET /v1/campaigns/{campaign_id}
        GET /v1/campaigns/{campaign_id}/batches
        GET /v1/campaigns/{campaign_id}/messages
        GET /v1/campaigns/{campaign_id}/messages/{message_id}
        GET /v1/campaigns/{campaign_id}/rejected.csv
        GET /v1/campaigns/{campaign_id}/export.csv
        GET /v1/campaigns/{campaign_id}/status
        GET /v1/messages
        GET /v1/messages/{id}
        GET /v1/suppressions
        GET /v1/suppressions/export.csv
        GET /v1/senders
        GET /v1/senders/{name}
        GET /v1/senders/{name}/dkim
        GET /v1/providers
        GET /v1/providers/{name}
        GET /v1/callbacks
        GET /v1/callbacks/{id}
        GET /v1/callbacks/{id}/deliveries
        GET /v1/callbacks/{id}/deliveries/{delivery_id}
        GET /v1/tenants/me
    """,
    "editor": """
        POST /v1/templates
        PUT /v1/templates/{template_id}
        DELETE /v1/templates/{template_id}
        POST /v1/templates/{template_id}/rollback
        POST /v1/templates/{template_id}/unarchive
        POST /v1/uploads
        DELETE /v1/uploads/{upload_id}
        GET /v1/uploads/{upload_id}/content
        POST /v1/campaigns
        PATCH /v1/campaigns/{campaign_id}
        POST /v1/campaigns/{campaign_id}/dry-run
        POST /v1/suppressions
        POST /v1/suppressions/import
    """,
    "sender": """
        POST /v1/templates/{template_id}/test
        DELETE /v1/campaigns/{campaign_id}
        POST /v1/campaigns/{campaign_id}/start
        POST /v1/campaigns/{campaign_id}/pause
        POST /v1/campaigns/{campaign_id}/resume
        POST /v1/campaigns/{campaign_id}/cancel
        POST /v1/campaigns/{campaign_id}/retry-failed
        POST /v1/campaigns/{campaign_id}/settle
        POST /v1/messages
    """,
    "admin": """
        DELETE /v1/suppressions
        POST /v1/erasures
        GET /v1/erasures/{erasure_id}
        POST /v1/senders
        DELETE /v1/senders/{name}
        POST /v1/senders/{name}/verify
        POST /v1/senders/{name}/dkim
        POST /v1/senders/{name}/dkim/{selector}/verify
        DELETE /v1/senders/{name}/dkim/{selector}
        POST /v1/providers
        PUT /v1/providers/{name}
        DELETE /v1/providers/{name}
        POST /v1/providers/{name}/test
        POST /v1/callbacks
        PATCH /v1/callbacks/{id}
        DELETE /v1/callbacks/{id}
        POST /v1/callbacks/{id}/rotate-secret
        POST /v1/callbacks/{id}/test
        POST /v1/callbacks/{id}/redeliver
        POST /v1/callbacks/{id}/deliveries/{delivery_id}/redeliver
        GET /v1/callbacks/campaign-secret
        POST /v1/callbacks/campaign-secret/rotate
        GET /v1/users
        POST /v1/users
        GET /v1/users/{id}
        PATCH /v1/users/{id}
        DELETE /v1/users/{id}
        GET /v1/keys
        POST /v1/keys
        GET /v1/keys/{id}
        DELETE /v1/keys/{id}
        GET /v1/audit
        GET /v1/audit/verification
    """,
    "operator": """
        POST /v1/senders/{name}/trust
        GET /v1/tenants
        POST /v1/tenants
        GET /v1/tenants/{id}
        POST /v1/tenants/{id}/disable
        POST /v1/tenants/{id}/enable
    """,
}
NEEDS = {route.strip(): rank for rank, listed in LEAST.items() for route in listed.strip().splitlines()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WholeDoor, Household]]:
    """Of a tenant whose records everybody asks for."""
    with whole_door(tmp_path_factory.mktemp("roles")) as door:
        door.postroom.tenants.create("acme")
        yield door, household(door, "acme", "zebra")


def answers(client: TestClient, home: Household, route: str) -> Iterator[int]:
    """The status of each way to call it."""
    for recipe in RECIPES[route]:
        yield call(client, route, recipe, about=home, own=home).status_code


def test_every_route_is_in_the_table_and_in_the_document(home: tuple[WholeDoor, Household]) -> None:
    door, _ = home
    assert {f"{method} {path}" for method, path in routes(door)} == NEEDS.keys()
    told = {
        f"{method} {route.path}": route.demands
        for route in door.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert told == NEEDS
    paths = door.app.openapi()["paths"]
    assert all(paths[route.split()[1]][route.split()[0].lower()]["x-role"] == rank for route, rank in NEEDS.items())


@pytest.mark.parametrize("rank", RANKS)
def test_who_has_less_than_the_role_is_refused(home: tuple[WholeDoor, Household], rank: str) -> None:
    """And nothing is done: whoever has more does the same later."""
    door, house = home
    with door.client(rank, house.tenant) as client:
        for route, needed in NEEDS.items():
            if RANKS.index(rank) < RANKS.index(needed):
                assert set(answers(client, house, route)) == {403}, route


def test_who_has_the_role_is_not_refused(home: tuple[WholeDoor, Household]) -> None:
    """Every route, by the least that may: once all that changes nothing, then all that makes, last what takes away."""
    door, house = home
    order = sorted(NEEDS, key=lambda route: (route.startswith("DELETE"), not route.startswith("GET")))
    refused = []
    for route in order:
        if (route, NEEDS[route]) in _MORE_ASKED:
            continue
        with door.client(NEEDS[route], house.tenant) as client:
            refused += [route for status in answers(client, house, route) if status in {401, 403}]
    assert refused == []


_MORE_ASKED = {
    ("POST /v1/templates/{template_id}/preview", "viewer"),  # rows of an upload are people: for editors
}


def test_anybody_without_credentials_is_asked_for_them(home: tuple[WholeDoor, Household]) -> None:
    door, house = home
    with door.bearing(None) as nobody, door.bearing("pr_worthless") as stranger:
        for route in NEEDS:
            assert set(answers(nobody, house, route)) == {401}, route
            assert set(answers(stranger, house, route)) == {401}, route


def test_a_key_for_other_services_opens_nothing(home: tuple[WholeDoor, Household]) -> None:
    """A key for all services but the route's own; `alerts` is nobody's yet."""
    door, house = home
    for route in (each for each in door.app.routes if isinstance(each, Route) and each.path.startswith("/v1/")):
        others = frozenset(service.value for service in Service) - {str(tag) for tag in route.tags}
        with door.bearing(door.key(house.tenant, Role.ADMIN, others)) as client:
            for method in route.methods or ():
                assert set(answers(client, house, f"{method} {route.path}")) == {403}, route.path


def test_a_tenant_that_is_disabled_is_refused_everywhere(home: tuple[WholeDoor, Household]) -> None:
    """Its operators too."""
    door, house = home
    door.postroom.tenants.create("closed")
    with door.client(OPERATOR) as operator:
        assert operator.post("/v1/tenants/closed/disable").status_code == 200
    for rank in RANKS:
        with door.client(rank, "closed") as client:
            for route in NEEDS:
                assert set(answers(client, house, route)) == {403}, route
