"""The directory, passwords, counted tries and invitations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from postroom.errors import Conflict, Invalid, NotFound, Unauthenticated
from postroom.identity.credentials import check_rules
from postroom.identity.login_throttle import ADDRESS, PASSWORD, SECOND, ThrottleKey, ThrottleLimit, TooManyAttempts, address_name
from postroom.identity.provider import OpenIdProvider
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.identity.provider_kit import EMAIL, add_user, open_tables, provider_on
from tests.identity.provider_kit import PASSWORD as RIGHT


def test_an_address_belongs_to_one_person(provider: OpenIdProvider) -> None:
    user = provider.users.create(" Ada@Example.org")
    with pytest.raises(Conflict, match="already"):
        provider.users.create("ada@example.ORG")
    assert provider.users.by_email("ADA@example.org") == user
    assert provider.users.list().items == [user]


@pytest.mark.parametrize(
    "text", ["", "ada", "@example.org", "ada@", "a da@example.org", "a\x00@b.example", "a" * 250 + "@b.example"]
)
def test_what_is_no_address_is_refused_and_is_nobody(provider: OpenIdProvider, text: str) -> None:
    with pytest.raises(Invalid):
        provider.users.create(text)
    assert provider.users.by_email(text) is None


def test_whoever_is_removed_is_gone_and_the_address_free_for_somebody_else(provider: OpenIdProvider) -> None:
    user = add_user(provider)
    assert provider.users.delete(user.subject)
    assert not provider.users.delete(user.subject)
    assert provider.users.by_email(EMAIL) is None
    assert provider.users.create(EMAIL).subject != user.subject


def test_nothing_secret_shows(provider: OpenIdProvider) -> None:
    user = add_user(provider)
    assert user.password is not None
    assert "argon2id" in user.password
    assert "argon2" not in repr(user)


@pytest.mark.parametrize(
    "password",
    [
        "short words",
        "x" * 257,
        "aaaaaaaaaaaaaaaa",
        "abababababab",
        "abcdefghijklmn",
        "987654321098",
        "qwertyuiopasdf",
        "ada.lovelace-is-me",
        "password1234",
        "P@ssw0rd!!!!",
        "Passwordpassword",
        "Willkommen2026!",
        "correct horse battery staple",
        "administrator1",
        "postroom2026",
    ],
)
def test_passwords_that_are_guessed_first_are_refused(password: str) -> None:
    with pytest.raises(Invalid):
        check_rules(password, "ada.lovelace@example.org")


@pytest.mark.parametrize(
    "password",
    [
        "seven quiet otters",
        "my password is a lobster",
        "éléphant dans la neige",
        "p9$kQ2!vLx7&",
        "日本語のとても長い秘密の言葉",
        " leading and trailing ",
        "a lobster " * 25,
    ],
)
def test_other_passwords_need_no_rules_of_composition(password: str) -> None:
    check_rules(password, "al@example.org")


def test_one_password_typed_on_different_keyboards(provider: OpenIdProvider) -> None:
    user = add_user(provider, password="café crème brûlée")
    assert provider.passwords.matches(user, "cafe\u0301 cre\u0300me bru\u0302le\u0301e")
    assert not provider.passwords.matches(user, "cafe creme brulee")
    assert not provider.passwords.matches(user, "\udcff" * 20)
    assert not provider.passwords.matches(user, "x" * 1_000_000)


def test_a_hash_of_other_costs_is_replaced_at_the_next_sign_in(tables: SqliteTables, clock: ManualClock) -> None:
    user = add_user(provider_on(tables, clock))
    costly = OpenIdProvider(
        tables,
        PlainSecrets(),
        clock,
        url="http://door.example",
        hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1),
    )
    costly.sign_in.with_password(EMAIL, RIGHT, address="192.0.2.1")
    kept = costly.users.get(user.subject)
    assert kept.password is not None
    assert "m=16,t=2" in kept.password


@pytest.mark.parametrize(("limit", "pauses"), [(PASSWORD, [30, 60, 120, 240, 480, 900, 900]), (SECOND, [60, 120, 240, 480, 960])])
def test_the_pause_doubles_up_to_its_most(limit: ThrottleLimit, pauses: list[int]) -> None:
    found = [limit.pause_ms(5 + count) // 1_000 for count in range(len(pauses) + 1)]
    assert found == [0, *pauses]


def test_tries_at_the_same_moment_are_all_counted(tmp_path: Path) -> None:
    """Forty guesses at once get no further than forty in a row."""
    clock = ManualClock()
    who = [ThrottleKey("person/x", PASSWORD)]
    with ExitStack() as stack:
        issuers = [provider_on(stack.enter_context(open_tables(tmp_path, clock)), clock) for _ in range(8)]

        def attempt(number: int) -> bool:
            try:
                issuers[number % 8].throttle.begin(who)
            except TooManyAttempts:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            looked_at = sum(pool.map(attempt, range(40)))
    assert 1 <= looked_at <= 6


def test_tries_are_forgotten_after_a_day(provider: OpenIdProvider, clock: ManualClock) -> None:
    who = [ThrottleKey("person/x", PASSWORD)]
    for _ in range(6):
        provider.throttle.begin(who)
    with pytest.raises(TooManyAttempts) as caught:
        provider.throttle.begin(who)
    assert caught.value.wait_s == 30
    clock.advance(86_401)
    for _ in range(6):
        provider.throttle.begin(who)


def test_a_right_try_does_not_forgive_an_address_its_wrong_ones(provider: OpenIdProvider) -> None:
    """Else whoever has one account could guess at all others for ever."""
    shared, own = ThrottleKey("address/x", ADDRESS), ThrottleKey("person/x", PASSWORD)
    for _ in range(10):
        provider.throttle.begin([ThrottleKey("person/victim", ADDRESS), shared])
        provider.throttle.begin([own, shared])
        provider.throttle.passed(own, shared)
        provider.throttle.begin([ThrottleKey("person/other", ADDRESS), shared])
    provider.throttle.begin([own, shared])
    with pytest.raises(TooManyAttempts):
        provider.throttle.begin([own, shared])


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "address/192.0.2.1"),
        ("::ffff:192.0.2.1", "address/192.0.2.1"),
        ("2001:db8::1", "address/2001:db8::/64"),
        ("2001:db8::ffff:1", "address/2001:db8::/64"),
        ("fe80::1%eth0", "address/fe80::/64"),
        ("", "address/unknown"),
        ("testclient", "address/testclient"),
    ],
)
def test_whoever_has_one_address_of_ipv6_has_its_network(address: str, name: str) -> None:
    assert address_name(address) == name


def test_an_invitation_sets_a_password_once(provider: OpenIdProvider, clock: ManualClock) -> None:
    user = provider.users.create(EMAIL)
    first, second = (provider.invitations.invite(user).partition("token=")[2] for _ in range(2))
    with pytest.raises(Invalid):
        provider.accept_invitation(first, "too short")
    provider.accept_invitation(first, RIGHT)
    provider.sign_in.with_password(EMAIL, RIGHT, address="192.0.2.1")
    for token in (first, second, "", "nothing"):
        with pytest.raises(NotFound):
            provider.accept_invitation(token, "another good password")
    third = provider.invitations.invite(provider.users.get(user.subject)).partition("token=")[2]
    clock.advance(86_401)
    with pytest.raises(NotFound, match="too old"):
        provider.invitations.find(third)


def test_a_new_password_by_invitation_ends_a_lock_out(provider: OpenIdProvider) -> None:
    user = add_user(provider)
    for _ in range(6):
        with pytest.raises(Unauthenticated):
            provider.sign_in.with_password(EMAIL, "a wrong password", address="192.0.2.1")
    with pytest.raises(TooManyAttempts):
        provider.sign_in.with_password(EMAIL, RIGHT, address="192.0.2.77")
    token = provider.invitations.invite(user).partition("token=")[2]
    provider.accept_invitation(token, "nine loud badgers")
    provider.sign_in.with_password(EMAIL, "nine loud badgers", address="192.0.2.77")
