"""Tokens at the endpoints: what is exchanged once, what a reuse ends, what a forger cannot do."""

from __future__ import annotations

import base64
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from postroom.errors import Unauthenticated, Unavailable
from postroom.identity.oauth import OAuthError
from postroom.identity.provider import OpenIdProvider
from tests.fakes.clock import ManualClock
from tests.identity.provider_kit import (
    CALLBACK,
    CHALLENGE,
    EMAIL,
    URL,
    Browser,
    add_user,
    answered,
    authorization_parameters,
    open_tables,
    provider_on,
)


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified."""
    header, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(header), json.loads(claims)


@pytest.fixture
def user(provider: OpenIdProvider) -> str:
    return add_user(provider).subject


@pytest.mark.usefixtures("user")
def test_an_access_token_is_what_the_door_expects(browser: Browser, user: str, clock: ManualClock) -> None:
    """RFC 9068."""
    header, claims = parts(browser.tokens()["access_token"])
    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    assert (claims["iss"], claims["sub"], claims["aud"], claims["client_id"]) == (URL, user, "postroom", "console")
    assert claims["exp"] - claims["iat"] == 600
    assert claims["iat"] == clock.now() // 1_000
    assert claims["scope"] == "openid email"
    assert claims["jti"]


@pytest.mark.usefixtures("user")
def test_an_id_token_carries_the_nonce_and_how_somebody_signed_in(browser: Browser) -> None:
    header, claims = parts(browser.tokens()["id_token"])
    assert header["typ"] == "JWT"
    assert (claims["aud"], claims["nonce"], claims["amr"], claims["email"]) == ("console", "n-1", ["pwd"], EMAIL)


@pytest.mark.usefixtures("user")
def test_a_wrong_verifier_gets_nothing_and_uses_the_code_up(browser: Browser) -> None:
    browser.sign_in()
    code = browser.code()
    assert browser.redeem(code, code_verifier="w" * 50).json()["error"] == "invalid_grant"
    assert browser.redeem(code).json()["error"] == "invalid_grant"


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "changed",
    [{"redirect_uri": f"{URL}/"}, {"client_id": "cli"}, {"code_verifier": "short"}, {"code_verifier": ""}, {"redirect_uri": ""}],
)
def test_a_code_is_only_for_the_request_it_came_from(browser: Browser, changed: dict[str, str]) -> None:
    browser.sign_in()
    answer = browser.redeem(browser.code(), **changed)
    assert answer.status_code == 400
    assert answer.json()["error"] in {"invalid_grant", "invalid_request"}


@pytest.mark.usefixtures("user")
def test_a_code_is_good_for_a_minute(browser: Browser, clock: ManualClock) -> None:
    browser.sign_in()
    code = browser.code()
    clock.advance(61)
    assert browser.redeem(code).json()["error"] == "invalid_grant"


@pytest.mark.usefixtures("user")
def test_a_code_that_comes_again_ends_what_it_gave(browser: Browser) -> None:
    browser.sign_in()
    code = browser.code()
    tokens = browser.redeem(code).json()
    assert browser.redeem(code).json()["error"] == "invalid_grant"
    assert browser.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.usefixtures("user")
def test_a_refresh_token_is_exchanged_for_the_next(browser: Browser, user: str) -> None:
    first = browser.tokens()
    second = browser.refresh(first["refresh_token"]).json()
    third = browser.refresh(second["refresh_token"]).json()
    assert len({first["refresh_token"], second["refresh_token"], third["refresh_token"]}) == 3
    assert parts(third["access_token"])[1]["sub"] == user


@pytest.mark.usefixtures("user")
def test_an_old_refresh_token_ends_the_whole_family(browser: Browser) -> None:
    first = browser.tokens()
    second = browser.refresh(first["refresh_token"]).json()
    assert browser.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert browser.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.usefixtures("user")
def test_a_family_is_not_ended_by_somebody_who_knows_none_of_its_tokens(browser: Browser) -> None:
    token = browser.tokens()["refresh_token"]
    assert browser.refresh("A" * len(token)).json()["error"] == "invalid_grant"
    assert browser.token(grant_type="refresh_token", refresh_token=token, client_id="cli").json()["error"] == "invalid_grant"
    assert browser.refresh(token).status_code == 200


@pytest.mark.parametrize("kind", ["code", "refresh"])
def test_of_two_at_the_same_moment_one_wins_and_nothing_stays_usable(tmp_path: Path, kind: str) -> None:
    """Eight clients with connections of their own present the same code, or the same refresh token."""
    clock = ManualClock()
    with ExitStack() as stack:
        issuers = [provider_on(stack.enter_context(open_tables(tmp_path, clock)), clock) for _ in range(8)]
        browser = Browser(issuers[0])
        add_user(issuers[0])
        browser.sign_in()
        given = browser.code() if kind == "code" else browser.tokens()["refresh_token"]

        def present(provider: OpenIdProvider) -> str | None:
            try:
                if kind == "code":
                    return provider.grants.redeem(
                        given, client="console", redirect_uri=CALLBACK, challenge=CHALLENGE
                    ).refresh_token
                return provider.grants.refresh(given, client="console").refresh_token
            except OAuthError:
                return None

        with ThreadPoolExecutor(len(issuers)) as pool:
            won = [token for token in pool.map(present, issuers) if token is not None]
        assert len(won) == 1
        with pytest.raises(OAuthError):
            issuers[0].grants.refresh(won[0], client="console")


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("applied", [True, False])
def test_a_crash_while_a_code_is_redeemed_leaves_nothing_that_works_twice(
    provider: OpenIdProvider, browser: Browser, monkeypatch: pytest.MonkeyPatch, *, applied: bool
) -> None:
    """The store's answer is lost: whether the write was made or not, at most one redemption gives tokens that last."""
    browser.sign_in()
    code = browser.code()
    tables = provider.grants._tables
    write = tables.write

    def losing(writes: Any) -> Any:
        if applied:
            write(writes)
        raise Unavailable("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write", losing)
        assert browser.redeem(code).status_code == 503
    again = browser.redeem(code)
    if applied:
        assert again.json()["error"] == "invalid_grant"
        assert tables.query("#issuer#families").items == []
    else:
        assert again.status_code == 200
    assert browser.redeem(code).json()["error"] == "invalid_grant"
    assert tables.query("#issuer#families").items == []


