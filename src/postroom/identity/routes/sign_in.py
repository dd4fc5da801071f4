"""The sign-in page and its second step."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from postroom.errors import PostroomError, Unauthenticated
from postroom.identity.authorization import read
from postroom.identity.browser import Browser, browser_of
from postroom.identity.forms import Form
from postroom.identity.html import page
from postroom.identity.issuer import Issuer
from postroom.identity.routing import NO_STORE, page_route, refusal_status, retry_after
from postroom.identity.sessions import Session, Stage
from postroom.identity.tries import TooManyTries
from postroom.identity.way import SIGN_IN, asked_in, checked_way, sign_in_url


class _Pages:
    """Shows them, for one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.base = urlsplit(issuer.url).path

    def sign_in(self, browser: Browser, way: str, *, email: str, error: PostroomError | None = None) -> Response:
        return self._page("sign_in", browser, way, email=email, error=error)

    def code(self, browser: Browser, way: str, *, halfway: Session, error: PostroomError | None = None) -> Response:
        return self._page("code", browser, way, email=halfway.person.email, error=error)

    def _page(self, name: str, browser: Browser, way: str, *, email: str, error: PostroomError | None) -> Response:
        response = page(
            name,
            status=200 if error is None else refusal_status(error),
            leads_to=self._leads_to(way),
            base=self.base,
            form_token=browser.form_token,
            next=way,
            email=email,
            error=None if error is None else str(error),
        )
        if error is not None:
            response.headers.update(retry_after(error))
        browser.remember(response)
        return response

    def _leads_to(self, way: str) -> str | None:
        """Where the client's answer goes, if the way leads to a request that will be answered."""
        try:
            return read(asked_in(way), self._issuer.clients).redirect_uri
        except PostroomError:
            return None


def sign_in_routes(issuer: Issuer) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    pages = _Pages(issuer)

    @router.get(SIGN_IN)
    def show(request: Request) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
        asked = request.query_params
        way, session = checked_way(asked.get("next", "")), issuer.sessions.find(browser.session)
        if session is not None and session.stage is Stage.HALFWAY and "again" not in asked:
            return pages.code(browser, way, halfway=session)
        return pages.sign_in(browser, way, email=asked.get("hint", "")[:254])

    @router.post(SIGN_IN)
    def with_password(request: Request, form: Form) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
        browser.check(form)
        way, email = checked_way(form.get("next", "")), form.get("email", "")
        try:
            token, stage = issuer.sign_in.with_password(email, form.get("password", ""), address=browser.address)
        except (Unauthenticated, TooManyTries) as error:
            return pages.sign_in(browser, way, email=email, error=error)
        _leave(issuer, browser)
        return _signed_in(browser, token, pages.base + way if stage is Stage.FULL else sign_in_url(pages.base, way))

    @router.post(f"{SIGN_IN}/code")
    def with_code(request: Request, form: Form) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
        browser.check(form)
        way, session = checked_way(form.get("next", "")), issuer.sessions.find(browser.session)
        if session is None or session.stage is not Stage.HALFWAY:
            return RedirectResponse(sign_in_url(pages.base, way), 303, headers=NO_STORE)
        try:
            token = issuer.sign_in.with_code(session, form.get("code", ""), address=browser.address)
        except (Unauthenticated, TooManyTries) as error:
            return pages.code(browser, way, halfway=session, error=error)
        return _signed_in(browser, token, pages.base + way)

    return router


def _leave(issuer: Issuer, browser: Browser) -> None:
    """The session that this sign-in replaces is over; a crash before leaves it to run out."""
    session = issuer.sessions.find(browser.session)
    if session is not None:
        issuer.sessions.end(session)


def _signed_in(browser: Browser, token: str, to: str) -> Response:
    response = RedirectResponse(to, 303, headers=NO_STORE)
    browser.sign_in(response, token)
    return response
