"""The account page, the page behind an invitation, and signing out."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest

from postroom.errors import Unavailable
from postroom.identity.provider import OpenIdProvider
from tests.fakes.clock import ManualClock
from tests.identity.provider_kit import EMAIL, PASSWORD, URL, Browser, add_user, enrol, hidden, totp_code

ACCOUNT = "/oauth2/account"
NEW = "nine loud badgers"


@pytest.fixture
def user(provider: OpenIdProvider, browser: Browser) -> str:
    """Somebody who is signed in."""
    subject = add_user(provider).subject
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


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "act", ["password", "second-factor", "second-factor/confirm", "second-factor/remove", "recovery-codes", "sign-out-everywhere"]
)
def test_no_act_is_done_without_the_forms_token(browser: Browser, act: str) -> None:
    assert browser.post(f"{ACCOUNT}/{act}", current=PASSWORD, password=NEW, repeated=NEW).status_code == 403
    assert browser.get(ACCOUNT).status_code == 200
    assert "Set it up" in browser.get(ACCOUNT).text


def test_a_new_password_ends_every_other_session_and_token(provider: OpenIdProvider, browser: Browser, user: str) -> None:
    other = Browser(provider)
    tokens = other.tokens()
    before = browser.client.cookies["postroom-session"]
    done = browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", current=PASSWORD, password=NEW, repeated=NEW)
    assert "The password is changed" in browser.client.get(done.headers["location"]).text
    assert browser.client.cookies["postroom-session"] != before
    assert provider.sessions.find(before) is None
    assert other.get(ACCOUNT).status_code == 303
    assert other.refresh(tokens["refresh_token"]).status_code == 400
    assert other.sign_in().status_code == 403
    assert other.sign_in(password=NEW).status_code == 303
    assert user


@pytest.mark.usefixtures("user")
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


def test_guesses_on_the_page_are_counted_like_those_at_sign_in(provider: OpenIdProvider, browser: Browser, user: str) -> None:
    for _ in range(6):
        browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", current="wrong", password=NEW, repeated=NEW)
    locked = browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/password", current=PASSWORD, password=NEW, repeated=NEW)
    assert locked.status_code == 429
    assert locked.headers["retry-after"] == "30"
    assert provider.users.get(user).epoch == 1


def test_the_second_step_from_the_qr_code_to_the_first_sign_in(
    provider: OpenIdProvider, browser: Browser, user: str, clock: ManualClock
) -> None:
    browser.submit(browser.get(ACCOUNT), f"{ACCOUNT}/second-factor")
    page = browser.get(ACCOUNT)
    assert "<svg" in page.text
    found = re.search(r'class="secret">([A-Z2-7]{32})<', page.text)
    assert found
    secret = found[1]
    confirm = f"{ACCOUNT}/second-factor/confirm"
    assert browser.submit(page, confirm, code="000000", password=PASSWORD).status_code == 403
    assert browser.submit(page, confirm, code=totp_code(provider, secret), password="wrong").status_code == 403
    assert provider.users.get(user).second is None
    done = browser.submit(page, confirm, code=totp_code(provider, secret), password=PASSWORD)
    codes = re.findall(r"<li>([a-z2-7-]+)</li>", done.text)
    assert len(codes) == 10
    assert secret not in browser.get(ACCOUNT).text
    assert codes[0] not in browser.get(ACCOUNT).text
    clock.advance(30)
    other = Browser(provider)
    step = other.client.get(other.sign_in().headers["location"])
    assert other.submit(step, "/oauth2/sign-in/code", code=totp_code(provider, secret)).headers["location"] == ACCOUNT
    assert other.get(ACCOUNT).status_code == 200


def test_the_second_step_is_turned_off_only_by_password_and_code(
    provider: OpenIdProvider, browser: Browser, user: str, clock: ManualClock
) -> None:
    secret = enrol(provider, user)
    clock.advance(30)
    fields = hidden(browser.get(ACCOUNT), f"{ACCOUNT}/recovery-codes")
    remove = f"{ACCOUNT}/second-factor/remove"
    assert browser.post(remove, **fields, password=PASSWORD, code="000000").status_code == 403
    assert browser.post(remove, **fields, password="wrong", code=totp_code(provider, secret)).status_code == 403
    assert provider.users.get(user).second is not None
    renewed = browser.post(f"{ACCOUNT}/recovery-codes", **fields, password=PASSWORD, code=totp_code(provider, secret))
    codes = re.findall(r"<li>([a-z2-7-]+)</li>", renewed.text)
    assert browser.post(remove, **fields, password=PASSWORD, code=codes[0]).status_code == 303
    assert provider.users.get(user).second is None
    assert provider.users.get(user).recovery == ()


@pytest.mark.usefixtures("user")
def test_signing_out_everywhere_ends_every_session(provider: OpenIdProvider, browser: Browser) -> None:
    other = Browser(provider)
    other.sign_in()
    fields = hidden(browser.get(ACCOUNT), "/oauth2/sign-out")
    browser.post(f"{ACCOUNT}/sign-out-everywhere", **fields)
    assert browser.get(ACCOUNT).status_code == 303
    assert other.get(ACCOUNT).status_code == 303


@pytest.mark.usefixtures("user")
def test_signing_out_ends_the_session_and_not_only_the_cookie(provider: OpenIdProvider, browser: Browser) -> None:
    token = browser.client.cookies["postroom-session"]
    out = browser.submit(browser.get(ACCOUNT), "/oauth2/sign-out")
    assert "You are signed out" in out.text
    assert provider.sessions.find(token) is None
    assert "postroom-session" not in browser.client.cookies


def test_a_client_signs_out_whom_it_signed_in(browser: Browser, provider: OpenIdProvider) -> None:
    """RP-Initiated Logout: with the person's ID token at once and back; a link without it asks first."""
    add_user(provider)
    tokens = browser.tokens()
    asked = browser.get("/oauth2/logout", post_logout_redirect_uri=f"{URL}/", client_id="console")
    assert "Sign out?" in asked.text
    assert browser.get(ACCOUNT).status_code == 200
    out = browser.get("/oauth2/logout", id_token_hint=tokens["id_token"], post_logout_redirect_uri=f"{URL}/", state="s 1")
    assert out.headers["location"] == f"{URL}/?state=s+1"
    assert browser.get(ACCOUNT).status_code == 303


