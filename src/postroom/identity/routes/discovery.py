"""What a client must know of this provider (OpenID Connect Discovery 1.0), and its public keys."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from postroom.identity import html
from postroom.identity.authorization import SCOPES
from postroom.identity.clients import CODE, CREDENTIALS, REFRESH
from postroom.identity.issuer import Issuer
from postroom.identity.keys import ALGORITHM
from postroom.identity.routing import ProtocolRoute

KEYS_MAX_AGE_S = 300


def discovery_routes(issuer: Issuer) -> APIRouter:
    """For anybody; may be cached for minutes."""
    router = APIRouter(route_class=ProtocolRoute)
    cached = {"Cache-Control": f"public, max-age={KEYS_MAX_AGE_S}", "Access-Control-Allow-Origin": "*"}

    @router.get("/.well-known/openid-configuration")
    def configuration() -> Response:
        return JSONResponse(metadata(issuer.url), headers=cached)

    @router.get("/oauth2/jwks")
    def jwks() -> Response:
        return JSONResponse(issuer.keys.published(), headers=cached, media_type="application/jwk-set+json")

    @router.get("/oauth2/style.css")
    def style() -> Response:
        return html.style()

    return router


def metadata(url: str) -> dict[str, Any]:
    """The document."""
    methods = ["client_secret_basic", "client_secret_post", "none"]
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/oauth2/authorize",
        "token_endpoint": f"{url}/oauth2/token",
        "userinfo_endpoint": f"{url}/oauth2/userinfo",
        "revocation_endpoint": f"{url}/oauth2/revoke",
        "end_session_endpoint": f"{url}/oauth2/logout",
        "jwks_uri": f"{url}/oauth2/jwks",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [CODE, REFRESH, CREDENTIALS],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "scopes_supported": list(SCOPES),
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "azp", "email"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "authorization_response_iss_parameter_supported": True,
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }
