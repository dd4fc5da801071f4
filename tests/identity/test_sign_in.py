"""The sign-in pages: who gets in and who does not, what forms must carry, and that nothing is told about who exists."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from html import unescape
from pathlib import Path
from threading import BoundedSemaphore, Event
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient

from postroom.errors import Unauthenticated, Unavailable
from postroom.identity.credentials import Passwords
from postroom.identity.login import Session
from postroom.identity.login_throttle import TooManyAttempts
from postroom.identity.provider import OpenIdProvider
from postroom.identity.routes import identity_routes
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.identity.provider_kit import (
    CALLBACK,
    EMAIL,
    PASSWORD,
    URL,
    Browser,
    add_user,
    answered,
    enrol,
    hidden,
    open_tables,
    provider_on,
    return_path_to,
    totp_code,
)


def test_the_way_leads_over_the_password_back_to_the_client(provider: OpenIdProvider, browser: Browser) -> None:
    add_user(provider)
    asked = browser.authorize()
    assert urlsplit(asked.headers["location"]).path == "/oauth2/sign-in"
    page = browser.client.get(asked.headers["location"])
    signed_in = browser.submit(page, "/oauth2/sign-in", email=EMAIL, password=PASSWORD)
    answer = browser.client.get(signed_in.headers["location"])
    assert answer.headers["location"].startswith(f"{CALLBACK}?code=")
    assert answered(answer)["state"] == "s-1"
    assert answered(answer)["iss"] == URL


def test_a_wrong_password_and_nobody_of_that_name_look_the_same(provider: OpenIdProvider, browser: Browser) -> None:
    user = add_user(provider)
    wrong = browser.sign_in(password="not the right one")
    nobody = browser.sign_in(email="bob@example.org")
    provider.users.disable(user.subject)
    disabled = browser.sign_in()
    texts = {answer.text.replace(EMAIL, "").replace("bob@example.org", "") for answer in (wrong, nobody, disabled)}
    assert [answer.status_code for answer in (wrong, nobody, disabled)] == [403] * 3
    assert len(texts) == 1
    assert "is wrong" in wrong.text


def test_nobody_costs_as_much_work_as_somebody(
    provider: OpenIdProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer to a password is one verification, so that its time tells nothing."""
    add_user(provider)
    provider.users.create("new@example.org")
    seen: list[str] = []
    verify = PasswordHasher.verify

    def counting(hasher: PasswordHasher, kept: str, given: str) -> bool:
        seen.append(kept)
        return bool(verify(hasher, kept, given))

    monkeypatch.setattr(PasswordHasher, "verify", counting)
    for email in (EMAIL, "nobody@example.org", "new@example.org"):
        browser.sign_in(email=email, password="not the right one")
    assert len(seen) == 3


def test_a_name_is_found_in_any_case_and_form(provider: OpenIdProvider, browser: Browser) -> None:
    add_user(provider, "Zoë@Example.org")
    assert browser.sign_in(email=" zoe\u0308@example.ORG").status_code == 303


@pytest.mark.parametrize("field", ["", "0" * 64, "\udcff"])
def test_a_form_without_its_token_is_refused(provider: OpenIdProvider, browser: Browser, field: str) -> None:
    add_user(provider)
    browser.get("/oauth2/sign-in")
    body = {"email": EMAIL, "password": PASSWORD} | ({"form_token": field.encode(errors="replace").decode()} if field else {})
    refused = browser.post("/oauth2/sign-in", **body)
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers


def test_a_forms_token_is_worth_nothing_in_another_browser(provider: OpenIdProvider, browser: Browser) -> None:
    add_user(provider)
    fields = hidden(browser.get("/oauth2/sign-in"), "/oauth2/sign-in")
    other = Browser(provider)
    other.get("/oauth2/sign-in")
    assert other.post("/oauth2/sign-in", email=EMAIL, password=PASSWORD, **fields).status_code == 403


def test_a_form_on_another_site_is_refused(provider: OpenIdProvider, browser: Browser) -> None:
    add_user(provider)
    fields = hidden(browser.get("/oauth2/sign-in"), "/oauth2/sign-in") | {"email": EMAIL, "password": PASSWORD}
    send = browser.client.post
    for origin in ("https://evil.example", "null", "http://["):
        assert send("/oauth2/sign-in", data=fields, headers={"Origin": origin}).status_code == 403
    assert send("/oauth2/sign-in", data=fields, headers={"Origin": URL}).status_code == 303


def test_a_session_that_was_planted_is_not_the_one_that_is_signed_in(provider: OpenIdProvider, browser: Browser) -> None:
    """Session fixation: each step gives a token of its own, and the one before is over."""
    user = add_user(provider)
    planted = "A" * 43
    browser.client.cookies.set("postroom-session", planted, domain="door.example", path="/")
    browser.sign_in()
    first = browser.client.cookies["postroom-session"]
    assert first != planted
    assert provider.sessions.find(planted) is None
    enrol(provider, user.subject)
    browser.sign_in()
    assert provider.sessions.find(first) is None


