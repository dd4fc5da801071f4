"""Tokens on the wire: what is sealed comes back exactly, and nothing else does."""

from __future__ import annotations

import string
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.model import tokens
from postroom.model.ids import Key, encode
from postroom.model.tenant import Tenant

SECRET = bytes(range(32))
keys = st.binary(min_size=12, max_size=12).map(Key)
campaigns = st.integers(0, 2**80 - 1).map(lambda n: encode(n, 16))
tenants = st.integers(0, tokens.MAX_TENANT)
batches = st.integers(0, tokens.MAX_BATCH)
attempts = st.integers(0, tokens.MAX_ATTEMPT)
CAMPAIGN = encode(2**79 + 12345, 16)
KEY = Key(b"0123456789ab")


def sealer(number: int = 7, campaign: str = CAMPAIGN, topic: str | None = None, secret: bytes = SECRET) -> tokens.TokenSealer:
    return tokens.TokenSealer(Tenant("default", number, secret), campaign, topic=topic)


def secret_of(number: int) -> bytes:
    return SECRET


@given(tenants, campaigns, batches, keys, attempts, st.integers(0, 999_999))
def test_a_click_comes_back_with_its_message_and_link(
    tenant: int, campaign: str, batch: int, key: Key, attempt: int, link: int
) -> None:
    seal = sealer(tenant, campaign)
    token = seal.recipient(batch, key, attempt)
    assert token == seal.recipient_start + seal.recipient_core(batch, key, attempt)
    message = tokens.MessageRef(tenant, campaign, batch, key, attempt)
    assert len(token) == tokens.RECIPIENT_TOKEN_LENGTH
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert tokens.parse_tracking_token(token, secret_of) == tokens.TrackingHit(message)
    assert tokens.parse_tracking_token(f"{token}.{link}", secret_of) == tokens.TrackingHit(message, link=link)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_personal_address_is_sealed_to_its_recipient(url: str, other: str) -> None:
    seal = sealer()
    token, stranger = seal.recipient(1, KEY, 1), seal.recipient(1, Key(b"x" * 12), 1)
    suffix = seal.personal(token, url)
    assert tokens.parse_tracking_token(token + suffix, secret_of).url == url
    with pytest.raises(Invalid):
        tokens.parse_tracking_token(stranger + suffix, secret_of)
    if other != url:
        forged = seal.personal(token, other)
        with pytest.raises(Invalid):
            tokens.parse_tracking_token(token + suffix[:13] + forged[13:], secret_of)


@given(tenants, campaigns, keys, st.none() | st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_an_unsubscribe_token_holds_tenant_campaign_recipient_and_topic(
    tenant: int, campaign: str, key: Key, topic: str | None
) -> None:
    seal = sealer(tenant, campaign, topic)
    token = seal.unsubscribe(key)
    before, after = seal.unsubscribe_frame
    assert token == before + seal.unsubscribe_core(key) + after
    assert len(seal.unsubscribe_core(key)) == tokens.CORE_LENGTH
    assert tokens.parse_unsubscribe_token(token, secret_of) == tokens.UnsubscribeTarget(tenant, campaign, key, topic)


@given(tenants, campaigns, batches, keys, attempts, st.booleans())
def test_a_return_path_survives_case_folding(tenant: int, campaign: str, batch: int, key: Key, attempt: int, shout: bool) -> None:
    local_part = sealer(tenant, campaign).return_path(batch, key, attempt)
    assert len(local_part) <= 64
    assert set(local_part) <= set(string.ascii_lowercase + string.digits)
    back = tokens.parse_return_path(local_part.upper() if shout else local_part, secret_of)
    assert back == tokens.MessageRef(tenant, campaign, batch, key, attempt)


OPENERS: dict[str, tuple[str, Callable[[str, tokens.SecretOf], object]]] = {
    "hit": (sealer().recipient(5, KEY, 2), tokens.parse_tracking_token),
    "url": (
        sealer().recipient(5, KEY, 2) + sealer().personal(sealer().recipient(5, KEY, 2), "https://a.example/"),
        tokens.parse_tracking_token,
    ),
    "unsubscribe": (sealer(topic="news").unsubscribe(KEY), tokens.parse_unsubscribe_token),
    "return path": (sealer().return_path(5, KEY, 2), tokens.parse_return_path),
}


@pytest.mark.parametrize("kind", OPENERS)
def test_no_single_changed_character_passes(kind: str) -> None:
    token, opener = OPENERS[kind]
    for position in range(len(token)):
        for character in "aZ9-.":
            if token[position].lower() != character.lower():
                with pytest.raises(Invalid):
                    opener(token[:position] + character + token[position + 1 :], secret_of)


@pytest.mark.parametrize("kind", OPENERS)
def test_a_token_under_another_secret_is_refused(kind: str) -> None:
    token, opener = OPENERS[kind]
    with pytest.raises(Invalid):
        opener(token, lambda number: b"x" * 32)


@pytest.mark.parametrize("kind", OPENERS)
@given(text=st.text(max_size=80))
def test_any_text_at_all_is_answered_by_invalid(kind: str, text: str) -> None:
    for candidate in (text, OPENERS[kind][0] + text + "x", OPENERS[kind][0][:-1]):
        with pytest.raises(Invalid):
            OPENERS[kind][1](candidate, secret_of)


def test_one_kind_never_passes_for_another() -> None:
    with pytest.raises(Invalid):
        tokens.parse_tracking_token(sealer().unsubscribe(KEY), secret_of)
    with pytest.raises(Invalid):
        tokens.parse_unsubscribe_token(sealer().recipient(5, KEY, 2), secret_of)


@pytest.mark.parametrize("bad", ["", "short", "A" * 16, "0" * 16, "a" * 17, "é" * 16])
def test_a_campaign_id_that_no_token_can_carry_is_refused(bad: str) -> None:
    with pytest.raises(Invalid):
        sealer(campaign=bad)


def test_a_topic_that_no_token_can_carry_is_refused() -> None:
    with pytest.raises(Invalid, match="65 bytes"):
        sealer(topic="x" * 65)


def test_all_tokens_of_a_message_cost_microseconds() -> None:
    """A generous bound, to catch a derivation that slipped into the loop; bench/compose.py has the figure."""
    seal = sealer()
    started = time.perf_counter()
    for batch in range(2000):
        seal.recipient(batch, KEY, 1)
        seal.unsubscribe(KEY)
        seal.return_path(batch, KEY, 1)
    assert time.perf_counter() - started < 0.5
