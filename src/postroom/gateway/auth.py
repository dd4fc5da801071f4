"""Who calls: an API key or an access token, then the membership or key record that says which tenant and role that is.

A token is verified every `VERIFIED_S`; whose it is, is looked up again every `KNOWN_S`: what is revoked, and a tenant that is
disabled, stops within seconds in every process. Both are remembered under the credential's SHA-256, never the credential. What
is refused is not remembered.

Whoever sends something worthless hears one sentence for all of it; the reason stands in the log, without the credential.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection

import anyio
import anyio.to_thread

from postroom.clock import Clock
from postroom.errors import Denied, NotFound, Unauthenticated
from postroom.gateway.jwks import JwksSource
from postroom.gateway.tokens import Claims, Expected, Refused, verify
from postroom.ledger.api_keys import ApiKeyRecords
from postroom.ledger.memberships import Memberships
from postroom.ledger.tenants import Tenants
from postroom.ledger.ttl_cache import TtlCache
from postroom.model import access
from postroom.model.access import Principal, PrincipalKind

MAX_CREDENTIAL = 8_192
KNOWN_S = 5.0
VERIFIED_S = 30.0
REMEMBERED = 10_000
LOOKING_UP = 20
"""Look-ups at the same time: threads of their own count, so that an issuer that hangs holds up no call whose caller is known."""
_LOG = logging.getLogger(__name__)
_WORD = re.compile(r"[A-Za-z0-9._~+/=-]+")
"""RFC 6750 §2.1: so two fields that somebody on the way joined with a comma are none."""
_WORTHLESS = "these credentials are not valid here, or no longer"


class TokenAuthenticator:
    """`gateway.access.Authenticator`. See the module's text."""

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
        """`members_of`: what memberships call the issuer; None: as its tokens do."""
        self._memberships = memberships
        self._keys = keys
        self._tenants = tenants
        self._jwks = jwks
        self._expected = Expected(issuer, frozenset(audiences))
        self._members_of = members_of or issuer
        self._clock = clock
        self._known: TtlCache[bytes, Principal] = TtlCache(clock, most=REMEMBERED)
        self._verified: TtlCache[bytes, Claims] = TtlCache(clock, most=REMEMBERED)
        self._looking_up = anyio.CapacityLimiter(LOOKING_UP)

    async def authenticate(self, authorization: str | None) -> Principal:
        """See the protocol. `Denied`: known, but of no tenant, or of one that is disabled."""
        credential, digest = _digested(authorization)
        known = self._known.get(digest)
        if known is not None:
            return known
        return await anyio.to_thread.run_sync(self._establish, credential, digest, limiter=self._looking_up)

    def authenticate_here(self, authorization: str | None) -> Principal:
        """The same, in the caller's own thread: for a process in which nothing else goes on meanwhile."""
        credential, digest = _digested(authorization)
        return self._known.get(digest) or self._establish(credential, digest)

    def _establish(self, credential: str, digest: bytes) -> Principal:
        try:
            by_key = credential.startswith(access.KEY_PREFIX)
            principal, seconds = self._by_key(credential) if by_key else self._by_token(credential, digest)
        except Refused as refused:
            _LOG.info("refused credentials: %s", refused)
            raise Unauthenticated(_WORTHLESS) from refused
        self._check_tenant(principal)
        self._known.put(digest, principal, seconds=min(KNOWN_S, seconds))
        return principal

    def _by_key(self, text: str) -> tuple[Principal, float]:
        """Whose key it is, and for how many seconds at most."""
        read = access.parse_key(text)
        key = self._keys.find(read.id) if read else None
        if key is None or not key.is_of(text):
            raise Refused("no such key")
        left = VERIFIED_S if key.expires_at is None else (key.expires_at - self._clock.now()) / 1_000
        if left <= 0:
            raise Refused(f"the key {key.id} has expired")
        self._keys.used(key)
        known = Principal(PrincipalKind.KEY, key.id, key.name, key.tenant, key.role, scopes=key.scopes, ends_at=key.expires_at)
        return known, left

    def _by_token(self, token: str, digest: bytes) -> tuple[Principal, float]:
        now = self._clock.now()
        claims = self._verified.get(digest)
        if claims is None:
            claims = verify(token, self._jwks, self._expected, now=now)
            self._verified.put(digest, claims, seconds=min(VERIFIED_S, (claims.expires_at - now) / 1_000))
        if now >= claims.expires_at:  # remembered by the steady clock, which does not follow the wall's
            raise Refused("expired")
        return self._member(claims), (claims.expires_at - now) / 1_000

    def _member(self, claims: Claims) -> Principal:
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
    """What stands after `Bearer` (RFC 6750 §2.1, in any case: RFC 9110 §11.1). `Unauthenticated`: something else."""
    scheme, _, credential = (authorization or "").partition(" ")
    credential = credential.strip(" ")
    if scheme.lower() != "bearer" or not credential:
        raise Unauthenticated("this needs an Authorization field: Bearer and an access token or an API key")
    if len(credential) > MAX_CREDENTIAL or not _WORD.fullmatch(credential):
        raise Unauthenticated(_WORTHLESS)
    return credential
