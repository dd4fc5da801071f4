"""A provider elsewhere: its keys are found over HTTP, and what it signs opens the door of another installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from fastapi import FastAPI

from postroom.clock import SystemClock
from postroom.errors import Unauthenticated, Unavailable
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import HttpJwks
from postroom.identity.provider import OpenIdProvider
from postroom.identity.routes import identity_routes
from postroom.identity.tokens import AUDIENCE
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.memberships import Memberships
from postroom.ledger.tenants import Tenants
from postroom.model.access import Membership, Principal, PrincipalKind, Role
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.secrets import PlainSecrets
from tests.gateway.server_kit import served

CLOCK = SystemClock()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[SqliteTables]:
    (tmp_path / "here").mkdir()
    with closing(open_control(tmp_path / "here")) as database:
        yield SqliteTables(database, CLOCK)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[OpenIdProvider]:
    (tmp_path / "there").mkdir()
    made: list[OpenIdProvider] = []
    with closing(open_control(tmp_path / "there")) as database:

        def application(url: str) -> FastAPI:
            made.append(OpenIdProvider(SqliteTables(database, CLOCK), PlainSecrets(), CLOCK, url=url))
            app = FastAPI()
            app.include_router(identity_routes(made[0]))
            return app

        with served(application):
            yield made[0]


def authenticator(tables: SqliteTables, issuer: str) -> TokenAuthenticator:
    members = Memberships(tables, CLOCK)
    members.grant(Membership(issuer, "ann", "default", Role.EDITOR, "ann@a.example"))
    keys, tenants = ApiKeyRecords(tables, CLOCK), Tenants(tables, CLOCK)
    jwks = HttpJwks(issuer, CLOCK)
    return TokenAuthenticator(members, keys, tenants, jwks, issuer=issuer, audiences=(AUDIENCE,), clock=CLOCK)


def test_a_token_of_a_provider_elsewhere_opens_the_door(here: SqliteTables, provider: OpenIdProvider) -> None:
    door = authenticator(here, provider.url)
    token = provider.tokens.access("ann", client="console", scope=())
    who = anyio.run(door.authenticate, f"Bearer {token}")
    assert who == Principal(PrincipalKind.USER, "ann", "ann@a.example", "default", Role.EDITOR)


def test_another_provider_with_the_same_people_does_not(here: SqliteTables, provider: OpenIdProvider) -> None:
    door = authenticator(here, provider.url)
    twin = OpenIdProvider(here, PlainSecrets(), CLOCK, url=provider.url)
    with pytest.raises(Unauthenticated):
        anyio.run(door.authenticate, f"Bearer {twin.tokens.access('ann', client='console', scope=())}")


def test_a_provider_that_does_not_answer_is_no_refusal(here: SqliteTables, provider: OpenIdProvider) -> None:
    door = authenticator(here, "http://127.0.0.1:1")
    token = provider.tokens.access("ann", client="console", scope=())
    with pytest.raises(Unavailable):
        anyio.run(door.authenticate, f"Bearer {token}")