@pytest.mark.parametrize("how", ["sign_out", "disable", "delete"])
def test_what_was_signed_in_ends_with_the_person(provider: OpenIdProvider, browser: Browser, user: str, how: str) -> None:
    tokens = browser.tokens()
    waiting = browser.code()
    getattr(provider.users, how)(user)
    assert browser.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert browser.redeem(waiting).json()["error"] == "invalid_grant"
    assert "/oauth2/sign-in" in browser.authorize().headers["location"]


@pytest.mark.usefixtures("user")
def test_revoking_any_token_of_a_family_ends_it_and_an_unknown_one_is_no_error(browser: Browser) -> None:
    """RFC 7009 §2.2."""
    first = browser.tokens()
    second = browser.refresh(first["refresh_token"]).json()
    assert browser.post("/oauth2/revoke", client_id="console", token="nothing").status_code == 200
    assert browser.post("/oauth2/revoke", client_id="cli", token=second["refresh_token"]).status_code == 200
    assert (
        browser.post("/oauth2/revoke", client_id="console", token=second["access_token"]).json()["error"]
        == "unsupported_token_type"
    )
    third = browser.refresh(second["refresh_token"])
    assert third.status_code == 200
    assert browser.post("/oauth2/revoke", client_id="console", token=first["refresh_token"]).status_code == 200
    assert browser.refresh(third.json()["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.usefixtures("user")
def test_more_scope_than_was_granted_is_refused(browser: Browser) -> None:
    token = browser.tokens()["refresh_token"]
    answer = browser.token(grant_type="refresh_token", refresh_token=token, scope="openid email profile")
    assert answer.json()["error"] == "invalid_scope"


def test_a_program_must_prove_itself(provider: OpenIdProvider, browser: Browser) -> None:
    client, secret = provider.clients.create("acme", name="import")
    asked = {"grant_type": "client_credentials", "client_id": client.id}
    assert browser.token(**asked, client_secret=secret).status_code == 200
    for wrong in ({"client_secret": secret[:-1] + "_"}, {}, {"client_id": "acme.2222222222222222", "client_secret": secret}):
        refused = browser.token(**(asked | wrong))
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    basic = browser.client.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=(client.id, "wrong"))
    assert basic.headers["www-authenticate"].startswith("Basic")
    assert browser.token(grant_type="client_credentials").json()["error"] == "unauthorized_client"
    provider.clients.revoke(client.id)
    assert browser.token(**asked, client_secret=secret).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (b"grant_type=password&client_id=console", "application/x-www-form-urlencoded", "unsupported_grant_type"),
        (b"grant_type=refresh_token&grant_type=x&client_id=console", "application/x-www-form-urlencoded", "invalid_request"),
        (b"grant_type=refresh_token&client_id=console", "application/x-www-form-urlencoded", "invalid_request"),
        (b'{"grant_type": "refresh_token"}', "application/json", "invalid_request"),
        (b"grant_type=%ff&client_id=console", "application/x-www-form-urlencoded", "invalid_request"),
        (b"grant_type=refresh_token&client_id=console&refresh_token=%00", "application/x-www-form-urlencoded", "invalid_grant"),
        (b"client_id=nobody", "application/x-www-form-urlencoded", "invalid_client"),
        (b"a" * 20_000, "application/x-www-form-urlencoded", "invalid_request"),
        (b"\xff\xfe", "application/x-www-form-urlencoded", "invalid_request"),
    ],
)
def test_errors_have_the_shape_of_the_standard(browser: Browser, body: bytes, kind: str, error: str) -> None:
    """RFC 6749 §5.2."""
    answer = browser.client.post("/oauth2/token", content=body, headers={"Content-Type": kind})
    assert answer.json()["error"] == error
    assert 400 <= answer.status_code < 500
    assert answer.headers["cache-control"] == "no-store"


