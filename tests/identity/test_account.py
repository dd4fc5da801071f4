"""The account page, the page behind an invitation, and signing out."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

from postroom.errors import Unavailable
from postroom.identity.provider import OpenIdProvider
from tests.fakes.clock import ManualClock
from tests.identity.home import EMAIL, PASSWORD, URL, Browser, code_of, enrol, enter, hidden

ACCOUNT = "/oauth2/account"
NEW = "nine loud badgers"


@pytest.fixture
def person(issuer: OpenIdProvider, browser: Browser) -> str:
    """Somebody who is signed in."""
    subject = enter(issuer).subject
    browser.sign_in()
    return subject


def test_the_page_is_for_those_who_are_signed_in(browser: Browser) -> None:
    assert browser.get(ACCOUNT).headers["location"].startswith("/oauth2/sign-in?next=")
    for act in (
        "password",
        "second-factor",
        "second-factor/confirm",
        "second-factor/remove",
        "recovery-codes",
        "sign-out-everywhere",
    ):
        assert browser.post(f"{ACCOUNT}/{act}", password=NEW).headers["location"].startswith("/oauth2/sign-in?next=")


def test_the_bare_address_leads_to_the_account(browser: Browser) -> None:
    assert browser.get("/").headers["location"].endswith(ACCOUNT)


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize(
    "act", ["password", "second-factor", "second-factor/confirm", "second-factor/remove", "recovery-codes", "sign-out-everywhere"]
)
def test_no_act_is_done_without_the_forms_token(browser: Browser, act: str) -> None:
    assert browser.post(f"{ACCOUNT}/{act}", current=PASSWORD, password=NEW, repeated=NEW).status_code == 403
    assert browser.get(ACCOUNT).status_code == 200
    assert "Set it up" in browser.get(ACCOUNT).text


def test_a_new_password_ends_every_other_session_and_token(issuer: OpenIdProvider, browser: Browser, person: str) -> None:
    other = Browser(issuer)
    tokens = other.tokens()
    before = browser.client.cookies["postroom-session"]
    done = browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", current=PASSWORD, password=NEW, repeated=NEW)
    assert "The password is changed" in browser.client.get(done.headers["location"]).text
    assert browser.client.cookies["postroom-session"] != before
    assert issuer.sessions.find(before) is None
    assert other.get(ACCOUNT).status_code == 303
    assert other.refresh(tokens["refresh_token"]).status_code == 400
    assert other.sign_in().status_code == 403
    assert other.sign_in(password=NEW).status_code == 303
    assert person


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"current": "wrong", "password": NEW, "repeated": NEW}, 403, "password is wrong"),
        ({"current": PASSWORD, "password": NEW, "repeated": NEW + "x"}, 400, "differ"),
        ({"current": PASSWORD, "password": "short", "repeated": "short"}, 400, "too short"),
    ],
)
def test_what_is_wrong_stands_on_the_page(browser: Browser, fields: dict[str, str], status: int, text: str) -> None:
    answer = browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", **fields)
    assert answer.status_code == status
    assert re.search(rf'role="alert">[^<]*{text}', answer.text)
    assert browser.get(ACCOUNT).status_code == 200


def test_guesses_on_the_page_are_counted_like_those_at_sign_in(issuer: OpenIdProvider, browser: Browser, person: str) -> None:
    for _ in range(6):
        browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", current="wrong", password=NEW, repeated=NEW)
    locked = browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", current=PASSWORD, password=NEW, repeated=NEW)
    assert locked.status_code == 429
    assert locked.headers["retry-after"] == "30"
    assert issuer.people.get(person).epoch == 1


def test_the_second_step_from_the_qr_code_to_the_first_sign_in(
    issuer: OpenIdProvider, browser: Browser, person: str, clock: ManualClock
) -> None:
    browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/second-factor")
    page = browser.get(ACCOUNT)
    assert "<svg" in page.text
    found = re.search(r'class="secret">([A-Z2-7]{32})<', page.text)
    assert found
    secret = found[1]
    confirm = f"{ACCOUNT}/second-factor/confirm"
    assert browser.submit(page, confirm, code="000000", password=PASSWORD).status_code == 403
    assert browser.submit(page, confirm, code=code_of(issuer, secret), password="wrong").status_code == 403
    assert issuer.people.get(person).second is None
    done = browser.submit(page, confirm, code=code_of(issuer, secret), password=PASSWORD)
    codes = re.findall(r"<li>([a-z2-7-]+)</li>", done.text)
    assert len(codes) == 10
    assert secret not in browser.get(ACCOUNT).text
    assert codes[0] not in browser.get(ACCOUNT).text
    clock.advance(30)
    other = Browser(issuer)
    step = other.client.get(other.sign_in().headers["location"])
    assert other.submit(step, "/oauth2/sign-in/code", code=code_of(issuer, secret)).headers["location"] == ACCOUNT
    assert other.get(ACCOUNT).status_code == 200


def test_the_second_step_is_turned_off_only_by_password_and_code(
    issuer: OpenIdProvider, browser: Browser, person: str, clock: ManualClock
) -> None:
    secret = enrol(issuer, person)
    clock.advance(30)
    fields = hidden(browser.get(ACCOUNT), f"{ACCOUNT}/recovery-codes")
    remove = f"{ACCOUNT}/second-factor/remove"
    assert browser.post(remove, **fields, password=PASSWORD, code="000000").status_code == 403
    assert browser.post(remove, **fields, password="wrong", code=code_of(issuer, secret)).status_code == 403
    assert issuer.people.get(person).second is not None
    renewed = browser.post(f"{ACCOUNT}/recovery-codes", **fields, password=PASSWORD, code=code_of(issuer, secret))
    codes = re.findall(r"<li>([a-z2-7-]+)</li>", renewed.text)
    assert browser.post(remove, **fields, password=PASSWORD, code=codes[0]).status_code == 303
    assert issuer.people.get(person).second is None
    assert issuer.people.get(person).recovery == ()


@pytest.mark.usefixtures("person")
def test_signing_out_everywhere_ends_every_session(issuer: OpenIdProvider, browser: Browser) -> None:
    other = Browser(issuer)
    other.sign_in()
    fields = hidden(browser.get(ACCOUNT), "/oauth2/sign-out")
    browser.post(f"{ACCOUNT}/sign-out-everywhere", **fields)
    assert browser.get(ACCOUNT).status_code == 303
    assert other.get(ACCOUNT).status_code == 303


@pytest.mark.usefixtures("person")
def test_signing_out_ends_the_session_and_not_only_the_cookie(issuer: OpenIdProvider, browser: Browser) -> None:
    token = browser.client.cookies["postroom-session"]
    out = browser.submit(browser.get(ACCOUNT), "/oauth2/sign-out")
    assert "You are signed out" in out.text
    assert issuer.sessions.find(token) is None
    assert "postroom-session" not in browser.client.cookies


def test_a_client_signs_out_whom_it_signed_in(browser: Browser, issuer: OpenIdProvider) -> None:
    """RP-Initiated Logout: with the person's ID token at once and back; a link without it asks first."""
    enter(issuer)
    tokens = browser.tokens()
    asked = browser.get("/oauth2/logout", post_logout_redirect_uri=f"{URL}/", client_id="console")
    assert "Sign out?" in asked.text
    assert browser.get(ACCOUNT).status_code == 200
    out = browser.get("/oauth2/logout", id_token_hint=tokens["id_token"], post_logout_redirect_uri=f"{URL}/", state="s 1")
    assert out.headers["location"] == f"{URL}/?state=s+1"
    assert browser.get(ACCOUNT).status_code == 303


