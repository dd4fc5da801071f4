"""The page behind a one-time link: choose a password. Looking at it uses nothing up: a mail scanner's visit does no harm.

The sign-in page and its second step.

The account page: password, second step, recovery codes, sign out everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from postroom.errors import Conflict, Invalid, PostroomError, Unauthenticated
from postroom.identity.login import INVITATION_PATH, Session, Stage
from postroom.identity.login_throttle import TooManyAttempts
from postroom.identity.oauth import parse_authorization_request
from postroom.identity.pages import (
    ACCOUNT,
    NO_STORE,
    SIGN_IN,
    Browser,
    Form,
    checked_return_path,
    page,
    page_route,
    qr_code,
    read_browser,
    refusal_status,
    retry_after,
    return_path_parameters,
    sign_in_url,
)
from postroom.identity.provider import OpenIdProvider
from postroom.identity.second_factor import enrolment_uri
from postroom.identity.users import User


def invitation_routes(issuer: OpenIdProvider) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    base = urlsplit(issuer.url).path

    def shown(browser: Browser, token: str, person: User, error: Invalid | None = None) -> Response:
        response = page(
            "invitation",
            status=200 if error is None else 400,
            base=base,
            form_token=browser.form_token,
            token=token,
            email=person.email,
            error=None if error is None else str(error),
        )
        browser.remember(response)
        return response

    @router.get(INVITATION_PATH)
    def show(request: Request) -> Response:
        browser = read_browser(request, issuer.clock, url=issuer.url)
        token = request.query_params.get("token", "")
        return shown(browser, token, issuer.invitations.find(token).person)

    @router.post(INVITATION_PATH)
    def accept(request: Request, form: Form) -> Response:
        browser = read_browser(request, issuer.clock, url=issuer.url)
        browser.check(form)
        token, password = form.get("token", ""), form.get("password", "")
        try:
            person = issuer.accept_invitation(token, repeated(password, form))
        except Invalid as error:
            return shown(browser, token, issuer.invitations.find(token).person, error)
        return page("invited", base=base, url=issuer.url, email=person.email)

    return router


def repeated(password: str, form: Form) -> str:
    """The new password, if it was typed the same twice. `Invalid`."""
    if form.get("repeated") != password:
        raise Invalid("The two passwords differ.")
    return password


class _SignInPages:
    """Shows them, for one issuer."""

    def __init__(self, issuer: OpenIdProvider) -> None:
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
            return parse_authorization_request(return_path_parameters(way), self._issuer.clients).redirect_uri
        except PostroomError:
            return None


def sign_in_routes(issuer: OpenIdProvider) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    pages = _SignInPages(issuer)

    @router.get(SIGN_IN)
    def show(request: Request) -> Response:
        browser = read_browser(request, issuer.clock, url=issuer.url)
        asked = request.query_params
        way, session = checked_return_path(asked.get("next", "")), issuer.sessions.find(browser.session)
        if session is not None and session.stage is Stage.HALFWAY and "again" not in asked:
            return pages.code(browser, way, halfway=session)
        return pages.sign_in(browser, way, email=asked.get("hint", "")[:254])

    @router.post(SIGN_IN)
    def with_password(request: Request, form: Form) -> Response:
        browser = read_browser(request, issuer.clock, url=issuer.url)
        browser.check(form)
        way, email = checked_return_path(form.get("next", "")), form.get("email", "")
        try:
            token, stage = issuer.sign_in.with_password(email, form.get("password", ""), address=browser.address)
        except (Unauthenticated, TooManyAttempts) as error:
            return pages.sign_in(browser, way, email=email, error=error)
        _end_previous_session(issuer, browser)
        return _signed_in(browser, token, pages.base + way if stage is Stage.FULL else sign_in_url(pages.base, way))

    @router.post(f"{SIGN_IN}/code")
    def with_code(request: Request, form: Form) -> Response:
        browser = read_browser(request, issuer.clock, url=issuer.url)
        browser.check(form)
        way, session = checked_return_path(form.get("next", "")), issuer.sessions.find(browser.session)
        if session is None or session.stage is not Stage.HALFWAY:
            return RedirectResponse(sign_in_url(pages.base, way), 303, headers=NO_STORE)
        try:
            token = issuer.sign_in.with_code(session, form.get("code", ""), address=browser.address)
        except (Unauthenticated, TooManyAttempts) as error:
            return pages.code(browser, way, halfway=session, error=error)
        return _signed_in(browser, token, pages.base + way)

    return router


def _end_previous_session(issuer: OpenIdProvider, browser: Browser) -> None:
    """The session that this sign-in replaces is over; a crash before leaves it to run out."""
    session = issuer.sessions.find(browser.session)
    if session is not None:
        issuer.sessions.end(session)


def _signed_in(browser: Browser, token: str, to: str) -> Response:
    response = RedirectResponse(to, 303, headers=NO_STORE)
    browser.sign_in(response, token)
    return response


_SHOWN = (Unauthenticated, TooManyAttempts, Invalid, Conflict)
"""What the page itself says, above its forms."""
_NOTICES = {
    "password": "The password is changed. Everywhere else you are signed out.",
    "removed": "The second step is off.",
}
_Act = Callable[[Browser, Session, Form], Response]


class _AccountPage:
    """The page, and what stands around each of its acts, for one issuer."""

    def __init__(self, issuer: OpenIdProvider) -> None:
        self._issuer = issuer
        self.base = urlsplit(issuer.url).path

    def shown(
        self, browser: Browser, person: User, *, codes: Sequence[str] = (), notice: str = "", error: PostroomError | None = None
    ) -> Response:
        secret = self._issuer.second_factor.proposal(person)
        name = f"Postroom {urlsplit(self._issuer.url).hostname}"
        response = page(
            "account",
            status=200 if error is None else refusal_status(error),
            base=self.base,
            url=self._issuer.url,
            form_token=browser.form_token,
            email=person.email,
            enrolled=person.second is not None,
            left=len(person.recovery),
            secret=secret,
            qr=None if secret is None else qr_code(enrolment_uri(secret, person.email, name=name)),
            codes=list(codes),
            notice=notice,
            error=None if error is None else str(error),
        )
        if error is not None:
            response.headers.update(retry_after(error))
        browser.remember(response)
        return response

    def acting(self, act: _Act) -> Callable[[Request, Form], Response]:
        """A handler that does it for whoever is signed in; what goes wrong stands on the page."""

        def handle(request: Request, form: Form) -> Response:
            browser = read_browser(request, self._issuer.clock, url=self._issuer.url)
            session = self._issuer.sessions.full(browser.session)
            if session is None:
                return self.to(sign_in_url(self.base, ACCOUNT))
            browser.check(form)
            try:
                return act(browser, session, form)
            except _SHOWN as error:
                return self.shown(browser, session.person, error=error)

        return handle

    def change_password(self, browser: Browser, session: Session, form: Form) -> Response:
        new, current = repeated(form.get("password", ""), form), form.get("current", "")
        token = self._issuer.account.change_password(session, current, new, address=browser.address)
        response = self._done("password")
        browser.sign_in(response, token)
        return response

    def propose(self, _browser: Browser, session: Session, _form: Form) -> Response:
        self._issuer.account.propose(session.person)
        return self.to(self.base + ACCOUNT)

    def confirm(self, browser: Browser, session: Session, form: Form) -> Response:
        code, password = form.get("code", ""), form.get("password", "")
        codes = self._issuer.account.confirm(session.person, code, password=password, address=browser.address)
        return self._changed(browser, session, codes, "The second step is on.")

    def remove(self, browser: Browser, session: Session, form: Form) -> Response:
        code, password = form.get("code", ""), form.get("password", "")
        self._issuer.account.remove(session.person, code, password=password, address=browser.address)
        return self._done("removed")

    def renew_recovery(self, browser: Browser, session: Session, form: Form) -> Response:
        code, password = form.get("code", ""), form.get("password", "")
        codes = self._issuer.account.renew_recovery(session.person, code, password=password, address=browser.address)
        return self._changed(browser, session, codes, "The earlier recovery codes are void.")

    def sign_out_everywhere(self, browser: Browser, session: Session, _form: Form) -> Response:
        self._issuer.people.sign_out(session.person.subject)
        response = self.to(sign_in_url(self.base, ACCOUNT))
        browser.sign_out(response)
        return response

    def to(self, url: str) -> Response:
        """Go there, by GET."""
        return RedirectResponse(url, 303, headers=NO_STORE)

    def _done(self, what: str) -> Response:
        return self.to(f"{self.base}{ACCOUNT}?done={what}")

    def _changed(self, browser: Browser, session: Session, codes: Sequence[str], notice: str) -> Response:
        return self.shown(browser, self._issuer.people.get(session.person.subject), codes=codes, notice=notice)


def account_routes(issuer: OpenIdProvider) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    account = _AccountPage(issuer)

    @router.get("/")
    def front() -> Response:
        return account.to(account.base + ACCOUNT)

    @router.get(ACCOUNT)
    def show(request: Request) -> Response:
        browser = read_browser(request, issuer.clock, url=issuer.url)
        session = issuer.sessions.full(browser.session)
        if session is None:
            return account.to(sign_in_url(account.base, ACCOUNT))
        return account.shown(browser, session.person, notice=_NOTICES.get(request.query_params.get("done", ""), ""))

    acts: dict[str, _Act] = {
        "password": account.change_password,
        "second-factor": account.propose,
        "second-factor/confirm": account.confirm,
        "second-factor/remove": account.remove,
        "recovery-codes": account.renew_recovery,
        "sign-out-everywhere": account.sign_out_everywhere,
    }
    for name, act in acts.items():
        router.add_api_route(f"{ACCOUNT}/{name}", account.acting(act), methods=["POST"])
    return router
