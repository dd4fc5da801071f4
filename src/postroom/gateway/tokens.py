"""Access tokens (JWT, RFC 7519 and 9068): what must be true of one before it is believed. RFC 8725 is the list of traps.

- The key comes from the issuer's JWK set by the token's `kid`, and the key says which algorithm (ES256 or RS256): a header that
  names another is refused, and so is one that brings a key or the address of one.
- `iss` is the issuer, to the letter; `exp` has not passed, `nbf` and `iat` have; clocks may differ by 30 seconds.
- It is for us: `aud` has one of the audiences, or, where there is no `aud` (Amazon Cognito), `client_id` is one of them.
- It is an access token, and says so: `typ: at+jwt` in its header (RFC 9068), `token_use: access` (Cognito) or `typ: Bearer` among
  its claims (Keycloak). An ID token is a receipt for the client that signed somebody in; it opens nothing here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode

from postroom.clock import Instant
from postroom.gateway.jwks import JwksSource, VerifyingKey
from postroom.model.access import MAX_SUBJECT

LEEWAY_MS = 30_000
_ALGORITHMS = ("ES256", "RS256")
_MAX_HEADER = 512
_MAX_KID = 200
_FOREIGN_KEYS = frozenset({"jwk", "jku", "x5c", "x5u", "crit", "b64", "zip"})
_ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})


class Refused(Exception):
    """The token is worth nothing; the reason is for the log, not for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What is believed of a token."""

    subject: str
    client: str
    """Whose client it was issued to; "" where it is not told."""
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class Expected:
    """What tokens must be like here."""

    issuer: str
    audiences: frozenset[str]


def verify(token: str, jwks: JwksSource, expected: Expected, *, now: Instant) -> Claims:
    """Its claims. `Refused`; `Unavailable`: the issuer's keys cannot be had now."""
    header = _header(token)
    key = jwks.key(header["kid"])
    if key is None or key.algorithm != header["alg"]:
        raise Refused("no key of the issuer verifies it")
    return _claims(_verified(token, key), header, expected, now)


def _header(token: str) -> Mapping[str, Any]:
    """As far as it can be trusted: not at all, but enough to look for the key."""
    first = token.partition(".")[0]
    if len(first) > _MAX_HEADER or token.count(".") != 2:
        raise Refused("not a token")
    header = _object(first.encode())
    if header.get("alg") not in _ALGORITHMS or not _FOREIGN_KEYS.isdisjoint(header):
        raise Refused("a header that is not accepted")
    if not _is_text(header.get("kid"), _MAX_KID):
        raise Refused("no key id")
    return header


def _verified(token: str, key: VerifyingKey) -> Mapping[str, Any]:
    registry = jws.JWSRegistry(algorithms=[key.algorithm], strict_check_header=False)
    try:
        jws.deserialize_compact(token, key.key, registry=registry)
    except (JoseError, ValueError, TypeError) as error:
        raise Refused(f"not signed by the issuer: {type(error).__name__}") from error
    return _object(token.split(".")[1].encode())


def _claims(claims: Mapping[str, Any], header: Mapping[str, Any], expected: Expected, now: Instant) -> Claims:
    subject, client = claims.get("sub"), claims.get("client_id", claims.get("azp", ""))
    if claims.get("iss") != expected.issuer:
        raise Refused("another issuer")
    if not isinstance(subject, str) or not _is_text(subject, MAX_SUBJECT) or not isinstance(client, str):
        raise Refused("no usable subject")
    if not _is_access_token(claims, header):
        raise Refused("not an access token")
    if not _is_for(claims, expected.audiences):
        raise Refused("for another audience")
    return Claims(subject, client, _valid_until(claims, now))


def _is_access_token(claims: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    named = header.get("typ")
    if claims.get("token_use", "access") != "access":
        return False
    rfc_9068 = isinstance(named, str) and named.lower() in _ACCESS_TYPES
    return rfc_9068 or claims.get("token_use") == "access" or claims.get("typ") == "Bearer"


def _is_for(claims: Mapping[str, Any], audiences: Collection[str]) -> bool:
    named = claims.get("aud")
    if named is None:
        named = claims.get("client_id")
    listed = named if isinstance(named, list) else [named]
    return any(isinstance(one, str) and one in audiences for one in listed)


def _valid_until(claims: Mapping[str, Any], now: Instant) -> Instant:
    """Milliseconds; the leeway is in it."""
    expires, begins, issued = (_milliseconds(claims.get(name)) for name in ("exp", "nbf", "iat"))
    if expires is None or now >= expires + LEEWAY_MS:
        raise Refused("expired")
    if any(since is not None and since > now + LEEWAY_MS for since in (begins, issued)):
        raise Refused("not valid yet")
    return Instant(expires + LEEWAY_MS)


def _milliseconds(seconds: object) -> int | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e11:
        raise Refused("a time that is none")
    return int(seconds * 1_000)


def _object(segment: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(urlsafe_b64decode(segment))
    except ValueError as error:
        raise Refused("not a token") from error
    if not isinstance(found, dict):
        raise Refused("not a token")
    return found


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= most and value.isprintable()
