"""An issuer for tests: makes keys, publishes them, signs tokens good and bad; and an authenticator that trusts it."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import LocalJwks
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.memberships import Memberships
from postroom.ledger.tenants import Tenants
from postroom.model.access import Membership, Principal, Role
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Tables
from tests.fakes.clock import ManualClock

ISSUER = "https://id.example/pool"
AUDIENCE = "postroom"
RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})
"""Made once: it takes a while."""


def new_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid})


@dataclass
class Issuer:
    """See the module's text."""

    clock: ManualClock
    keys: list[ECKey | RSAKey] = field(default_factory=lambda: [new_key("one"), RSA_KEY])
    asked: int = 0

    def jwks(self) -> dict[str, Any]:
        self.asked += 1
        return {"keys": [key.as_dict(private=False) | {"kid": key.kid, "use": "sig"} for key in self.keys]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Of a good access token; None removes one."""
        now = self.clock.now() // 1_000
        good = {"iss": ISSUER, "sub": "ann", "aud": AUDIENCE, "client_id": "console", "iat": now, "exp": now + 600, "jti": "1"}
        return {name: value for name, value in (good | changed).items() if value is not None}

    def token(self, *, header: dict[str, Any] | None = None, key: ECKey | RSAKey | None = None, **claims: Any) -> str:
        """A good access token, but for what is said."""
        signing = key or self.keys[0]
        alg = "RS256" if isinstance(signing, RSAKey) else "ES256"
        head = {"alg": alg, "kid": self.keys[0].kid if key is None else signing.kid, "typ": "at+jwt"} | (header or {})
        head = {name: value for name, value in head.items() if value is not None}
        return signed(head, json.dumps(self.claims(**claims)).encode(), signing, alg)


def signed(head: dict[str, Any], payload: bytes, key: ECKey | RSAKey | bytes, alg: str) -> str:
    """Whatever the header says: no library would sign most of these. Bytes: a shared secret (HS256)."""
    start = f"{encoded(json.dumps(head).encode())}.{encoded(payload)}"
    if isinstance(key, bytes):
        return f"{start}.{encoded(hmac.digest(key, start.encode(), 'sha256'))}"
    return f"{start}.{encoded(jws.JWSRegistry(algorithms=[alg]).get_alg(alg).sign(start.encode(), key))}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextmanager
def open_gate(directory: Path) -> Iterator[Gate]:
    """On tables of its own."""
    clock = ManualClock()
    with closing(open_control(directory)) as database:
        yield Gate(SqliteTables(database, clock), clock)


@dataclass
class Gate:
    """An authenticator and everything behind it."""

    tables: Tables
    clock: ManualClock

    def __post_init__(self) -> None:
        self.issuer = Issuer(self.clock)
        self.members = Memberships(self.tables, self.clock)
        self.keys = ApiKeyRecords(self.tables, self.clock)
        self.tenants = Tenants(self.tables, self.clock)
        self.tenants.create("acme")
        self.members.grant(Membership(ISSUER, "ann", "acme", Role.ADMIN, "ann@a.example"))
        self.authenticator = self.another()

    def another(self) -> TokenAuthenticator:
        """As in another process."""
        return TokenAuthenticator(
            self.members,
            self.keys,
            self.tenants,
            LocalJwks(self.issuer.jwks, self.clock),
            issuer=ISSUER,
            audiences=(AUDIENCE,),
            clock=self.clock,
        )

    def who(self, credential: str, scheme: str = "Bearer") -> Principal:
        return self.field(f"{scheme} {credential}")

    def field(self, authorization: str | None) -> Principal:
        return anyio.run(self.authenticator.authenticate, authorization)
