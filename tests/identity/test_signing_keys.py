"""Signing keys: published before they sign, there until what they signed has run out, one set whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.identity.provider import OpenIdProvider
from postroom.identity.signing_keys import KeyRotation
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import ItemKey
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.identity.provider_kit import open_tables, provider_on

TURNING = KeyRotation(rotate_after=1_000, publish_before=100, keep_after=50)


@pytest.fixture
def provider(tables: SqliteTables, clock: ManualClock) -> OpenIdProvider:
    return provider_on(tables, clock, rotation=TURNING)


def published(provider: OpenIdProvider) -> list[str]:
    return [key["kid"] for key in provider.keys.published()["keys"]]


def test_a_new_key_is_published_before_it_signs_and_the_old_one_stays_for_a_while(
    provider: OpenIdProvider, clock: ManualClock
) -> None:
    first, _ = provider.keys.signing()
    clock.advance(899)
    assert published(provider) == [first]
    clock.advance(1)
    _, second = published(provider)
    assert provider.keys.signing()[0] == first
    clock.advance(99)
    assert provider.keys.signing()[0] == first
    clock.advance(1)
    assert provider.keys.signing()[0] == second
    assert published(provider) == [first, second]
    clock.advance(50)
    assert published(provider) == [second]


def test_a_token_outlives_the_turn_of_its_key(provider: OpenIdProvider, clock: ManualClock) -> None:
    clock.advance(900)
    provider.keys.published()
    token = provider.tokens.access("somebody", client="console", scope=("openid",))
    clock.advance(900)
    provider.keys.published()
    clock.advance(110)
    new = provider.tokens.access("somebody", client="console", scope=("openid",))
    assert provider.tokens.read_access(new)["sub"] == "somebody"
    assert token.split(".")[0] != new.split(".")[0]


def test_after_a_long_rest_a_new_key_is_still_published_first(provider: OpenIdProvider, clock: ManualClock) -> None:
    old, _ = provider.keys.signing()
    clock.advance(1_000_000)
    assert provider.keys.signing()[0] == old
    assert len(published(provider)) == 2


def test_private_parts_are_never_published_and_forgotten_when_their_time_is_over(
    provider: OpenIdProvider, tables: SqliteTables, clock: ManualClock
) -> None:
    provider.keys.signing()
    clock.advance(900)
    provider.keys.published()
    clock.advance(100)
    provider.keys.signing()
    assert all("d" not in key and key["alg"] == "ES256" for key in provider.keys.published()["keys"])
    item = tables.get(ItemKey("#issuer", "keys"))
    assert item is not None
    assert [key["sealed"] is None for key in item.data["keys"]] == [True, False]


def test_those_who_need_the_first_key_at_the_same_moment_get_the_same(tmp_path: Path) -> None:
    clock = ManualClock()
    with ExitStack() as stack:
        issuers = [provider_on(stack.enter_context(open_tables(tmp_path, clock)), clock) for _ in range(6)]
        with ThreadPoolExecutor(len(issuers)) as pool:
            names = set(pool.map(lambda one: one.keys.signing()[0], issuers))
    assert len(names) == 1


class TurnedSecrets(PlainSecrets):
    """After the master key was changed: what was sealed before opens, but is not current."""

    def seal(self, purpose: str, plain: bytes) -> str:
        return "new." + super().seal(purpose, plain)

    def open(self, purpose: str, sealed: str) -> bytes:
        return super().open(purpose, sealed.removeprefix("new."))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        return sealed_or_wrapped.startswith("new.")


def test_everything_sealed_follows_the_master_key(provider: OpenIdProvider, tables: SqliteTables, clock: ManualClock) -> None:
    name, _ = provider.keys.signing()
    user = provider.account.propose(provider.users.create("ada@example.org"))
    provider.users.create("bob@example.org")
    assert provider.reseal() == (0, 0)
    turned = OpenIdProvider(tables, TurnedSecrets(), clock, url=provider.url)
    assert turned.reseal() == (2, 0)
    assert turned.reseal() == (0, 0)
    assert turned.keys.signing()[0] == name
    assert turned.second_factor.proposal(turned.users.get(user.subject)) == provider.second_factor.proposal(user)


def test_what_cannot_be_opened_is_counted_and_stays(provider: OpenIdProvider, tables: SqliteTables, clock: ManualClock) -> None:
    provider.keys.signing()
    user = provider.users.create("ada@example.org")
    provider.users.store(replace(user, second="damaged"))
    assert OpenIdProvider(tables, TurnedSecrets(), clock, url=provider.url).reseal() == (1, 1)
    assert provider.users.get(user.subject).second == "damaged"