def test_the_wrong_algorithm_or_key_is_no_token_of_ours(provider: OpenIdProvider, browser: Browser, user: str) -> None:
    """No algorithm, the public key as an HMAC secret, a foreign key under our key's id, another kind of token."""
    good = browser.tokens()
    header, claims = parts(good["access_token"])
    stored = provider.keys.published()["keys"][0]
    public = ECKey.import_key({name: stored[name] for name in ("kty", "crv", "x", "y")})

    def coded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    unsigned = f"{coded(header | {'alg': 'none'})}.{coded(claims)}."
    body = f"{coded(header | {'alg': 'HS256'})}.{coded(claims)}"
    secrets = (public.as_pem(private=False), json.dumps(stored).encode(), stored["x"].encode())
    macs = (hmac.digest(secret, body.encode(), "sha256") for secret in secrets)
    confused = [f"{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}" for mac in macs]
    foreign = jwt.encode(header, claims, ECKey.generate_key("P-256"), algorithms=["ES256"])
    tampered = f"{coded(header)}.{coded(claims | {'sub': 'somebody-else'})}.{good['access_token'].split('.')[2]}"
    odd = f"{coded(header | {'crit': 5})}.{coded(claims)}.{good['access_token'].split('.')[2]}"
    for token in (unsigned, *confused, foreign, tampered, odd, good["id_token"], good["refresh_token"], "", "a.b.c", "é"):
        with pytest.raises(Unauthenticated):
            provider.tokens.read_access(token)
    assert provider.tokens.read_access(good["access_token"])["sub"] == user


