"""The provider's addresses: `issuer_routes(issuer)` is all of them, for any application to take in.

They stand in no OpenAPI document: clients find them by `/.well-known/openid-configuration`, as the standard wants it.
"""

from __future__ import annotations

from fastapi import APIRouter

from postroom.identity.issuer import Issuer
from postroom.identity.routes.account import account_routes
from postroom.identity.routes.authorize import authorize_routes
from postroom.identity.routes.discovery import discovery_routes
from postroom.identity.routes.invitation import invitation_routes
from postroom.identity.routes.sign_in import sign_in_routes
from postroom.identity.routes.sign_out import sign_out_routes
from postroom.identity.routes.token import token_routes
from postroom.identity.routes.userinfo import userinfo_routes


def issuer_routes(issuer: Issuer) -> APIRouter:
    """Without state of its own: everything is in the issuer's tables."""
    issuer.passwords.prepare()
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
        router.include_router(routes(issuer))
    return router
