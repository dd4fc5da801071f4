"""The door believes the built-in issuer by nothing but its published keys, and finds what its people and programs may do."""

from __future__ import annotations

import anyio
import pytest

from postroom.errors import Denied, Unauthenticated
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import LocalJwks
from postroom.identity.directory import AccessAdmin
from postroom.identity.provider import OpenIdProvider
from postroom.identity.tokens import AUDIENCE
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.memberships import Memberships
from postroom.ledger.tenants import Tenants
from postroom.model.access import Principal, PrincipalKind, Role
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.identity.provider_kit import EMAIL, PASSWORD, URL, Browser, add_user


class Api:
    """Who calls with a token."""

    def __init__(self, tables: SqliteTables, provider: OpenIdProvider, clock: ManualClock) -> None:
        self.memberships = Memberships(tables, clock)
        tenants = Tenants(tables, clock)
        tenants.create("acme")
        self.authenticator = TokenAuthenticator(
            self.memberships,
            ApiKeyRecords(tables, clock),
            tenants,
            LocalJwks(provider.keys.published, clock),
            issuer=URL,
            audiences=(AUDIENCE,),
            clock=clock,
            members_of=provider.membership_issuer,
        )

    def who(self, token: str) -> Principal:
        return anyio.run(self.authenticator.authenticate, f"Bearer {token}")


@pytest.fixture
def api(tables: SqliteTables, provider: OpenIdProvider, clock: ManualClock) -> Api:
    return Api(tables, provider, clock)


def test_a_person_from_the_invitation_to_a_call(api: Api, provider: OpenIdProvider, browser: Browser) -> None:
    admitted = AccessAdmin(provider, api.memberships).add(EMAIL, tenant="acme", role=Role.SENDER)
    assert admitted.link is not None
    provider.accept_invitation(admitted.link.partition("token=")[2], PASSWORD)
    who = api.who(browser.tokens()["access_token"])
    assert (who.kind, who.id, who.name, who.tenant, who.role) == (
        PrincipalKind.USER,
        admitted.user.subject,
        EMAIL,
        "acme",
        Role.SENDER,
    )


def test_a_program_with_its_secret(api: Api, provider: OpenIdProvider, browser: Browser) -> None:
    client, secret = AccessAdmin(provider, api.memberships).add_client("nightly", tenant="acme", role=Role.EDITOR)
    answer = browser.token(grant_type="client_credentials", client_id=client.id, client_secret=secret)
    who = api.who(answer.json()["access_token"])
    assert (who.kind, who.id, who.tenant, who.role) == (PrincipalKind.CLIENT, client.id, "acme", Role.EDITOR)


def test_other_tokens_of_the_issuer_open_nothing(api: Api, provider: OpenIdProvider, browser: Browser) -> None:
    add_user(provider)
    tokens = browser.tokens()
    with pytest.raises(Unauthenticated):
        api.who(tokens["id_token"])
    with pytest.raises(Unauthenticated):
        api.who(tokens["refresh_token"])
    with pytest.raises(Denied, match="belongs to no tenant"):
        api.who(tokens["access_token"])