@pytest.mark.usefixtures("user")
def test_an_access_token_expires(provider: OpenIdProvider, browser: Browser, clock: ManualClock) -> None:
    token = browser.tokens()["access_token"]
    clock.advance(599)
    assert provider.tokens.read_access(token)
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        provider.tokens.read_access(token)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/callback",
        f"{CALLBACK}/",
        f"{CALLBACK}?x=1",
        f"{CALLBACK}#x",
        f"{URL}.evil.example/callback",
        f"{URL}@evil.example/callback",
        "http://door.example:80/callback",
        "HTTP://door.example/callback",
        "//evil.example",
        "",
    ],
)
def test_nothing_is_sent_to_an_address_that_is_not_registered(browser: Browser, uri: str) -> None:
    browser.sign_in()
    refused = browser.authorize(redirect_uri=uri)
    assert refused.status_code == 400
    assert "location" not in refused.headers
    assert "evil" not in refused.text


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("http://127.0.0.1:4321/callback", True),
        ("http://[::1]:4321/callback", True),
        ("http://127.0.0.1/callback", True),
        ("http://localhost:4321/callback", False),
        ("https://127.0.0.1:4321/callback", False),
        ("http://127.0.0.1:4321/other", False),
        ("http://127.0.0.1:4321/callback?x", False),
        ("http://127.0.0.1:4321@evil.example/callback", False),
        ("http://user@127.0.0.1:4321/callback", False),
        ("http://127.0.0.1:0/callback", False),
        ("http://127.0.0.1:99999/callback", False),
        ("http://127.0.0.1.evil.example:4321/callback", False),
        ("http://127.0.0.1:4321/callback\n", False),
    ],
)
def test_the_command_line_may_choose_its_port_and_nothing_else(browser: Browser, uri: str, *, allowed: bool) -> None:
    """RFC 8252 §7.3."""
    browser.sign_in()
    answer = browser.authorize(client_id="cli", redirect_uri=uri)
    assert (answer.status_code == 303) is allowed
    assert not allowed or answer.headers["location"].startswith(uri + "?code=")


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "x"}, "request_not_supported"),
        ({"request_uri": "https://x.example"}, "request_uri_not_supported"),
        ({"scope": "email"}, "invalid_scope"),
        ({"nonce": "n" * 300}, "invalid_request"),
        ({"state": "s" * 2_000}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
    ],
)
def test_other_errors_go_to_the_client(browser: Browser, changed: dict[str, str], error: str) -> None:
    browser.sign_in()
    answer = answered(browser.authorize(**changed))
    assert answer["error"] == error
    assert answer["iss"] == URL
    assert "code" not in answer


def test_an_unknown_client_or_a_program_is_told_nothing_by_redirect(provider: OpenIdProvider, browser: Browser) -> None:
    client, _ = provider.clients.create("acme", name="import")
    for name in ("nobody", client.id, ""):
        assert browser.authorize(client_id=name).status_code == 400
    twice = browser.client.get(
        "/oauth2/authorize", params=[*authorization_parameters().items(), ("redirect_uri", "https://evil.example")]
    )
    assert twice.status_code == 400


@pytest.mark.usefixtures("user")
def test_a_client_can_ask_for_a_new_sign_in_and_gets_it_once(browser: Browser, clock: ManualClock) -> None:
    browser.sign_in()
    clock.advance(100)
    for asked in ({"prompt": "login"}, {"max_age": "50"}, {"max_age": "0"}, {"prompt": "select_account"}):
        assert "/oauth2/sign-in" in browser.authorize(**asked).headers["location"]
    assert answered(browser.authorize(max_age="200"))["code"]
    assert answered(browser.authorize(max_age="50", prompt="none"))["error"] == "login_required"
    return_path = browser.client.get(browser.authorize(prompt="login").headers["location"])
    assert return_path.status_code == 200
    assert "prompt" not in return_path.text.partition("next")[2]


def test_the_metadata_names_addresses_that_exist(browser: Browser) -> None:
    document = browser.get("/.well-known/openid-configuration").json()
    assert document["issuer"] == URL
    for name, address in document.items():
        if name.endswith(("_endpoint", "jwks_uri")):
            assert browser.client.get(address).status_code != 404, name
    assert "userinfo_endpoint" not in document
    assert document["code_challenge_methods_supported"] == ["S256"]
