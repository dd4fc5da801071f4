"""Who an access token is about (OpenID Connect Core §5.3)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from postroom.errors import Unauthenticated
from postroom.identity.issuer import Issuer
from postroom.identity.refusals import Refused
from postroom.identity.routing import NO_STORE, ProtocolRoute


def userinfo_routes(issuer: Issuer) -> APIRouter:
    """For clients."""
    router = APIRouter(route_class=ProtocolRoute)

    @router.get("/oauth2/userinfo")
    @router.post("/oauth2/userinfo")
    def userinfo(request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refused("invalid_token", "an access token is needed", status=401, challenge="Bearer")
        try:
            claims = issuer.tokens.read_access(token.strip())
        except Unauthenticated as error:
            raise _invalid() from error
        person = issuer.people.find(claims["sub"])
        if person is None or person.disabled:
            raise _invalid()
        scopes = claims.get("scope", "").split()
        if "openid" not in scopes:
            raise Refused(
                "insufficient_scope", "this needs the scope openid", status=403, challenge='Bearer error="insufficient_scope"'
            )
        answer = {"sub": person.subject} | ({"email": person.email} if "email" in scopes else {})
        return JSONResponse(answer, headers=NO_STORE)

    return router


def _invalid() -> Refused:
    challenge = 'Bearer error="invalid_token"'
    return Refused("invalid_token", "the access token is unknown or too old", status=401, challenge=challenge)
