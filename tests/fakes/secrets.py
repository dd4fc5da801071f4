"""Secrets for tests that are not about them: readable, but bound to their purpose as the real ones are."""

from __future__ import annotations

import base64
import os

from postroom.errors import Corrupt
from postroom.platform.ports.secrets import DataKey


class PlainSecrets:
    """See the module's text."""

    def seal(self, purpose: str, plain: bytes) -> str:
        return f"plain.{purpose}.{base64.urlsafe_b64encode(plain).decode()}"

    def open(self, purpose: str, sealed: str) -> bytes:
        kind, _, rest = sealed.partition(".")
        text, _, coded = rest.rpartition(".")
        if kind != "plain" or text != purpose:
            raise Corrupt(f"not sealed for {purpose}")
        return base64.urlsafe_b64decode(coded)

    def new_key(self, purpose: str) -> DataKey:
        plain = os.urandom(32)
        return DataKey(plain, self.seal(purpose, plain))

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        return self.open(purpose, wrapped)

    def rewrap(self, purpose: str, wrapped: str) -> str:
        return self.seal(purpose, self.unwrap(purpose, wrapped))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        return sealed_or_wrapped.startswith("plain.")
