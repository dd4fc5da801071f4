"""The provider's addresses: `issuer_routes(issuer)` is all of them, for any application to take in.

They stand in no OpenAPI document: clients find them by `/.well-known/openid-configuration`, as the standard wants it.
"""

from __future__ import annotations

from fastapi import APIRouter

from postroom.identity.provider import OpenIdProvider
from postroom.identity.routes.account import account_routes, invitation_routes, sign_in_routes
from postroom.identity.routes.oauth import authorize_routes, discovery_routes, sign_out_routes, token_routes, userinfo_routes


def identity_routes(provider: OpenIdProvider) -> APIRouter:
    """Without state of its own: everything is in the issuer's tables."""
    provider.passwords.prepare()
    router = APIRouter(include_in_schema=False)
    for routes in (
        discovery_routes,
        authorize_routes,
        sign_in_routes,
        sign_out_routes,
        invitation_routes,
        account_routes,
        token_routes,
        userinfo_routes,
    ):
        router.include_router(routes(provider))
    return router
