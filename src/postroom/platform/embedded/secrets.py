"""Secrets on one machine: AES-256-GCM under the master keys of `_master_key`. The promise is `ports.secrets`.

    wrapped   w1.<id of the master key>.<nonce, data key encrypted under the master key>
    sealed    s1.<id of the master key>.<the same>.<plain text encrypted under the data key>

How texts are written: ports.sealed_text. Every seal has a data key of its own, so that its nonce may be fixed, and a master key
meets only random keys of 32 bytes: 2**32 of them before random nonces of 96 bits come too close (NIST SP 800-38D §8.3). The
purpose and the form are authenticated with both. Unwrapping takes some microseconds, so nothing plain is kept for later.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.errors import Corrupt
from postroom.platform.embedded._master_key import FILE_NAME, GivenKeys, KeyFile, MasterKey
from postroom.platform.ports.sealed_text import (
    DAMAGED,
    KEY_BYTES,
    NONCE_BYTES,
    SEALED,
    WRAPPED,
    SealedText,
    bound,
    check_plain,
    taken_apart,
)
from postroom.platform.ports.secrets import DataKey

__all__ = ["FILE_NAME", "GivenKeys", "KeyFile", "MasterSecrets"]

_FIXED_NONCE = bytes(NONCE_BYTES)


class MasterKeys(Protocol):
    """Where the master keys come from."""

    def all(self) -> Sequence[MasterKey]:
        """The newest first."""
        ...

    def newest(self) -> MasterKey:
        """Made where there is none."""
        ...


class MasterSecrets:
    """`ports.secrets.Secrets` under master keys."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys

    def seal(self, purpose: str, plain: bytes) -> str:
        check_plain(plain)
        data_key = os.urandom(KEY_BYTES)
        content = AESGCM(data_key).encrypt(_FIXED_NONCE, plain, bound(SEALED, purpose))
        return str(self._wrap(SEALED, purpose, data_key)._replace(content=content))

    def open(self, purpose: str, sealed: str) -> bytes:
        text = taken_apart(sealed, SEALED)
        try:
            return AESGCM(self._unwrap(purpose, text)).decrypt(_FIXED_NONCE, text.content, bound(SEALED, purpose))
        except (InvalidTag, ValueError):
            raise Corrupt(DAMAGED) from None

    def new_key(self, purpose: str) -> DataKey:
        data_key = os.urandom(KEY_BYTES)
        return DataKey(data_key, str(self._wrap(WRAPPED, purpose, data_key)))

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        text = taken_apart(wrapped, WRAPPED)
        if text.content:
            raise Corrupt(DAMAGED)
        return self._unwrap(purpose, text)

    def rewrap(self, purpose: str, wrapped: str) -> str:
        return str(self._wrap(WRAPPED, purpose, self.unwrap(purpose, wrapped)))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        keys = self._keys.all()
        return bool(keys) and taken_apart(sealed_or_wrapped, WRAPPED, SEALED).master == keys[0].id

    def _wrap(self, form: str, purpose: str, data_key: bytes) -> SealedText:
        """A text without content."""
        master, nonce = self._keys.newest(), os.urandom(NONCE_BYTES)
        return SealedText(form, master.id, nonce + AESGCM(master.plain).encrypt(nonce, data_key, bound(form, purpose)), b"")

    def _unwrap(self, purpose: str, text: SealedText) -> bytes:
        master = next((key for key in self._keys.all() if key.id == text.master), None)
        if master is None:
            raise Corrupt(
                f"a secret was encrypted under the master key {text.master}, which is gone; bring it back from your copy"
            )
        nonce, wrapped = text.wrapped[:NONCE_BYTES], text.wrapped[NONCE_BYTES:]
        try:
            return AESGCM(master.plain).decrypt(nonce, wrapped, bound(text.form, purpose))
        except (InvalidTag, ValueError):
            raise Corrupt(DAMAGED) from None
