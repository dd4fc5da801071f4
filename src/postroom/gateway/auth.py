"""Authentication: an API key or an access token, then the key or membership record that has the tenant and role.

Access tokens are JWTs (RFC 7519, RFC 9068), checked against the pitfalls of RFC 8725:

- The key comes from the issuer's JWK set by the token's `kid`, and the key determines the algorithm (ES256 or RS256). A header
  that names another algorithm, or carries a key or the address of one, is refused.
- `iss` equals the issuer exactly; `exp` has not passed, `nbf` and `iat` have; clocks may differ by 30 seconds.
- `aud` has one of the audiences or, without `aud` (Amazon Cognito), `client_id` is one of them.
- It is an access token: `typ: at+jwt` in the header (RFC 9068), `token_use: access` (Cognito) or the claim `typ: Bearer`
  (Keycloak). ID tokens are refused.

A token is verified every `VERIFIED_S`; its membership is looked up every `KNOWN_S`, so a revoked key or a disabled tenant is
refused within seconds in every process. Both are cached under the credential's SHA-256, never the credential; refusals are not
cached. Every refusal has the same text; the reason is only in the log, without the credential.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.util import urlsafe_b64decode

from postroom.clock import Clock, Instant
from postroom.errors import Denied, NotFound, Unauthenticated
from postroom.gateway.jwks import JwksSource, VerifyingKey
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.memberships import Memberships
from postroom.ledger.tenants import Tenants
from postroom.ledger.ttl_cache import TtlCache
from postroom.model import access
from postroom.model.access import MAX_SUBJECT, Principal, PrincipalKind
from postroom.telemetry.logs import event_logger

LEEWAY_MS = 30_000
_ALGORITHMS = ("ES256", "RS256")
_MAX_HEADER = 512
_MAX_KID = 200
_FOREIGN_KEYS = frozenset({"jwk", "jku", "x5c", "x5u", "crit", "b64", "zip"})
_ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})


class InvalidToken(Exception):
    """The token is invalid. The reason is for the log, not for the caller."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """Verified claims."""

    subject: str
    client: str
    """The client that the token was issued to; empty if unknown."""
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class TokenExpectations:
    """Requirements on tokens."""

    issuer: str
    audiences: frozenset[str]


def verify(token: str, jwks: JwksSource, expected: TokenExpectations, *, now: Instant) -> TokenClaims:
    """The token's claims. Raises `InvalidToken`; `Unavailable` if the issuer's keys cannot be fetched."""
    header = _header(token)
    key = jwks.key(header["kid"])
    if key is None or key.algorithm != header["alg"]:
        raise InvalidToken("no key of the issuer verifies it")
    return _claims(_verify_signature(token, key), header, expected, now)


def _header(token: str) -> Mapping[str, Any]:
    """The header, not verified yet: enough to find the key."""
    first = token.partition(".")[0]
    if len(first) > _MAX_HEADER or token.count(".") != 2:
        raise InvalidToken("not a token")
    header = _object(first.encode())
    if header.get("alg") not in _ALGORITHMS or not _FOREIGN_KEYS.isdisjoint(header):
        raise InvalidToken("a header that is not accepted")
    if not _is_text(header.get("kid"), _MAX_KID):
        raise InvalidToken("no key id")
    return header


def _verify_signature(token: str, key: VerifyingKey) -> Mapping[str, Any]:
    registry = jws.JWSRegistry(algorithms=[key.algorithm], strict_check_header=False)
    try:
        jws.deserialize_compact(token, key.key, registry=registry)
    except (JoseError, ValueError, TypeError) as error:
        raise InvalidToken(f"not signed by the issuer: {type(error).__name__}") from error
    return _object(token.split(".")[1].encode())


def _claims(claims: Mapping[str, Any], header: Mapping[str, Any], expected: TokenExpectations, now: Instant) -> TokenClaims:
    subject, client = claims.get("sub"), claims.get("client_id", claims.get("azp", ""))
    if claims.get("iss") != expected.issuer:
        raise InvalidToken("another issuer")
    if not isinstance(subject, str) or not _is_text(subject, MAX_SUBJECT) or not isinstance(client, str):
        raise InvalidToken("no usable subject")
    if not _is_access_token(claims, header):
        raise InvalidToken("not an access token")
    if not _is_for(claims, expected.audiences):
        raise InvalidToken("for another audience")
    return TokenClaims(subject, client, _valid_until(claims, now))


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
    """Milliseconds, leeway included."""
    expires, begins, issued = (_milliseconds(claims.get(name)) for name in ("exp", "nbf", "iat"))
    if expires is None or now >= expires + LEEWAY_MS:
        raise InvalidToken("expired")
    if any(since is not None and since > now + LEEWAY_MS for since in (begins, issued)):
        raise InvalidToken("not valid yet")
    return Instant(expires + LEEWAY_MS)


def _milliseconds(seconds: object) -> int | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e11:
        raise InvalidToken("a time that is none")
    return int(seconds * 1_000)


def _object(segment: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(urlsafe_b64decode(segment))
    except ValueError as error:
        raise InvalidToken("not a token") from error
    if not isinstance(found, dict):
        raise InvalidToken("not a token")
    return found


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= most and value.isprintable()


MAX_CREDENTIAL = 8_192
KNOWN_S = 5.0
VERIFIED_S = 30.0
REMEMBERED = 10_000
LOOKING_UP = 20
"""Concurrent look-ups. They have their own threads, so that a hanging issuer delays no call with a cached credential."""
_log = event_logger(__name__)
_WORD = re.compile(r"[A-Za-z0-9._~+/=-]+")
"""RFC 6750 section 2.1. Two fields that a proxy joined with a comma do not match."""
_WORTHLESS = "these credentials are not valid here, or no longer"


class TokenAuthenticator:
    """Authenticates API keys and access tokens."""

    def __init__(
        self,
        memberships: Memberships,
        keys: ApiKeyRecords,
        tenants: Tenants,
        jwks: JwksSource,
        *,
        issuer: str,
        audiences: Collection[str],
        clock: Clock,
        members_of: str | None = None,
    ) -> None:
        """`members_of`: the issuer's name in memberships; None: as in tokens."""
        self._memberships = memberships
        self._keys = keys
        self._tenants = tenants
        self._jwks = jwks
        self._expected = TokenExpectations(issuer, frozenset(audiences))
        self._members_of = members_of or issuer
        self._clock = clock
        self._known: TtlCache[bytes, Principal] = TtlCache(clock, most=REMEMBERED)
        self._verified: TtlCache[bytes, TokenClaims] = TtlCache(clock, most=REMEMBERED)
        self._looking_up = anyio.CapacityLimiter(LOOKING_UP)

    async def authenticate(self, authorization: str | None) -> Principal:
        """Raises `Unauthenticated`; `Denied` if the caller has no tenant, or a disabled one."""
        credential, digest = _digested(authorization)
        known = self._known.get(digest)
        if known is not None:
            return known
        return await anyio.to_thread.run_sync(self._establish, credential, digest, limiter=self._looking_up)

    def authenticate_here(self, authorization: str | None) -> Principal:
        """As `authenticate`, in the calling thread: for a process that handles one request at a time."""
        credential, digest = _digested(authorization)
        return self._known.get(digest) or self._establish(credential, digest)

    def _establish(self, credential: str, digest: bytes) -> Principal:
        try:
            by_key = credential.startswith(access.KEY_PREFIX)
            principal, seconds = self._by_key(credential) if by_key else self._by_token(credential, digest)
        except InvalidToken as refused:
            _log.info("auth.credentials_refused", reason=str(refused))
            raise Unauthenticated(_WORTHLESS) from refused
        self._check_tenant(principal)
        self._known.put(digest, principal, seconds=min(KNOWN_S, seconds))
        return principal

    def _by_key(self, text: str) -> tuple[Principal, float]:
        """The key's owner, and for how many seconds it may be cached."""
        read = access.parse_key(text)
        key = self._keys.find(read.id) if read else None
        if key is None or not key.is_of(text):
            raise InvalidToken("no such key")
        left = VERIFIED_S if key.expires_at is None else (key.expires_at - self._clock.now()) / 1_000
        if left <= 0:
            raise InvalidToken(f"the key {key.id} has expired")
        self._keys.record_use(key)
        known = Principal(PrincipalKind.KEY, key.id, key.name, key.tenant, key.role, scopes=key.scopes, ends_at=key.expires_at)
        return known, left

    def _by_token(self, token: str, digest: bytes) -> tuple[Principal, float]:
        now = self._clock.now()
        claims = self._verified.get(digest)
        if claims is None:
            claims = verify(token, self._jwks, self._expected, now=now)
            self._verified.put(digest, claims, seconds=min(VERIFIED_S, (claims.expires_at - now) / 1_000))
        if now >= claims.expires_at:  # the cache uses the monotonic clock, which does not follow the wall clock
            raise InvalidToken("expired")
        return self._member(claims), (claims.expires_at - now) / 1_000

    def _member(self, claims: TokenClaims) -> Principal:
        found = self._memberships.find(self._members_of, claims.subject)
        if found is None:
            raise Denied(f"{claims.subject} is signed in, but belongs to no tenant here: an admin can add this subject")
        kind = PrincipalKind.CLIENT if claims.subject == claims.client else PrincipalKind.USER
        return Principal(kind, found.subject, found.name, found.tenant, found.role, operator=found.operator)

    def _check_tenant(self, principal: Principal) -> None:
        try:
            disabled = self._tenants.read(principal.tenant).disabled
        except NotFound:
            disabled = True
        if disabled:
            raise Denied(f"the tenant {principal.tenant} is disabled; ask the operator of this installation")


def _digested(authorization: str | None) -> tuple[str, bytes]:
    credential = credential_of(authorization)
    return credential, hashlib.sha256(credential.encode()).digest()


def credential_of(authorization: str | None) -> str:
    """The token after `Bearer` (RFC 6750 section 2.1; case-insensitive by RFC 9110 section 11.1). Raises `Unauthenticated`."""
    scheme, _, credential = (authorization or "").partition(" ")
    credential = credential.strip(" ")
    if scheme.lower() != "bearer" or not credential:
        raise Unauthenticated("this needs an Authorization field: Bearer and an access token or an API key")
    if len(credential) > MAX_CREDENTIAL or not _WORD.fullmatch(credential):
        raise Unauthenticated(_WORTHLESS)
    return credential
