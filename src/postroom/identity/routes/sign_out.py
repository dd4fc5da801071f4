"""Signing out: at the wish of a client (OpenID Connect RP-Initiated Logout 1.0), or of the person.

Without a proof that the client knows who is signed in (an ID token of that person), the person is asked, so that no link on
some site signs anybody out. The way back must match a registered address.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from postroom.errors import Unauthenticated
from postroom.identity.authorization import MAX_STATE, answer_url
from postroom.identity.browser import Browser, browser_of
from postroom.identity.forms import Form
from postroom.identity.html import page
from postroom.identity.issuer import Issuer
from postroom.identity.routing import NO_STORE, page_route
from postroom.identity.sessions import Session

LOGOUT = "/oauth2/logout"


def sign_out_routes(issuer: Issuer) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    base = urlsplit(issuer.url).path

    def shown(browser: Browser, session: Session | None) -> Response:
        email = session.person.email if session else ""
        response = page(
            "sign_out", base=base, url=issuer.url, form_token=browser.form_token, session=session is not None, email=email
        )
        browser.remember(response)
        return response

    @router.get(LOGOUT)
    def logout(request: Request) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
        session, asked = issuer.sessions.find(browser.session), dict(request.query_params)
        hinted = _hinted(issuer, asked)
        if session is not None and (hinted is None or hinted["sub"] != session.person.subject):
            return shown(browser, session)
        back = _back(issuer, asked, hinted)
        response = shown(browser, None) if back is None else RedirectResponse(back, 303, headers=NO_STORE)
        if session is not None:
            issuer.sessions.end(session)
        browser.sign_out(response)
        return response

    @router.post(LOGOUT)
    def logout_by_form(form: Form) -> Response:
        """The standard wants this too; a form of another site brings no session along."""
        return RedirectResponse(f"{base}{LOGOUT}?{urlencode(form)}", 303, headers=NO_STORE)

    @router.post("/oauth2/sign-out")
    def sign_out(request: Request, form: Form) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
        browser.check(form)
        session = issuer.sessions.find(browser.session)
        if session is not None:
            issuer.sessions.end(session)
        response = shown(browser, None)
        browser.sign_out(response)
        return response

    return router


def _hinted(issuer: Issuer, asked: Mapping[str, str]) -> Mapping[str, str] | None:
    """The claims of the ID token that the client sent along, or None."""
    try:
        return issuer.tokens.read_hint(asked["id_token_hint"]) if "id_token_hint" in asked else None
    except Unauthenticated:
        return None


def _back(issuer: Issuer, asked: Mapping[str, str], hinted: Mapping[str, str] | None) -> str | None:
    """Where to go, if the client said so and has registered it."""
    to, state = asked.get("post_logout_redirect_uri"), asked.get("state")
    client = issuer.clients.find(hinted["aud"] if hinted is not None else asked.get("client_id", ""))
    if to is None or client is None or to not in client.after_logout or asked.get("client_id", client.id) != client.id:
        return None
    return to if state is None else answer_url(to, {"state": state[:MAX_STATE]})
