"""Codes, refresh tokens and signed tokens.

- **Code** (RFC 6749 4.1.2): stored as a digest. Redeeming is one write: mark the code, create its family. A crash after it
  leaves a used code and a refresh token that no client has received.
- **Family**: the refresh tokens of one sign-in, one item with the digest of the current token. A token has two halves: the
  family's name, as secret as the rest, and its own secret. An old token means that two parties hold it, so the family ends
  (RFC 9700 4.14.2).
- Of two requests with the same code or token at the same moment one write wins; the other counts as reuse and ends the
  family.
- **Access tokens** (RFC 9068) and **ID tokens** (OpenID Connect Core 2) are signed and not stored, so they are short-lived.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Unauthenticated
from postroom.identity.credentials import digest, new_token
from postroom.identity.oauth import OAuthError
from postroom.identity.signing_keys import ALGORITHM, SigningKeys
from postroom.platform.ports.tables import Delete, Expect, Item, ItemKey, Put, Tables
from postroom.telemetry.logs import event_logger

CODE_S = 60
FAMILY_S = 30 * 86_400
"""From the sign-in on, however often it is refreshed."""
_REMEMBERED_S = 86_400
"""A code that comes again within a day ends what it gave."""
_CODES, _FAMILIES = "#issuer#codes", "#issuer#families"
_NAME_LENGTH = 43
_log = event_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a user granted to a client, and how the user signed in."""

    client: str
    subject: str
    epoch: int
    scope: tuple[str, ...]
    signed_in_at: Instant
    methods: tuple[str, ...]
    nonce: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationCode:
    """Stored record of a code."""

    grant: Grant
    redirect_uri: str
    challenge: str
    good_until: Instant
    family: str | None = None
    """The family that it gave, by its key; None: not used yet. "": burnt."""


class IssuedGrant(NamedTuple):
    """What a client gets: who, and the refresh token."""

    grant: Grant
    refresh_token: str


class Grants:
    """Repository of codes and refresh tokens."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def code(self, grant: Grant, *, redirect_uri: str, challenge: str) -> str:
        """A new code."""
        token, now = new_token(self._clock), self._clock.now()
        until = Instant(now + CODE_S * 1_000)
        code = AuthorizationCode(grant=grant, redirect_uri=redirect_uri, challenge=challenge, good_until=until)
        self._tables.write([Put(_code_key(token), _data(code), Expect.ABSENT, Instant(now + _REMEMBERED_S * 1_000))])
        return token

    def redeem(self, token: str, *, client: str, redirect_uri: str, challenge: str) -> IssuedGrant:
        """Tokens for a code; any try uses it up, a second one ends what the first gave. `OAuthError`."""
        item = self._tables.get(_code_key(token))
        if item is None:
            raise _refused("the code is unknown or too old")
        code = _convert(item, AuthorizationCode)
        if code.family is not None:
            _log.warning("oauth.code_reused", subject=code.grant.subject, client=code.grant.client)
            self._end(code.family)
            raise _refused("the code was used before: everything it gave is revoked")
        fits = (code.grant.client, code.redirect_uri, code.challenge) == (client, redirect_uri, challenge)
        if not fits or code.good_until <= self._clock.now():
            self._burn(item, code)
            raise _refused("the code is too old, or not for this client, redirect_uri and code_verifier")
        return self._redeemed(item, code, token)

    def refresh(self, token: str, *, client: str) -> IssuedGrant:
        """The next refresh token of the family; an old one ends it. `OAuthError`."""
        item = self._tables.get(_family_key(token))
        if item is None or item.data["grant"]["client"] != client:
            raise _refused("the refresh token is unknown, revoked or too old")
        if item.data["current"] != digest(token):
            _log.warning("oauth.refresh_token_reused", subject=item.data["grant"]["subject"], client=client)
            self._end(item.key.sort)
            raise _refused("the refresh token was used before: sign in again")
        renewed = token[:_NAME_LENGTH] + new_token(self._clock)
        put = Put(item.key, {**item.data, "current": digest(renewed)}, item.version, item.expires_at)
        try:
            self._tables.write([put])
        except Conflict as conflict:  # the same token at the same moment
            self._end(item.key.sort)
            raise _refused("the refresh token was used before: sign in again") from conflict
        return IssuedGrant(_grant(item), renewed)

    def revoke(self, token: str, *, client: str) -> None:
        """End a refresh token's family (RFC 7009), if it is that client's; an unknown token is no error."""
        item = self._tables.get(_family_key(token))
        if item is not None and item.data["grant"]["client"] == client:
            self._end(item.key.sort)

    def _redeemed(self, item: Item, code: AuthorizationCode, token: str) -> IssuedGrant:
        refresh = new_token(self._clock) + new_token(self._clock)
        key = _family_key(refresh)
        used = Put(item.key, _data(replace(code, family=key.sort)), item.version, item.expires_at)
        data = {"grant": _data(code.grant), "current": digest(refresh)}
        expires = Instant(self._clock.now() + FAMILY_S * 1_000)
        try:
            self._tables.write([used, Put(key, data, Expect.ABSENT, expires)])
        except Conflict as conflict:  # the same code at the same moment: the winner's family ends as well
            self._end_family_of(token)
            raise _refused("the code was used before: everything it gave is revoked") from conflict
        return IssuedGrant(code.grant, refresh)

    def _burn(self, item: Item, code: AuthorizationCode) -> None:
        try:
            self._tables.write([Put(item.key, _data(replace(code, family="")), item.version, item.expires_at)])
        except Conflict:  # used by another request at this moment
            return

    def _end_family_of(self, token: str) -> None:
        item = self._tables.get(_code_key(token))
        if item is not None:
            self._end(_convert(item, AuthorizationCode).family)

    def _end(self, family: str | None) -> None:
        if family:
            self._tables.write([Delete(ItemKey(_FAMILIES, family))])


def _code_key(token: str) -> ItemKey:
    return ItemKey(_CODES, digest(token))


def _family_key(token: str) -> ItemKey:
    return ItemKey(_FAMILIES, digest(token[:_NAME_LENGTH]))


def _refused(text: str) -> OAuthError:
    return OAuthError("invalid_grant", text)


def _data(record: AuthorizationCode | Grant) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(record)
    return data


def _grant(item: Item) -> Grant:
    try:
        return msgspec.convert(item.data["grant"], Grant)
    except msgspec.ValidationError as error:
        raise Corrupt(f"a family of refresh tokens cannot be read: {error}") from error


def _convert(item: Item, kind: type[AuthorizationCode]) -> AuthorizationCode:
    try:
        return msgspec.convert(item.data, kind)
    except msgspec.ValidationError as error:
        raise Corrupt(f"an authorization code cannot be read: {error}") from error


AUDIENCE = "postroom"
ACCESS_S = 600
ID_S = 600
ACCESS_TYPE = "at+jwt"


class Tokens:
    """Signs access and ID tokens, and verifies those it signed."""

    def __init__(self, keys: SigningKeys, clock: Clock, *, url: str) -> None:
        self._keys = keys
        self._clock = clock
        self._url = url

    def access(self, subject: str, *, client: str, scope: tuple[str, ...]) -> str:
        """An access token for the API (RFC 9068). A client's own token has its client id as `subject`."""
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
