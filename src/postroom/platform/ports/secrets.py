"""Secrets: envelope encryption under a master key that never leaves its place (a file or setting on one machine, KMS on AWS).

A *data key* of 32 bytes encrypts; the master key only wraps data keys. A sealed text is bound to its `purpose` (such as
`provider/acme/relay`): opened for another, it is `Corrupt`, so that one record's secret cannot be moved into another record. The
text is ASCII and names the master key that wrapped it, so that a rotation can run beside readers: new seals use the newest
master key, old ones open as long as their master key exists. No secret is ever logged or shown in a `repr`.
- **Limits**: a purpose of 1 to 500 characters (`Invalid`); a plain text up to 64 KB (`TooLarge`); the owner of a larger thing
  encrypts it under a data key.
- **Errors**: `Corrupt`: not what was sealed, or for another purpose, or its master key is gone; `Unavailable`: the master
  key cannot be reached.

Both backends write the same texts:

    <form>.<id of the master key>.<wrapped data key>              a wrapped key (`w1`), if the backend needs no more
    <form>.<id of the master key>.<wrapped data key>.<content>    a sealed secret (`s1`); or a wrapped key and its check value

Binary parts are base64url without padding. Only the canonical spelling is read, so no two texts mean the same.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from postroom.errors import Corrupt, Invalid, TooLarge
from postroom.platform.ports.limits import utf8

MAX_PLAIN_BYTES = 65_536
MAX_PURPOSE = 500


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh key for the caller's own encryption: store `wrapped`, do not store `plain`."""

    plain: bytes = field(repr=False)
    """32 bytes."""
    wrapped: str
    """ASCII, at most 1,000 characters."""


class Secrets(Protocol):
    """Seals and opens secrets."""

    def seal(self, purpose: str, plain: bytes) -> str:
        """Encrypt and authenticate. Never returns the same text twice."""
        ...

    def open(self, purpose: str, sealed: str) -> bytes:
        """The plain text that was sealed for that purpose."""
        ...

    def new_key(self, purpose: str) -> DataKey:
        """A data key, wrapped for that purpose."""
        ...

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        """The data key that was wrapped for that purpose."""
        ...

    def rewrap(self, purpose: str, wrapped: str) -> str:
        """The data key that was wrapped for that purpose, wrapped again by the newest master key."""
        ...

    def is_current(self, sealed_or_wrapped: str) -> bool:
        """Whether the newest master key wrapped it. If not, seal it again before the older master key is dropped."""
        ...


KEY_BYTES = 32
NONCE_BYTES = 12
WRAPPED, SEALED = "w1", "s1"
DAMAGED = "a secret is not what was sealed, or was sealed for another purpose"


class SealedText(NamedTuple):
    """The parts of a sealed or wrapped text."""

    form: str
    master: str
    wrapped: bytes
    content: bytes
    """Empty if there is none."""

    def __str__(self) -> str:
        parts = (self.wrapped, self.content) if self.content else (self.wrapped,)
        return ".".join((self.form, self.master, *map(_coded, parts)))


def parse_sealed_text(text: str, *forms: str) -> SealedText:
    """Parse a text of one of these forms. Raises `Corrupt` for any other."""
    form, _, rest = text.partition(".")
    master, _, coded = rest.partition(".")
    wrapped, dot, content = coded.partition(".")
    if form not in forms:
        raise Corrupt("a secret is not what was sealed: it has another form")
    try:
        parts = SealedText(form, master, _raw(wrapped), _raw(content))
    except ValueError:
        raise Corrupt("a secret is not what was sealed: it cannot be read") from None
    if bool(dot) != bool(parts.content):
        raise Corrupt("a secret is not what was sealed: it cannot be read")
    return parts


def associated_data(form: str, purpose: str) -> bytes:
    """The associated data of a text (AEAD, RFC 5116 2.1). Raises `Invalid` if `purpose` is empty or too long."""
    if not 1 <= len(purpose) <= MAX_PURPOSE:
        raise Invalid(f"a secret's purpose has {len(purpose)} characters: 1 to {MAX_PURPOSE}")
    return f"{form}\0".encode() + utf8(purpose, "a secret's purpose")


def check_plain(plain: bytes) -> None:
    """Checks the size of a secret. Raises `TooLarge`."""
    if len(plain) > MAX_PLAIN_BYTES:
        raise TooLarge(f"a secret of {len(plain)} bytes is too large: up to {MAX_PLAIN_BYTES}")


def _coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(coded: str) -> bytes:
    """The reverse of `_coded`. Raises `ValueError` for any other spelling."""
    raw = base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True)
    if _coded(raw) != coded:
        raise ValueError("not canonical")
    return raw
