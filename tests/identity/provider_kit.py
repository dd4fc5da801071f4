"""An issuer for tests: real tables in a temporary directory, a clock that moves when told, cheap password hashes; and a browser for it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2 as httpx
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient

from postroom.identity.credentials import code_at
from postroom.identity.provider import OpenIdProvider
from postroom.identity.routes import identity_routes
from postroom.identity.signing_keys import KeyRotation
from postroom.identity.users import User
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Tables
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets

URL = "http://door.example"
EMAIL = "ada@example.org"
PASSWORD = "seven quiet otters"
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
CALLBACK = f"{URL}/callback"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@contextmanager
def open_tables(root: Path, clock: ManualClock) -> Iterator[SqliteTables]:
    with closing(open_control(root)) as control:
        yield SqliteTables(control, clock)


def provider_on(tables: Tables, clock: ManualClock, *, url: str = URL, rotation: KeyRotation | None = None) -> OpenIdProvider:
    return OpenIdProvider(tables, PlainSecrets(), clock, url=url, rotation=rotation, hasher=CHEAP)


def add_user(provider: OpenIdProvider, email: str = EMAIL, password: str = PASSWORD) -> User:
    """Somebody who can sign in."""
    return provider.users.create(email, password=provider.passwords.hash(password, email=email))


def enrol(provider: OpenIdProvider, subject: str) -> str:
    """Turn the second factor on; its secret. The present half minute's code is used up by it."""
    user = provider.account.propose(provider.users.get(subject))
    secret = provider.second_factor.proposal(user)
    assert secret is not None
    provider.account.confirm(user, totp_code(provider, secret), password=PASSWORD, address="192.0.2.9")
    return secret


def totp_code(provider: OpenIdProvider, secret: str) -> str:
    return code_at(secret, provider.clock.now())


class Browser:
    """Keeps cookies, fills in forms, follows no redirect to elsewhere."""

    def __init__(self, provider: OpenIdProvider, address: str = "192.0.2.1") -> None:
        app = FastAPI()
        app.include_router(identity_routes(provider))
        self.client = TestClient(app, base_url=provider.url, follow_redirects=False, client=(address, 50_000))

    def get(self, path: str, **parameters: str) -> httpx.Response:
        return self.client.get(path, params=parameters or None)

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.client.post(path, data=fields)

    def submit(self, shown: httpx.Response, action: str, **fields: str) -> httpx.Response:
        """The form of that action, as it stands on the page, with these fields filled in."""
        return self.post(action, **(hidden(shown, action) | fields))

    def authorize(self, **changed: str) -> httpx.Response:
        return self.get("/oauth2/authorize", **authorization_parameters(**changed))

    def sign_in(self, return_path: str = "/oauth2/account", email: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
        page = self.get("/oauth2/sign-in", next=return_path)
        return self.submit(page, "/oauth2/sign-in", email=email, password=password)

    def code(self, **changed: str) -> str:
        """A code, of somebody who is signed in."""
        return answered(self.authorize(**changed))["code"]

    def token(self, **fields: str) -> httpx.Response:
        return self.post("/oauth2/token", **({"client_id": "console"} | fields))

    def redeem(self, code: str, **changed: str) -> httpx.Response:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        return self.token(**(fields | changed))

    def refresh(self, token: str) -> httpx.Response:
        return self.token(grant_type="refresh_token", refresh_token=token)

    def tokens(self) -> dict[str, Any]:
        """Of a new sign-in."""
        self.sign_in()
        answer = self.redeem(self.code())
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens


def authorization_parameters(**changed: str) -> dict[str, str]:
    """A request of the console; an empty value takes the parameter away."""
    usual = {
        "response_type": "code",
        "client_id": "console",
        "redirect_uri": CALLBACK,
        "scope": "openid email",
        "state": "s-1",
        "nonce": "n-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in (usual | changed).items() if value}


def return_path_to(**changed: str) -> str:
    return f"/oauth2/authorize?{urlencode(authorization_parameters(**changed))}"


def answered(response: httpx.Response) -> dict[str, str]:
    """The parameters of a redirect's address."""
    assert response.status_code == 303, response.text
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}


def hidden(shown: httpx.Response, action: str) -> dict[str, str]:
    """The hidden fields of the first form of that action."""
    shape = r'<form method="post" action="([^"]*)">(.*?)</form>'
    forms = [body for named, body in re.findall(shape, shown.text, re.DOTALL) if unescape(named) == action]
    assert forms, shown.text
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', forms[0])
    return {name: unescape(value) for name, value in found}
