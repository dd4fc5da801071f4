"""The promise of `ports.secrets`, on every backend. What the key file is like on disk: test_sealed_keys."""

from __future__ import annotations

import re
from itertools import permutations

import pytest

from postroom.errors import Corrupt, Invalid, TooLarge
from postroom.platform.ports.secrets import MAX_PLAIN_BYTES, Secrets
from tests.contract.backend import Backend


@pytest.fixture
def secrets(backend: Backend) -> Secrets:
    return backend.secrets()


def test_what_was_sealed_opens_for_its_purpose_in_any_process(backend: Backend, secrets: Secrets) -> None:
    for plain in (b"", b"secret", bytes(MAX_PLAIN_BYTES)):
        sealed = secrets.seal("provider/acme/relay", plain)
        assert sealed.isascii()
        assert sealed.isprintable()
        assert backend.secrets().open("provider/acme/relay", sealed) == plain


def test_the_same_is_never_sealed_to_the_same_text_and_does_not_show_in_it(secrets: Secrets) -> None:
    texts = [secrets.seal("purpose", b"A" * 100) for _ in range(20)]
    assert len(set(texts)) == 20
    assert not any("QUFB" in text or "AAAA" in text for text in texts)


PURPOSES = ["a", "b", "a/b", "a\0b", "A", " a", "é", "e\u0301", "🔑"]


def test_for_another_purpose_it_is_corrupt(secrets: Secrets) -> None:
    for purpose, other in permutations(PURPOSES, 2):
        sealed, wrapped = secrets.seal(purpose, b"secret"), secrets.new_key(purpose).wrapped
        with pytest.raises(Corrupt):
            secrets.open(other, sealed)
        with pytest.raises(Corrupt):
            secrets.unwrap(other, wrapped)


def test_a_data_key_is_fresh_has_32_bytes_and_comes_back(backend: Backend, secrets: Secrets) -> None:
    keys = [secrets.new_key("upload/1") for _ in range(10)]
    assert len({key.plain for key in keys}) == 10
    assert {len(key.plain) for key in keys} == {32}
    assert all(key.wrapped.isascii() and len(key.wrapped) <= 1_000 for key in keys)
    assert backend.secrets().unwrap("upload/1", keys[0].wrapped) == keys[0].plain


def test_a_data_key_that_is_wrapped_again_is_the_same_key_under_the_newest_master_key(secrets: Secrets) -> None:
    key = secrets.new_key("upload/1")
    again = secrets.rewrap("upload/1", key.wrapped)
    assert again != key.wrapped
    assert secrets.unwrap("upload/1", again) == secrets.unwrap("upload/1", key.wrapped) == key.plain
    assert secrets.is_current(again)
    with pytest.raises(Corrupt):
        secrets.rewrap("upload/2", key.wrapped)


def test_any_character_changed_added_or_missing_is_corrupt(secrets: Secrets) -> None:
    sealed, wrapped = secrets.seal("purpose", b"secret"), secrets.new_key("purpose").wrapped
    for text, call in ((sealed, secrets.open), (wrapped, secrets.unwrap)):
        for at in range(len(text)):
            other = "B" if text[at] != "B" else "C"
            for changed in (text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at]):
                with pytest.raises(Corrupt):
                    call("purpose", changed)
        for changed in (text + "A", text + ".", text + "\n", text + "=", "é" + text):
            with pytest.raises(Corrupt):
                call("purpose", changed)


def test_a_wrapped_key_is_no_sealed_secret_nor_the_other_way_round(secrets: Secrets) -> None:
    sealed, wrapped = secrets.seal("purpose", b"secret"), secrets.new_key("purpose").wrapped
    with pytest.raises(Corrupt):
        secrets.open("purpose", wrapped)
    with pytest.raises(Corrupt):
        secrets.unwrap("purpose", sealed)


def test_limits(secrets: Secrets) -> None:
    with pytest.raises(TooLarge):
        secrets.seal("purpose", bytes(MAX_PLAIN_BYTES + 1))
    secrets.seal("x" * 500, b"")
    for purpose in ("", "x" * 501, "\ud800"):
        with pytest.raises(Invalid):
            secrets.seal(purpose, b"")
        with pytest.raises(Invalid):
            secrets.new_key(purpose)


def test_nothing_plain_shows_in_a_repr(secrets: Secrets) -> None:
    key = secrets.new_key("purpose")
    assert re.search(r"\\x|plain", repr(key)) is None
    assert key.plain.hex() not in repr(key) + repr(secrets)


def test_the_newest_key_is_the_current_one(secrets: Secrets) -> None:
    assert secrets.is_current(secrets.seal("purpose", b"secret"))
    assert secrets.is_current(secrets.new_key("purpose").wrapped)
    with pytest.raises(Corrupt):
        secrets.is_current("nonsense")