def test_signing_out_leads_to_no_address_that_is_not_registered(browser: Browser, provider: OpenIdProvider) -> None:
    add_user(provider)
    tokens = browser.tokens()
    for to in ("https://evil.example/", f"{URL}/x", f"{URL}.evil.example/"):
        out = browser.get("/oauth2/logout", id_token_hint=tokens["id_token"], post_logout_redirect_uri=to)
        assert "location" not in out.headers
        assert "evil" not in out.text


def test_somebody_elses_id_token_signs_nobody_out(browser: Browser, provider: OpenIdProvider) -> None:
    add_user(provider)
    add_user(provider, "bob@example.org")
    other = Browser(provider)
    other.sign_in(email="bob@example.org")
    bobs = other.redeem(other.code()).json()["id_token"]
    browser.sign_in()
    for hint in (bobs, bobs[:-4] + "AAAA", "x"):
        assert "Sign out?" in browser.get("/oauth2/logout", id_token_hint=hint).text
    assert browser.get(ACCOUNT).status_code == 200


def test_an_invitations_page_uses_nothing_up_until_a_password_is_set(provider: OpenIdProvider, browser: Browser) -> None:
    user = provider.users.create(EMAIL)
    path = provider.invitations.invite(user).removeprefix(URL)
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


def test_an_invitations_form_needs_its_token_too(provider: OpenIdProvider, browser: Browser) -> None:
    token = provider.invitations.invite(provider.users.create(EMAIL)).partition("token=")[2]
    assert browser.post("/oauth2/invitation", token=token, password=NEW, repeated=NEW).status_code == 403
    assert provider.users.by_email(EMAIL) == provider.invitations.find(token).user


def test_a_second_step_that_is_on_is_not_replaced_without_its_code(provider: OpenIdProvider, browser: Browser, user: str) -> None:
    fields = hidden(browser.get(ACCOUNT), f"{ACCOUNT}/second-factor")
    secret = enrol(provider, user)
    assert browser.post(f"{ACCOUNT}/second-factor", **fields).status_code == 409
    assert browser.post(f"{ACCOUNT}/second-factor/confirm", **fields, password=PASSWORD, code="000000").status_code == 409
    kept = provider.users.get(user)
    assert kept.proposed is None
    assert provider.second_factor.proposal(replace(kept, proposed=kept.second)) == secret


def test_a_crash_in_the_second_step_leaves_the_code_unused_or_somebody_signed_in(
    provider: OpenIdProvider, browser: Browser, user: str, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    """Its three changes are one write: lost, the same code still works; made, it works no more."""
    secret = enrol(provider, user)
    clock.advance(30)
    page = browser.client.get(browser.sign_in().headers["location"])
    store = provider.users.store

    def killed(*_: object) -> None:
        raise Unavailable("killed")

    def made(*writes: object) -> None:
        store(*writes)  # type: ignore[arg-type]  # as it was called
        raise Unavailable("killed")

    for fault, status in ((killed, 303), (made, 403)):
        with monkeypatch.context() as patch:
            patch.setattr(provider.users, "store", fault)
            assert browser.submit(page, "/oauth2/sign-in/code", code=totp_code(provider, secret)).status_code == 503
        halfway = browser.client.cookies["postroom-session"]
        answer = browser.submit(page, "/oauth2/sign-in/code", code=totp_code(provider, secret))
        if fault is killed:
            assert answer.status_code == status
            clock.advance(30)
            page = browser.client.get(browser.sign_in().headers["location"])
        else:
            assert provider.sessions.find(halfway) is None
            again = browser.client.get(browser.sign_in().headers["location"])
            assert browser.submit(again, "/oauth2/sign-in/code", code=totp_code(provider, secret)).status_code == status
