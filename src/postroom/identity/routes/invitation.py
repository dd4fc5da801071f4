"""The page behind a one-time link: choose a password. Looking at it uses nothing up: a mail scanner's visit does no harm."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from postroom.errors import Invalid
from postroom.identity.browser import Browser, browser_of
from postroom.identity.forms import Form
from postroom.identity.html import page
from postroom.identity.invitations import PATH
from postroom.identity.issuer import Issuer
from postroom.identity.people import Person
from postroom.identity.routing import page_route


def invitation_routes(issuer: Issuer) -> APIRouter:
    """For browsers."""
    router = APIRouter(route_class=page_route(issuer.url))
    base = urlsplit(issuer.url).path

    def shown(browser: Browser, token: str, person: Person, error: Invalid | None = None) -> Response:
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

    @router.get(PATH)
    def show(request: Request) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
        token = request.query_params.get("token", "")
        return shown(browser, token, issuer.invitations.find(token).person)

    @router.post(PATH)
    def accept(request: Request, form: Form) -> Response:
        browser = browser_of(request, issuer.clock, url=issuer.url)
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