def test_signing_out_leads_to_no_address_that_is_not_registered(browser: Browser, issuer: OpenIdProvider) -> None:
    enter(issuer)
    tokens = browser.tokens()
    for to in ("https://evil.example/", f"{URL}/x", f"{URL}.evil.example/"):
        out = browser.get("/oauth2/logout", id_token_hint=tokens["id_token"], post_logout_redirect_uri=to)
        assert "location" not in out.headers
        assert "evil" not in out.text


def test_somebody_elses_id_token_signs_nobody_out(browser: Browser, issuer: OpenIdProvider) -> None:
    enter(issuer)
    enter(issuer, "bob@example.org")
    other = Browser(issuer)
    other.sign_in(email="bob@example.org")
    bobs = other.redeem(other.code()).json()["id_token"]
    browser.sign_in()
    for hint in (bobs, bobs[:-4] + "AAAA", "x"):
        assert "Sign out?" in browser.get("/oauth2/logout", id_token_hint=hint).text
    assert browser.get(ACCOUNT).status_code == 200


def test_an_invitations_page_uses_nothing_up_until_a_password_is_set(issuer: OpenIdProvider, browser: Browser) -> None:
    person = issuer.people.create(EMAIL)
    path = issuer.invitations.invite(person).removeprefix(URL)
    for _ in range(3):
        page = browser.client.get(path)
        assert page.status_code == 200
        assert EMAIL in unescape(page.text)
    form = "/oauth2/invitation"
    assert "differ" in browser.submit(page, form, password=NEW, repeated="x").text
    assert "too short" in browser.submit(page, form, password="x", repeated="x").text
    done = browser.submit(page, form, password=NEW, repeated=NEW)
    assert "The password is set" in done.text
    assert browser.submit(page, form, password=NEW, repeated=NEW).status_code == 404
    assert browser.client.get(path).status_code == 404
    assert browser.sign_in(password=NEW).status_code == 303


