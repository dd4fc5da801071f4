"""Tokens for codes, refresh tokens and clients' secrets (RFC 6749 §3.2), and their revocation (RFC 7009)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from postroom.errors import Unauthenticated
from postroom.identity.client_authentication import client_of
from postroom.identity.clients import CODE, CREDENTIALS, REFRESH, Client
from postroom.identity.forms import Form
from postroom.identity.grants import Issued
from postroom.identity.issuer import Issuer
from postroom.identity.refusals import Refused
from postroom.identity.routing import NO_STORE, ProtocolRoute
from postroom.identity.tokens import ACCESS_S

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def token_routes(issuer: Issuer) -> APIRouter:
    """For clients."""
    router = APIRouter(route_class=ProtocolRoute)

    @router.post("/oauth2/token")
    def token(request: Request, form: Form) -> Response:
        client = client_of(form, request.headers.get("authorization"), issuer.clients)
        kind = form.get("grant_type", "")
        if kind not in {CODE, REFRESH, CREDENTIALS}:
            raise Refused("unsupported_grant_type", f"grant_type must be {CODE}, {REFRESH} or {CREDENTIALS}")
        if kind not in client.grants:
            raise Refused("unauthorized_client", f"this client may not use {kind}")
        answer = {CODE: _by_code, REFRESH: _by_refresh, CREDENTIALS: _by_secret}[kind](issuer, client, form)
        return JSONResponse(answer, headers=NO_STORE)

    @router.post("/oauth2/revoke")
    def revoke(request: Request, form: Form) -> Response:
        client = client_of(form, request.headers.get("authorization"), issuer.clients)
        given = _needed(form, "token")
        if _is_access(issuer, given):
            raise Refused("unsupported_token_type", "an access token runs out by itself within minutes")
        issuer.grants.revoke(given, client=client.id)
        return Response(status_code=200, headers=NO_STORE)

    return router


def _by_code(issuer: Issuer, client: Client, form: Mapping[str, str]) -> dict[str, object]:
    code, redirect_uri = _needed(form, "code"), _needed(form, "redirect_uri")
    verifier = _needed(form, "code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise Refused("invalid_request", "code_verifier has 43 to 128 unreserved characters (RFC 7636 §4.1)")
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    issued = issuer.grants.redeem(code, client=client.id, redirect_uri=redirect_uri, challenge=hashed)
    return _for_person(issuer, client, issued)


def _by_refresh(issuer: Issuer, client: Client, form: Mapping[str, str]) -> dict[str, object]:
    issued = issuer.grants.refresh(_needed(form, "refresh_token"), client=client.id)
    if not set(form.get("scope", "").split()) <= set(issued.grant.scope):
        issuer.grants.revoke(issued.refresh_token, client=client.id)
        raise Refused("invalid_scope", "more than was granted: sign in again")
    return _for_person(issuer, client, issued)


def _by_secret(issuer: Issuer, client: Client, _form: Mapping[str, str]) -> dict[str, object]:
    """No refresh token (RFC 6749 §4.4.3): the secret is one. What the program may do says its membership, not a scope."""
    access = issuer.tokens.access(client.id, client=client.id, scope=())
    return {"access_token": access, "token_type": "Bearer", "expires_in": ACCESS_S}


def _for_person(issuer: Issuer, client: Client, issued: Issued) -> dict[str, object]:
    grant = issued.grant
    person = issuer.people.find(grant.subject)
    if person is None or person.disabled or person.epoch != grant.epoch:
        issuer.grants.revoke(issued.refresh_token, client=client.id)
        raise Refused("invalid_grant", "the person signed out everywhere, or may not sign in: sign in again")
    return {
        "access_token": issuer.tokens.access(grant.subject, client=client.id, scope=grant.scope),
        "token_type": "Bearer",
        "expires_in": ACCESS_S,
        "refresh_token": issued.refresh_token,
        "id_token": issuer.tokens.identity(grant, email=person.email),
        "scope": " ".join(grant.scope),
    }


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value:
        raise Refused("invalid_request", f"{name} is missing")
    return value


def _is_access(issuer: Issuer, token: str) -> bool:
    try:
        issuer.tokens.read_access(token)
    except Unauthenticated:
        return False
    return True
