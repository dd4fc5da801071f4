"""Signed tokens: for the door (RFC 9068) and about the person, for the client (OpenID Connect Core §2).

Nothing of them is stored. What is stored decides whether there will be another: so an access token is short.
"""

from __future__ import annotations

from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError

from postroom.clock import Clock
from postroom.errors import Unauthenticated
from postroom.identity.grants import Grant
from postroom.identity.keys import ALGORITHM, Keys
from postroom.identity.opaque import new_token

AUDIENCE = "postroom"
ACCESS_S = 600
ID_S = 600
ACCESS_TYPE = "at+jwt"


class Tokens:
    """Makes them, and reads its own."""

    def __init__(self, keys: Keys, clock: Clock, *, url: str) -> None:
        self._keys = keys
        self._clock = clock
        self._url = url

    def access(self, subject: str, *, client: str, scope: tuple[str, ...]) -> str:
        """For the door; a program's own has its client id as subject."""
        claims = {
            "sub": subject,
            "aud": AUDIENCE,
            "client_id": client,
            "jti": new_token(self._clock)[:22],
            "scope": " ".join(scope),
        }
        return self._signed(claims, ACCESS_TYPE, ACCESS_S)

    def identity(self, grant: Grant, *, email: str) -> str:
        """For the client: who signed in, when and how."""
        claims: dict[str, Any] = {"sub": grant.subject, "aud": grant.client, "azp": grant.client}
        claims |= {"auth_time": grant.signed_in_at // 1_000, "amr": list(grant.methods)}
        claims |= {"nonce": grant.nonce} if grant.nonce is not None else {}
        claims |= {"email": email} if "email" in grant.scope else {}
        return self._signed(claims, "JWT", ID_S)

    def read_access(self, token: str) -> dict[str, Any]:
        """The claims of an access token of ours. `Unauthenticated`."""
        claims = self._read(token, ACCESS_TYPE)
        if claims.get("aud") != AUDIENCE or claims["exp"] * 1_000 <= self._clock.now():
            raise Unauthenticated("the access token is not for this, or too old")
        return claims

    def read_hint(self, token: str) -> dict[str, Any]:
        """The claims of an ID token of ours, however old (RP-Initiated Logout §2). `Unauthenticated`."""
        return self._read(token, "JWT")

    def _signed(self, claims: dict[str, Any], kind: str, lasts_s: int) -> str:
        name, key = self._keys.signing()
        now = self._clock.now() // 1_000
        header = {"alg": ALGORITHM, "kid": name, "typ": kind}
        return jwt.encode(header, {"iss": self._url, **claims, "iat": now, "exp": now + lasts_s}, key, algorithms=[ALGORITHM])

    def _read(self, token: str, kind: str) -> dict[str, Any]:
        try:
            read = jwt.decode(token, self._keys.verifying(), algorithms=[ALGORITHM])
        except (JoseError, ValueError, TypeError) as error:  # the last: a header of other types than the RFC's
            raise Unauthenticated("not a token of this issuer") from error
        if read.header.get("typ") != kind or read.claims.get("iss") != self._url or not isinstance(read.claims.get("exp"), int):
            raise Unauthenticated("not a token of this issuer, or another kind")
        return dict(read.claims)