def test_an_invitations_form_needs_its_token_too(issuer: OpenIdProvider, browser: Browser) -> None:
    token = issuer.invitations.invite(issuer.people.create(EMAIL)).partition("token=")[2]
    assert browser.post("/oauth2/invitation", token=token, password=NEW, repeated=NEW).status_code == 403
    assert issuer.people.by_email(EMAIL) == issuer.invitations.find(token).person


def test_a_second_step_that_is_on_is_not_replaced_without_its_code(issuer: OpenIdProvider, browser: Browser, person: str) -> None:
    fields = hidden(browser.get(ACCOUNT), f"{ACCOUNT}/second-factor")
    secret = enrol(issuer, person)
    assert browser.post(f"{ACCOUNT}/second-factor", **fields).status_code == 409
    assert browser.post(f"{ACCOUNT}/second-factor/confirm", **fields, password=PASSWORD, code="000000").status_code == 409
    kept = issuer.people.get(person)
    assert kept.proposed is None
    assert issuer.second_factor.proposal(replace(kept, proposed=kept.second)) == secret


def test_a_crash_in_the_second_step_leaves_the_code_unused_or_somebody_signed_in(
    issuer: OpenIdProvider, browser: Browser, person: str, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """Its three changes are one write: lost, the same code still works; made, it works no more."""
    secret = enrol(issuer, person)
    clock.advance(30)
    page = browser.client.get(browser.sign_in().headers["location"])
    store = issuer.people.store

    def killed(*_: object) -> None:
        raise Unavailable("killed")

    def made(*writes: object) -> None:
        store(*writes)  # type: ignore[arg-type]  # as it was called
        raise Unavailable("killed")

    for fault, status in ((killed, 303), (made, 403)):
        with monkeypatch.context() as patch:
            patch.setattr(issuer.people, "store", fault)
            assert browser.submit(page, "/oauth2/sign-in/code", code=code_of(issuer, secret)).status_code == 503
        halfway = browser.client.cookies["postroom-session"]
        answer = browser.submit(page, "/oauth2/sign-in/code", code=code_of(issuer, secret))
        if fault is killed:
            assert answer.status_code == status
            clock.advance(30)
            page = browser.client.get(browser.sign_in().headers["location"])
        else:
            assert issuer.sessions.find(halfway) is None
            again = browser.client.get(browser.sign_in().headers["location"])
            assert browser.submit(again, "/oauth2/sign-in/code", code=code_of(issuer, secret)).status_code == status
