"""A client library of others signs in: Authlib's, over real HTTP, from discovery to the verified ID token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.common.security import generate_token  # type: ignore[import-untyped]  # ships no types
from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]  # as above
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import KeySet

from postroom.clock import SystemClock
from postroom.identity.provider import OpenIdProvider
from postroom.identity.routes import identity_routes
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.secrets import PlainSecrets
from tests.gateway.server_kit import served
from tests.identity.provider_kit import CHEAP, EMAIL, PASSWORD, add_user, hidden


class Provider:
    """One that runs."""

    def __init__(self, issuer: OpenIdProvider) -> None:
        self.issuer = issuer
        self.url = issuer.url
        self.metadata: dict[str, Any] = self.get("/.well-known/openid-configuration")

    def get(self, path: str) -> Any:
        return requests.get(self.url + path, timeout=10).json()

    def claims(self, token: str) -> dict[str, Any]:
        """Verified with the published keys."""
        keys = KeySet.import_key_set(requests.get(self.metadata["jwks_uri"], timeout=10).json())
        return dict(jwt.decode(token, keys, algorithms=["ES256"]).claims)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with closing(open_control(tmp_path)) as control:
        made: list[OpenIdProvider] = []

        def make(url: str) -> FastAPI:
            clock = SystemClock()
            made.append(OpenIdProvider(SqliteTables(control, clock), PlainSecrets(), clock, url=url, hasher=CHEAP))
            app = FastAPI()
            app.include_router(identity_routes(made[0]))
            return app

        with served(make):
            yield Provider(made[0])


def signed_in(url: str) -> str:
    """What a person's browser does: the address that it is sent to in the end."""
    with requests.Session() as browser:
        page = browser.get(url, timeout=10)
        assert page.url.split("?")[0].endswith("/oauth2/sign-in")
        fields = hidden(page, "/oauth2/sign-in") | {"email": EMAIL, "password": PASSWORD}  # type: ignore[arg-type]  # has .text too
        answer = browser.post(page.url.split("?")[0], data=fields, timeout=10, allow_redirects=False)
        answer = browser.get(page.url.split("/oauth2/")[0] + answer.headers["location"], timeout=10, allow_redirects=False)
        return str(answer.headers["location"])


def test_authlib_signs_a_person_in_refreshes_and_signs_out(provider: Provider) -> None:
    user = add_user(provider.issuer)
    with OAuth2Session(
        "cli",
        scope="openid email",
        redirect_uri="http://127.0.0.1:43210/callback",
        code_challenge_method="S256",
        token_endpoint_auth_method="none",
    ) as session:
        verifier, nonce = generate_token(48), generate_token(20)
        url, state = session.create_authorization_url(
            provider.metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce
        )
        answer = signed_in(url)
        assert answer.startswith("http://127.0.0.1:43210/callback?")
        token = session.fetch_token(
            provider.metadata["token_endpoint"], authorization_response=answer, code_verifier=verifier, state=state
        )
        claims = provider.claims(token["id_token"])
        assert claims["iss"] == provider.url == provider.metadata["issuer"] == parse_qs(urlsplit(answer).query)["iss"][0]
        assert (claims["aud"], claims["sub"], claims["nonce"], claims["email"]) == ("cli", user.subject, nonce, EMAIL)
        assert provider.claims(token["access_token"])["sub"] == user.subject
        renewed = session.refresh_token(provider.metadata["token_endpoint"], refresh_token=token["refresh_token"])
        assert renewed["refresh_token"] != token["refresh_token"]
        session.revoke_token(provider.metadata["revocation_endpoint"], token=renewed["refresh_token"])
        with pytest.raises(Exception, match="invalid_grant"):
            session.refresh_token(provider.metadata["token_endpoint"], refresh_token=renewed["refresh_token"])


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_gets_a_program_its_token(provider: Provider, method: str) -> None:
    client, secret = provider.issuer.clients.create("acme", name="nightly import")
    with OAuth2Session(client.id, secret, token_endpoint_auth_method=method) as session:
        token = session.fetch_token(provider.metadata["token_endpoint"], grant_type="client_credentials")
    claims = provider.claims(token["access_token"])
    assert (claims["sub"], claims["client_id"], claims["aud"]) == (client.id, client.id, "postroom")
    assert "refresh_token" not in token
