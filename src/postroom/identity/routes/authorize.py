"""Where a client sends the browser: a code goes back where somebody is signed in, else the way leads over the sign-in page."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from postroom.identity.authorization import Asked, Redirected, answer_url, read
from postroom.identity.browser import browser_of
from postroom.identity.forms import Form
from postroom.identity.grants import Grant
from postroom.identity.issuer import Issuer
from postroom.identity.routing import NO_STORE, page_route
from postroom.identity.sessions import Session
from postroom.identity.way import AUTHORIZE, sign_in_url

_LOGIN = {"login", "select_account"}


def authorize_routes(issuer: Issuer) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    base = urlsplit(issuer.url).path

    @router.get(AUTHORIZE)
    def authorize(request: Request) -> Response:
        pairs = request.query_params.multi_items()
        asked = read(pairs, issuer.clients)
        session = issuer.sessions.full(browser_of(request, issuer.clock, url=issuer.url).session)
        if session is None or _too_old(asked, session, issuer.clock.now()):
            if "none" in asked.prompts:
                raise Redirected(asked.redirect_uri, "login_required", "nobody is signed in", state=asked.state)
            way = [(name, value) for name, value in pairs if name not in {"prompt", "max_age"}]
            to = sign_in_url(base, f"{AUTHORIZE}?{urlencode(way)}", hint=asked.hint)
            return RedirectResponse(to, 303, headers=NO_STORE)
        grant = _grant(asked, session)
        code = issuer.grants.code(grant, redirect_uri=asked.redirect_uri, challenge=asked.challenge)
        answer = {"code": code, "state": asked.state, "iss": issuer.url}
        return RedirectResponse(answer_url(asked.redirect_uri, answer), 303, headers=NO_STORE)

    @router.post(AUTHORIZE)
    def authorize_by_form(form: Form) -> Response:
        """The standard wants this too (OpenID Connect Core §3.1.2.1); a form of another site brings no session along."""
        return RedirectResponse(f"{base}{AUTHORIZE}?{urlencode(form)}", 303, headers=NO_STORE)

    return router


def _too_old(asked: Asked, session: Session, now: int) -> bool:
    """Whether the person must show the password again."""
    aged = asked.max_age_s is not None and now - session.at > asked.max_age_s * 1_000
    return aged or asked.max_age_s == 0 or bool(asked.prompts & _LOGIN)


def _grant(asked: Asked, session: Session) -> Grant:
    return Grant(
        client=asked.client.id,
        subject=session.person.subject,
        epoch=session.person.epoch,
        scope=asked.scope,
        signed_in_at=session.at,
        methods=session.methods,
        nonce=asked.nonce,
    )
