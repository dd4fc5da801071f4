"""Secrets on one machine: AES-256-GCM under the master keys of `_master_key`. The promise is `ports.secrets`.

    wrapped   w1.<id of the master key>.<nonce, data key encrypted under the master key>
    sealed    s1.<id of the master key>.<the same>.<plain text encrypted under the data key>

Binary parts are base64url. Every seal has a data key of its own, so that its nonce may be fixed, and a master key meets only
random keys of 32 bytes: 2**32 of them before random nonces of 96 bits come too close (NIST SP 800-38D §8.3). The purpose and the
form are authenticated with both. Unwrapping takes some microseconds, so nothing plain is kept for later.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.errors import Corrupt, Invalid, TooLarge
from postroom.platform.embedded._master_key import FILE_NAME, KEY_BYTES, GivenKeys, KeyFile, MasterKey
from postroom.platform.ports.limits import utf8
from postroom.platform.ports.secrets import MAX_PLAIN_BYTES, MAX_PURPOSE, DataKey

__all__ = ["FILE_NAME", "GivenKeys", "KeyFile", "MasterSecrets"]

_NONCE_BYTES = 12
_FIXED_NONCE = bytes(_NONCE_BYTES)
_WRAPPED, _SEALED = "w1", "s1"


class MasterKeys(Protocol):
    """Where the master keys come from."""

    def all(self) -> Sequence[MasterKey]:
        """The newest first."""
        ...

    def newest(self) -> MasterKey:
        """Made where there is none."""
        ...


class _Text(NamedTuple):
    """A sealed or wrapped text, taken apart."""

    form: str
    master: str
    wrapped: bytes
    content: bytes


class MasterSecrets:
    """`ports.secrets.Secrets` under master keys."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys

    def seal(self, purpose: str, plain: bytes) -> str:
        if len(plain) > MAX_PLAIN_BYTES:
            raise TooLarge(f"a secret of {len(plain)} bytes is too large: up to {MAX_PLAIN_BYTES}")
        data_key = os.urandom(KEY_BYTES)
        head = self._wrap(_SEALED, purpose, data_key)
        content = AESGCM(data_key).encrypt(_FIXED_NONCE, plain, _bound(_SEALED, purpose))
        return f"{head}.{_coded(content)}"

    def open(self, purpose: str, sealed: str) -> bytes:
        text = _taken_apart(sealed, _SEALED)
        try:
            return AESGCM(self._unwrap(purpose, text)).decrypt(_FIXED_NONCE, text.content, _bound(_SEALED, purpose))
        except InvalidTag:
            raise Corrupt("a secret is not what was sealed") from None

    def new_key(self, purpose: str) -> DataKey:
        data_key = os.urandom(KEY_BYTES)
        return DataKey(data_key, self._wrap(_WRAPPED, purpose, data_key))

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        return self._unwrap(purpose, _taken_apart(wrapped, _WRAPPED))

    def rewrap(self, purpose: str, wrapped: str) -> str:
        return self._wrap(_WRAPPED, purpose, self.unwrap(purpose, wrapped))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        keys = self._keys.all()
        return bool(keys) and _taken_apart(sealed_or_wrapped, _WRAPPED, _SEALED).master == keys[0].id

    def _wrap(self, form: str, purpose: str, data_key: bytes) -> str:
        """All of a text but the content."""
        bound = _bound(form, purpose)
        master, nonce = self._keys.newest(), os.urandom(_NONCE_BYTES)
        return f"{form}.{master.id}.{_coded(nonce + AESGCM(master.plain).encrypt(nonce, data_key, bound))}"

    def _unwrap(self, purpose: str, text: _Text) -> bytes:
        bound = _bound(text.form, purpose)
        master = next((key for key in self._keys.all() if key.id == text.master), None)
        if master is None:
            raise Corrupt(
                f"a secret was encrypted under the master key {text.master}, which is gone; bring it back from your copy"
            )
        try:
            return AESGCM(master.plain).decrypt(text.wrapped[:_NONCE_BYTES], text.wrapped[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise Corrupt("a secret is not what was sealed, or was sealed for another purpose") from None


def _bound(form: str, purpose: str) -> bytes:
    """What is authenticated with a text."""
    if not 1 <= len(purpose) <= MAX_PURPOSE:
        raise Invalid(f"a secret's purpose has {len(purpose)} characters: 1 to {MAX_PURPOSE}")
    return f"{form}\0".encode() + utf8(purpose, "a secret's purpose")


def _taken_apart(text: str, *forms: str) -> _Text:
    form, _, rest = text.partition(".")
    master, _, coded = rest.partition(".")
    wrapped, dot, content = coded.partition(".")
    if form not in forms or bool(dot) != (form == _SEALED):
        raise Corrupt("a secret is not what was sealed: its form is not known")
    try:
        return _Text(form, master, _raw(wrapped), _raw(content))
    except ValueError:
        raise Corrupt("a secret is not what was sealed: it cannot be read") from None


def _coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(coded: str) -> bytes:
    """`ValueError` for what `_coded` does not write, so that no two texts mean the same."""
    raw = base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True)
    if _coded(raw) != coded:
        raise ValueError("not canonical")
    return raw