def test_a_halfway_session_opens_nothing(provider: OpenIdProvider, browser: Browser) -> None:
    user = add_user(provider)
    enrol(provider, user.subject)
    browser.sign_in()
    assert "/oauth2/sign-in" in browser.get("/oauth2/account").headers["location"]
    assert "/oauth2/sign-in" in browser.authorize().headers["location"]
    assert answered(browser.authorize(prompt="none"))["error"] == "login_required"


def test_the_second_step_gives_a_new_session_and_a_code_works_once(
    provider: OpenIdProvider, browser: Browser, clock: ManualClock
) -> None:
    user = add_user(provider)
    secret = enrol(provider, user.subject)
    clock.advance(60)
    code = totp_code(provider, secret)
    answers = []
    for one in (browser, Browser(provider)):
        page = one.client.get(one.sign_in(return_path_to()).headers["location"])
        halfway = one.client.cookies["postroom-session"]
        answers.append(one.submit(page, "/oauth2/sign-in/code", code=code))
        assert provider.sessions.full(halfway) is None
    assert answers[0].headers["location"].startswith("/oauth2/authorize?")
    assert provider.sessions.full(browser.client.cookies["postroom-session"]) is not None
    assert answers[1].status_code == 403
    assert "used before" in answers[1].text


def test_a_recovery_code_works_once(provider: OpenIdProvider, browser: Browser) -> None:
    user = add_user(provider)
    secret = enrol(provider, user.subject)
    kept, codes = provider.second_factor.recoverable(provider.users.get(user.subject))
    provider.users.store(kept)
    results = []
    for one in (browser, Browser(provider)):
        page = one.client.get(one.sign_in().headers["location"])
        results.append(one.submit(page, "/oauth2/sign-in/code", code=codes[3].upper().replace("-", " ")).status_code)
    assert results == [303, 403]
    assert len(provider.users.get(user.subject).recovery) == len(codes) - 1
    assert secret


def test_too_many_wrong_passwords_lock_out_even_the_right_one_for_a_while(
    provider: OpenIdProvider, browser: Browser, clock: ManualClock
) -> None:
    add_user(provider)
    for _ in range(6):
        assert browser.sign_in(password="not the right one").status_code == 403
    locked = browser.sign_in()
    assert locked.status_code == 429
    assert locked.headers["retry-after"] == "30"
    assert browser.sign_in(email="other@example.org").status_code == 403
    clock.advance(30)
    assert browser.sign_in().status_code == 303
    assert browser.sign_in(password="not the right one").status_code == 403


def test_one_address_cannot_try_everybody(provider: OpenIdProvider, browser: Browser, clock: ManualClock) -> None:
    add_user(provider)
    tried = [browser.sign_in(email=f"p{number}@example.org").status_code for number in range(22)]
    assert tried == [403] * 21 + [429]
    assert browser.sign_in().status_code == 429
    assert Browser(provider, "198.51.100.7").sign_in().status_code == 303
    clock.advance(31)
    assert browser.sign_in().status_code == 303


@pytest.mark.parametrize(
    "return_path",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/oauth2/authorize@evil.example",
        "/oauth2/authorizex?next=https://evil.example",
        "/oauth2/authorize/../../evil",
        "javascript:alert(1)",
        "\r\nLocation: https://evil.example",
        "",
    ],
)
def test_signing_in_leads_nowhere_else(provider: OpenIdProvider, browser: Browser, return_path: str) -> None:
    add_user(provider)
    page = browser.get("/oauth2/sign-in", next=return_path)
    assert "evil" not in page.text
    signed_in = browser.post(
        "/oauth2/sign-in", **(hidden(page, "/oauth2/sign-in") | {"next": return_path, "email": EMAIL, "password": PASSWORD})
    )
    assert signed_in.headers["location"] == "/oauth2/account"


def test_what_comes_from_outside_is_escaped(browser: Browser) -> None:
    page = browser.get("/oauth2/sign-in", hint='"><script>alert(1)</script>', next=return_path_to(state='"><script>'))
    assert "<script" not in page.text
    assert "&quot;&gt;&lt;script&gt;" in page.text.replace("&#34;", "&quot;").replace("&#x2f;", "/")


def test_pages_allow_no_scripts_no_frames_and_no_caches(provider: OpenIdProvider, browser: Browser) -> None:
    add_user(provider)
    browser.sign_in()
    for path in ("/oauth2/sign-in", "/oauth2/account", "/oauth2/logout", "/oauth2/invitation?token=x", "/oauth2/authorize"):
        page = browser.client.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert "<script" not in page.text
        assert "style=" not in page.text


