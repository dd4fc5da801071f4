"""Protocol endpoints: discovery, authorize, token, revoke and logout.

- Discovery (OpenID Connect Discovery 1.0) and the public keys (RFC 7517).
- `GET /oauth2/authorize` (RFC 6749 4.1, OpenID Connect Core 3.1.2): redirects with a code if the user is signed in, else to the
  sign-in page. Responses carry `iss` (RFC 9207).
- `POST /oauth2/token` and `POST /oauth2/revoke` (RFC 6749 3.2, RFC 7636, RFC 7009).
- `GET /oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0): signs out at once if `id_token_hint` is an ID token of the user,
  else asks first, so that a link on another site cannot sign anyone out. Redirects only to registered addresses.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from postroom.errors import Unauthenticated
from postroom.identity import pages
from postroom.identity.login import Session
from postroom.identity.oauth import (
    CODE,
    CREDENTIALS,
    MAX_STATE,
    REFRESH,
    SCOPES,
    AuthorizationRequest,
    OAuthClient,
    OAuthError,
    RedirectedError,
    answer_url,
    authenticate_client,
    parse_authorization_request,
)
from postroom.identity.pages import AUTHORIZE, NO_STORE, Browser, Form, ProtocolRoute, page, page_route, read_browser, sign_in_url
from postroom.identity.provider import OpenIdProvider
from postroom.identity.signing_keys import ALGORITHM
from postroom.identity.tokens import ACCESS_S, Grant, IssuedGrant

KEYS_MAX_AGE_S = 300


def discovery_routes(provider: OpenIdProvider) -> APIRouter:
    """Discovery document, public keys and the pages' style sheet; cacheable for `KEYS_MAX_AGE_S`."""
    router = APIRouter(route_class=ProtocolRoute)
    cached = {"Cache-Control": f"public, max-age={KEYS_MAX_AGE_S}", "Access-Control-Allow-Origin": "*"}

    @router.get("/.well-known/openid-configuration")
    def configuration() -> Response:
        return JSONResponse(metadata(provider.url), headers=cached)

    @router.get("/oauth2/jwks")
    def jwks() -> Response:
        return JSONResponse(provider.keys.published(), headers=cached, media_type="application/jwk-set+json")

    @router.get("/oauth2/style.css")
    def style() -> Response:
        return pages.style()

    return router


def metadata(url: str) -> dict[str, Any]:
    """The discovery document of the provider at `url`."""
    methods = ["client_secret_basic", "client_secret_post", "none"]
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/oauth2/authorize",
        "token_endpoint": f"{url}/oauth2/token",
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


_LOGIN = {"login", "select_account"}


