"""Who comes in, put together: whose tokens are believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import Invalid
from postroom.gateway.auth import TokenAuthenticator
from postroom.gateway.jwks import HttpJwks, LocalJwks
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores

if TYPE_CHECKING:
    from postroom.identity.provider import OpenIdProvider


def authenticator(settings: Settings, stores: Stores, ledger: Ledger, *, issuer: OpenIdProvider | None) -> TokenAuthenticator:
    """Believes the built-in issuer, or the one that the settings name; never both. `Invalid`: for nobody in particular."""
    if issuer is None and not settings.audience:
        raise Invalid("POSTROOM_ISSUER needs POSTROOM_AUDIENCE: else tokens for any other application would be taken too")
    clock = stores.clock
    if issuer is None:
        jwks = HttpJwks(settings.issuer or "", clock, at=settings.jwks_url)
    else:
        jwks = LocalJwks(issuer.keys.published, clock)
    return TokenAuthenticator(
        ledger.memberships,
        ledger.keys,
        ledger.tenants,
        jwks,
        issuer=settings.issuer or settings.api_base_url,
        audiences=settings.audience if issuer is None else (issuer.audience,),
        clock=clock,
        members_of=None if issuer is None else issuer.membership_issuer,
    )
