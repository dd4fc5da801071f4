"""Routes of the OpenID provider.

They are not in the OpenAPI document: clients find them by `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0).
"""

from __future__ import annotations

from fastapi import APIRouter

from postroom.identity.provider import OpenIdProvider
from postroom.identity.routes.account import account_routes, invitation_routes, sign_in_routes
from postroom.identity.routes.oauth import authorize_routes, discovery_routes, sign_out_routes, token_routes


def identity_routes(provider: OpenIdProvider) -> APIRouter:
    """All routes of a provider, for a FastAPI application. Stateless: all state is in the provider's tables."""
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
    ):
        router.include_router(routes(provider))
    return router