def test_the_form_may_lead_on_to_the_client_that_asked_and_no_other(browser: Browser) -> None:
    """Browsers hold the redirect after a form against `form-action`."""
    local = return_path_to(client_id="cli", redirect_uri="http://127.0.0.1:4321/callback")
    assert (
        "form-action 'self' http://127.0.0.1:4321;"
        in browser.get("/oauth2/sign-in", next=local).headers["content-security-policy"]
    )
    evil = return_path_to(redirect_uri="https://evil.example/callback")
    assert "evil" not in browser.get("/oauth2/sign-in", next=evil).headers["content-security-policy"]


def test_cookies_are_out_of_scripts_reach_and_bound_to_the_host_under_https(tables: SqliteTables, clock: ManualClock) -> None:
    provider = provider_on(tables, clock, url="https://door.example")
    add_user(provider)
    browser = Browser(provider)
    answer = browser.sign_in()
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-postroom-session=")
    assert all(mark in cookie for mark in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    assert "Domain" not in cookie


def test_pages_can_be_filled_in_by_password_managers(provider: OpenIdProvider, browser: Browser) -> None:
    user = add_user(provider)
    enrol(provider, user.subject)
    page = browser.get("/oauth2/sign-in")
    assert 'autocomplete="username"' in page.text
    assert 'autocomplete="current-password"' in page.text
    code = browser.client.get(browser.sign_in().headers["location"])
    assert 'autocomplete="one-time-code"' in code.text
    assert 'lang="en"' in page.text
    assert parse_qs(urlsplit(str(code.url)).query)["next"] == ["/oauth2/account"]


def test_of_those_who_use_a_code_at_the_same_moment_one_gets_in(tmp_path: Path) -> None:
    clock = ManualClock()
    with ExitStack() as stack:
        issuers = [provider_on(stack.enter_context(open_tables(tmp_path, clock)), clock) for _ in range(5)]
        secret = enrol(issuers[0], add_user(issuers[0]).subject)
        clock.advance(30)
        code = totp_code(issuers[0], secret)
        tokens = [provider.sign_in.with_password(EMAIL, PASSWORD, address="192.0.2.1")[0] for provider in issuers]
        halves = [provider.sessions.find(token) for provider, token in zip(issuers, tokens, strict=True)]

        def second(provider: OpenIdProvider, halfway: Session | None) -> bool:
            assert halfway is not None
            try:
                provider.sign_in.with_code(halfway, code, address="192.0.2.1")
            except (Unauthenticated, TooManyAttempts):
                return False
            return True

        with ThreadPoolExecutor(len(issuers)) as pool:
            assert sum(pool.map(second, issuers, halves)) == 1


def test_behind_a_path_every_address_keeps_it(tables: SqliteTables, clock: ManualClock) -> None:
    """A proxy that hands on https://example.org/mail/… without the /mail."""
    provider = provider_on(tables, clock, url="https://example.org/mail")
    add_user(provider)
    app = FastAPI()
    app.include_router(identity_routes(provider))
    with TestClient(app, base_url="https://example.org", follow_redirects=False) as client:
        asked = client.get(return_path_to(redirect_uri="https://example.org/mail/callback"))
        assert asked.headers["location"].startswith("/mail/oauth2/sign-in?next=")
        page = client.get(asked.headers["location"].removeprefix("/mail"))
        fields = hidden(page, "/mail/oauth2/sign-in") | {"email": EMAIL, "password": PASSWORD}
        answer = client.post("/oauth2/sign-in", data=fields)
        assert answer.headers["location"].startswith("/mail/oauth2/authorize?")
        assert 'href="/mail/oauth2/style.css"' in unescape(page.text)
        answer = client.get(answer.headers["location"].removeprefix("/mail"))
        assert answer.headers["location"].startswith("https://example.org/mail/callback?code=")


class HeldUp(PasswordHasher):
    """Takes as long as the test wants."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.go_on = Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        assert self.go_on.wait(10)
        return super().verify(hash, password)


def test_a_flood_of_sign_ins_leaves_threads_for_the_rest_of_the_door(clock: ManualClock) -> None:
    """There are 40."""
    hasher, many = HeldUp(), 30
    passwords = Passwords(clock, hasher)
    passwords.prepare()
    with ThreadPoolExecutor(many) as threads:
        tries = [threads.submit(passwords.matches, None, "a guess") for _ in range(many)]
        over = [each for _, each in zip(range(many - 12), as_completed(tries, timeout=5), strict=False)]
        assert all(isinstance(each.exception(), Unavailable) for each in over)
        hasher.go_on.set()
        assert [each.result() for each in set(tries) - set(over)] == [False] * 12
    assert passwords.matches(None, "another") is False


def test_what_the_flood_leaves_no_room_for_is_told_to_come_again(
    provider: OpenIdProvider, browser: Browser, monkeypatch: Any
) -> None:
    add_user(provider)
    monkeypatch.setattr(provider.passwords, "_room", BoundedSemaphore(1))
    with provider.passwords._slot():
        assert browser.sign_in().status_code == 503
    assert browser.sign_in().status_code == 303