def authorize_routes(provider: OpenIdProvider) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(provider.url))
    base = urlsplit(provider.url).path

    @router.get(AUTHORIZE)
    def authorize(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        asked = parse_authorization_request(pairs, provider.clients)
        session = provider.sessions.full(read_browser(request, provider.clock, url=provider.url).session)
        if session is None or _too_old(asked, session, provider.clock.now()):
            if "none" in asked.prompts:
                raise RedirectedError(asked.redirect_uri, "login_required", "no user is signed in", state=asked.state)
            return_path = [(name, value) for name, value in pairs if name not in {"prompt", "max_age"}]
            to = sign_in_url(base, f"{AUTHORIZE}?{urlencode(return_path)}", hint=asked.hint)
            return RedirectResponse(to, 303, headers=NO_STORE)
        grant = _new_grant(asked, session)
        code = provider.grants.code(grant, redirect_uri=asked.redirect_uri, challenge=asked.challenge)
        answer = {"code": code, "state": asked.state, "iss": provider.url}
        return RedirectResponse(answer_url(asked.redirect_uri, answer), 303, headers=NO_STORE)

    return router


def _too_old(request: AuthorizationRequest, session: Session, now: int) -> bool:
    """Whether the user must sign in again (`prompt`, `max_age`: OpenID Connect Core 3.1.2.1)."""
    aged = request.max_age_s is not None and now - session.at > request.max_age_s * 1_000
    return aged or request.max_age_s == 0 or bool(request.prompts & _LOGIN)


def _new_grant(request: AuthorizationRequest, session: Session) -> Grant:
    return Grant(
        client=request.client.id,
        subject=session.user.subject,
        epoch=session.user.epoch,
        scope=request.scope,
        signed_in_at=session.at,
        methods=session.methods,
        nonce=request.nonce,
    )


_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def token_routes(provider: OpenIdProvider) -> APIRouter:
    """For clients."""
    router = APIRouter(route_class=ProtocolRoute)

    @router.post("/oauth2/token")
    def token(request: Request, form: Form) -> Response:
        client = authenticate_client(form, request.headers.get("authorization"), provider.clients)
        kind = form.get("grant_type", "")
        if kind not in {CODE, REFRESH, CREDENTIALS}:
            raise OAuthError("unsupported_grant_type", f"grant_type must be {CODE}, {REFRESH} or {CREDENTIALS}")
        if kind not in client.grants:
            raise OAuthError("unauthorized_client", f"this client may not use {kind}")
        answer = {CODE: _by_code, REFRESH: _by_refresh, CREDENTIALS: _by_secret}[kind](provider, client, form)
        return JSONResponse(answer, headers=NO_STORE)

    @router.post("/oauth2/revoke")
    def revoke(request: Request, form: Form) -> Response:
        client = authenticate_client(form, request.headers.get("authorization"), provider.clients)
        given = _needed(form, "token")
        if _is_access(provider, given):
            raise OAuthError("unsupported_token_type", "an access token runs out by itself within minutes")
        provider.grants.revoke(given, client=client.id)
        return Response(status_code=200, headers=NO_STORE)

    return router


def _by_code(provider: OpenIdProvider, client: OAuthClient, form: Mapping[str, str]) -> dict[str, object]:
    code, redirect_uri = _needed(form, "code"), _needed(form, "redirect_uri")
    verifier = _needed(form, "code_verifier")
    if not _VERIFIER.fullmatch(verifier):
        raise OAuthError("invalid_request", "code_verifier has 43 to 128 unreserved characters (RFC 7636 §4.1)")
    hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    issued = provider.grants.redeem(code, client=client.id, redirect_uri=redirect_uri, challenge=hashed)
    return _user_tokens(provider, client, issued)


def _by_refresh(provider: OpenIdProvider, client: OAuthClient, form: Mapping[str, str]) -> dict[str, object]:
    issued = provider.grants.refresh(_needed(form, "refresh_token"), client=client.id)
    if not set(form.get("scope", "").split()) <= set(issued.grant.scope):
        provider.grants.revoke(issued.refresh_token, client=client.id)
        raise OAuthError("invalid_scope", "more than was granted: sign in again")
    return _user_tokens(provider, client, issued)


def _by_secret(provider: OpenIdProvider, client: OAuthClient, _form: Mapping[str, str]) -> dict[str, object]:
    """No refresh token (RFC 6749 §4.4.3): the secret is one. What the client may do is in its membership, not in a scope."""
    access = provider.tokens.access(client.id, client=client.id, scope=())
    return {"access_token": access, "token_type": "Bearer", "expires_in": ACCESS_S}


def _user_tokens(provider: OpenIdProvider, client: OAuthClient, issued: IssuedGrant) -> dict[str, object]:
    grant = issued.grant
    user = provider.users.find(grant.subject)
    if user is None or user.disabled or user.epoch != grant.epoch:
        provider.grants.revoke(issued.refresh_token, client=client.id)
        raise OAuthError("invalid_grant", "the user signed out everywhere, or is disabled: sign in again")
    return {
        "access_token": provider.tokens.access(grant.subject, client=client.id, scope=grant.scope),
        "token_type": "Bearer",
        "expires_in": ACCESS_S,
        "refresh_token": issued.refresh_token,
        "id_token": provider.tokens.identity(grant, email=user.email),
        "scope": " ".join(grant.scope),
    }


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value:
        raise OAuthError("invalid_request", f"{name} is missing")
    return value


def _is_access(provider: OpenIdProvider, token: str) -> bool:
    try:
        provider.tokens.read_access(token)
    except Unauthenticated:
        return False
    return True


LOGOUT = "/oauth2/logout"


def sign_out_routes(provider: OpenIdProvider) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(provider.url))
    base = urlsplit(provider.url).path

    def shown(browser: Browser, session: Session | None) -> Response:
        email = session.user.email if session else ""
        response = page(
            "sign_out", base=base, url=provider.url, form_token=browser.form_token, session=session is not None, email=email
        )
        browser.remember(response)
        return response

    @router.get(LOGOUT)
    def logout(request: Request) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        session, asked = provider.sessions.find(browser.session), dict(request.query_params)
        hinted = _id_token_claims(provider, asked)
        if session is not None and (hinted is None or hinted["sub"] != session.user.subject):
            return shown(browser, session)
        back = _redirect_after_logout(provider, asked, hinted)
        response = shown(browser, None) if back is None else RedirectResponse(back, 303, headers=NO_STORE)
        if session is not None:
            provider.sessions.end(session)
        browser.sign_out(response)
        return response

    @router.post("/oauth2/sign-out")
    def sign_out(request: Request, form: Form) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        browser.check(form)
        session = provider.sessions.find(browser.session)
        if session is not None:
            provider.sessions.end(session)
        response = shown(browser, None)
        browser.sign_out(response)
        return response

    return router


def _id_token_claims(provider: OpenIdProvider, asked: Mapping[str, str]) -> Mapping[str, str] | None:
    """The claims of `id_token_hint`, or None if there is none or it is not valid."""
    try:
        return provider.tokens.read_hint(asked["id_token_hint"]) if "id_token_hint" in asked else None
    except Unauthenticated:
        return None


def _redirect_after_logout(provider: OpenIdProvider, asked: Mapping[str, str], hinted: Mapping[str, str] | None) -> str | None:
    """The requested redirect, or None if there is none or the client has not registered it."""
    to, state = asked.get("post_logout_redirect_uri"), asked.get("state")
    client = provider.clients.find(hinted["aud"] if hinted is not None else asked.get("client_id", ""))
    if to is None or client is None or to not in client.after_logout or asked.get("client_id", client.id) != client.id:
        return None
    return to if state is None else answer_url(to, {"state": state[:MAX_STATE]})
