"""The account page: password, second step, recovery codes, sign out everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from postroom.errors import Conflict, Invalid, PostroomError, Unauthenticated
from postroom.identity.browser import Browser, browser_of
from postroom.identity.forms import Form
from postroom.identity.html import page, qr_code
from postroom.identity.issuer import Issuer
from postroom.identity.people import Person
from postroom.identity.routes.invitation import repeated
from postroom.identity.routing import NO_STORE, page_route, refusal_status, retry_after
from postroom.identity.second_factor import enrolment_uri
from postroom.identity.sessions import Session
from postroom.identity.tries import TooManyTries
from postroom.identity.way import ACCOUNT, sign_in_url

_SHOWN = (Unauthenticated, TooManyTries, Invalid, Conflict)
"""What the page itself says, above its forms."""
_NOTICES = {
    "password": "The password is changed. Everywhere else you are signed out.",
    "removed": "The second step is off.",
}
_Act = Callable[[Browser, Session, Form], Response]


class _Account:
    """The page, and what stands around each of its acts, for one issuer."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.base = urlsplit(issuer.url).path

    def shown(
        self, browser: Browser, person: Person, *, codes: Sequence[str] = (), notice: str = "", error: PostroomError | None = None
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
            browser = browser_of(request, self._issuer.clock, url=self._issuer.url)
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


def account_routes(issuer: Issuer) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    account = _Account(issuer)

    @router.get("/")
    def front() -> Response:
        return account.to(account.base + ACCOUNT)

    @router.get(ACCOUNT)
    def show(request: Request) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
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
