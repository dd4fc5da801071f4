"""Pages for users: invitation, sign-in with its second step, and the account page.

Opening an invitation does not use it up, so a mail scanner's request does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from postroom.errors import Conflict, Invalid, PostroomError, Unauthenticated
from postroom.identity.credentials import enrolment_uri
from postroom.identity.login import INVITATION_PATH, LoginStage, Session
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
from postroom.identity.users import User


def invitation_routes(provider: OpenIdProvider) -> APIRouter:
    """Pages for browsers."""
    router = APIRouter(route_class=page_route(provider.url))
    base = urlsplit(provider.url).path

    def shown(browser: Browser, token: str, user: User, error: Invalid | None = None) -> Response:
        response = page(
            "invitation",
            status=200 if error is None else 400,
            base=base,
            form_token=browser.form_token,
            token=token,
            email=user.email,
            error=None if error is None else str(error),
        )
        browser.remember(response)
        return response

    @router.get(INVITATION_PATH)
    def show(request: Request) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        token = request.query_params.get("token", "")
        return shown(browser, token, provider.invitations.find(token).user)

    @router.post(INVITATION_PATH)
    def accept(request: Request, form: Form) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        browser.check(form)
        token, password = form.get("token", ""), form.get("password", "")
        try:
            user = provider.accept_invitation(token, repeated(password, form))
        except Invalid as error:
            return shown(browser, token, provider.invitations.find(token).user, error)
        return page("invited", base=base, url=provider.url, email=user.email)

    return router


def repeated(password: str, form: Form) -> str:
    """The new password, if it was typed the same twice. `Invalid`."""
    if form.get("repeated") != password:
        raise Invalid("The two passwords differ.")
    return password


class _SignInPages:
    """Renders the sign-in page and its second step."""

    def __init__(self, provider: OpenIdProvider) -> None:
        self._provider = provider
        self.base = urlsplit(provider.url).path

    def sign_in(self, browser: Browser, return_path: str, *, email: str, error: PostroomError | None = None) -> Response:
        return self._page("sign_in", browser, return_path, email=email, error=error)

    def code(self, browser: Browser, return_path: str, *, halfway: Session, error: PostroomError | None = None) -> Response:
        return self._page("code", browser, return_path, email=halfway.user.email, error=error)

    def _page(self, name: str, browser: Browser, return_path: str, *, email: str, error: PostroomError | None) -> Response:
        response = page(
            name,
            status=200 if error is None else refusal_status(error),
            leads_to=self._leads_to(return_path),
            base=self.base,
            form_token=browser.form_token,
            next=return_path,
            email=email,
            error=None if error is None else str(error),
        )
        if error is not None:
            response.headers.update(retry_after(error))
        browser.remember(response)
        return response

    def _leads_to(self, return_path: str) -> str | None:
        """Redirect URI of the authorization request in `return_path`, or None if it is not a valid request."""
        try:
            return parse_authorization_request(return_path_parameters(return_path), self._provider.clients).redirect_uri
        except PostroomError:
            return None


def sign_in_routes(provider: OpenIdProvider) -> APIRouter:
    """Pages for browsers."""
    router = APIRouter(route_class=page_route(provider.url))
    pages = _SignInPages(provider)

    @router.get(SIGN_IN)
    def show(request: Request) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        asked = request.query_params
        return_path, session = checked_return_path(asked.get("next", "")), provider.sessions.find(browser.session)
        if session is not None and session.stage is LoginStage.HALFWAY and "again" not in asked:
            return pages.code(browser, return_path, halfway=session)
        return pages.sign_in(browser, return_path, email=asked.get("hint", "")[:254])

    @router.post(SIGN_IN)
    def with_password(request: Request, form: Form) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        browser.check(form)
        return_path, email = checked_return_path(form.get("next", "")), form.get("email", "")
        try:
            token, stage = provider.sign_in.with_password(email, form.get("password", ""), address=browser.address)
        except (Unauthenticated, TooManyAttempts) as error:
            return pages.sign_in(browser, return_path, email=email, error=error)
        _end_previous_session(provider, browser)
        return _signed_in(
            browser, token, pages.base + return_path if stage is LoginStage.FULL else sign_in_url(pages.base, return_path)
        )

    @router.post(f"{SIGN_IN}/code")
    def with_code(request: Request, form: Form) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        browser.check(form)
        return_path, session = checked_return_path(form.get("next", "")), provider.sessions.find(browser.session)
        if session is None or session.stage is not LoginStage.HALFWAY:
            return RedirectResponse(sign_in_url(pages.base, return_path), 303, headers=NO_STORE)
        try:
            token = provider.sign_in.with_code(session, form.get("code", ""), address=browser.address)
        except (Unauthenticated, TooManyAttempts) as error:
            return pages.code(browser, return_path, halfway=session, error=error)
        return _signed_in(browser, token, pages.base + return_path)

    return router


def _end_previous_session(provider: OpenIdProvider, browser: Browser) -> None:
    """End the session that this sign-in replaces. After a crash before this, it ends when it expires."""
    session = provider.sessions.find(browser.session)
    if session is not None:
        provider.sessions.end(session)


def _signed_in(browser: Browser, token: str, to: str) -> Response:
    response = RedirectResponse(to, 303, headers=NO_STORE)
    browser.sign_in(response, token)
    return response


_SHOWN = (Unauthenticated, TooManyAttempts, Invalid, Conflict)
"""Errors shown on the page, above its forms."""
_NOTICES = {
    "password": "The password is changed. Everywhere else you are signed out.",
    "removed": "The second step is off.",
}
_Act = Callable[[Browser, Session, Form], Response]


class _AccountPage:
    """Renders the account page and handles its forms."""

    def __init__(self, provider: OpenIdProvider) -> None:
        self._provider = provider
        self.base = urlsplit(provider.url).path

    def shown(
        self, browser: Browser, user: User, *, codes: Sequence[str] = (), notice: str = "", error: PostroomError | None = None
    ) -> Response:
        secret = self._provider.second_factor.proposal(user)
        name = f"Postroom {urlsplit(self._provider.url).hostname}"
        response = page(
            "account",
            status=200 if error is None else refusal_status(error),
            base=self.base,
            url=self._provider.url,
            form_token=browser.form_token,
            email=user.email,
            enrolled=user.second is not None,
            left=len(user.recovery),
            secret=secret,
            qr=None if secret is None else qr_code(enrolment_uri(secret, user.email, name=name)),
            codes=list(codes),
            notice=notice,
            error=None if error is None else str(error),
        )
        if error is not None:
            response.headers.update(retry_after(error))
        browser.remember(response)
        return response

    def acting(self, act: _Act) -> Callable[[Request, Form], Response]:
        """A handler for signed-in users that runs `act`. Errors in `_SHOWN` are shown on the page."""

        def handle(request: Request, form: Form) -> Response:
            browser = read_browser(request, self._provider.clock, url=self._provider.url)
            session = self._provider.sessions.full(browser.session)
            if session is None:
                return self.to(sign_in_url(self.base, ACCOUNT))
            browser.check(form)
            try:
                return act(browser, session, form)
            except _SHOWN as error:
                return self.shown(browser, session.user, error=error)

        return handle

    def change_password(self, browser: Browser, session: Session, form: Form) -> Response:
        new, current = repeated(form.get("password", ""), form), form.get("current", "")
        token = self._provider.account.change_password(session, current, new, address=browser.address)
        response = self._done("password")
        browser.sign_in(response, token)
        return response

    def propose(self, _browser: Browser, session: Session, _form: Form) -> Response:
        self._provider.account.propose(session.user)
        return self.to(self.base + ACCOUNT)

    def confirm(self, browser: Browser, session: Session, form: Form) -> Response:
        code, password = form.get("code", ""), form.get("password", "")
        codes = self._provider.account.confirm(session.user, code, password=password, address=browser.address)
        return self._changed(browser, session, codes, "The second step is on.")

    def remove(self, browser: Browser, session: Session, form: Form) -> Response:
        code, password = form.get("code", ""), form.get("password", "")
        self._provider.account.remove(session.user, code, password=password, address=browser.address)
        return self._done("removed")

    def renew_recovery(self, browser: Browser, session: Session, form: Form) -> Response:
        code, password = form.get("code", ""), form.get("password", "")
        codes = self._provider.account.renew_recovery(session.user, code, password=password, address=browser.address)
        return self._changed(browser, session, codes, "The earlier recovery codes are void.")

    def sign_out_everywhere(self, browser: Browser, session: Session, _form: Form) -> Response:
        self._provider.users.sign_out(session.user.subject)
        response = self.to(sign_in_url(self.base, ACCOUNT))
        browser.sign_out(response)
        return response

    def to(self, url: str) -> Response:
        """Go there, by GET."""
        return RedirectResponse(url, 303, headers=NO_STORE)

    def _done(self, what: str) -> Response:
        return self.to(f"{self.base}{ACCOUNT}?done={what}")

    def _changed(self, browser: Browser, session: Session, codes: Sequence[str], notice: str) -> Response:
        return self.shown(browser, self._provider.users.get(session.user.subject), codes=codes, notice=notice)


def account_routes(provider: OpenIdProvider) -> APIRouter:
    """Pages for browsers."""
    router = APIRouter(route_class=page_route(provider.url))
    account = _AccountPage(provider)

    @router.get("/")
    def front() -> Response:
        return account.to(account.base + ACCOUNT)

    @router.get(ACCOUNT)
    def show(request: Request) -> Response:
        browser = read_browser(request, provider.clock, url=provider.url)
        session = provider.sessions.full(browser.session)
        if session is None:
            return account.to(sign_in_url(account.base, ACCOUNT))
        return account.shown(browser, session.user, notice=_NOTICES.get(request.query_params.get("done", ""), ""))

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
