"""Secrets: envelope encryption under a master key that never leaves its home (a file or setting here, KMS there).

A *data key* of 32 bytes encrypts; the master key only wraps data keys. What is sealed is bound to its `purpose` (such as
`provider/acme/relay`): opened for another, it is `Corrupt`, so that one record's secret cannot be moved into another's place. The
text is ASCII and says which master key wrapped it, so that a rotation can go on beside readers: new seals use the newest
master key, old ones open as long as their master key is there. Nothing is ever logged or shown in a `repr`.
- **Limits**: a purpose of 1 to 500 characters (`Invalid`); a plain text up to 64 KB (`TooLarge`); larger things are encrypted
  by their owner under a data key.
- **Errors**: `Corrupt`: not what was sealed, or for another purpose, or its master key is gone; `Unavailable`: the master
  key's home does not answer.

The texts of secrets (ports.secrets): how they are written, and what is authenticated with them. Both homes write the same.

    <form>.<id of the master key>.<wrapped data key>              a wrapped key (`w1`), where the home needs no more
    <form>.<id of the master key>.<wrapped data key>.<content>    a sealed secret (`s1`); a wrapped key and its check value

Binary parts are base64url without padding, and read only as they are written, so that no two texts mean the same.
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
    """A fresh key for somebody's own encryption: store `wrapped`, forget `plain`."""

    plain: bytes = field(repr=False)
    """32 bytes."""
    wrapped: str
    """ASCII, at most 1,000 characters."""


class Secrets(Protocol):
    """See the module's text."""

    def seal(self, purpose: str, plain: bytes) -> str:
        """Encrypt and authenticate; never twice the same text."""
        ...

    def open(self, purpose: str, sealed: str) -> bytes:
        """What was sealed for that purpose."""
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
        """Whether the newest master key wrapped it; False: seal it again, then the older master key may go."""
        ...


KEY_BYTES = 32
NONCE_BYTES = 12
WRAPPED, SEALED = "w1", "s1"
DAMAGED = "a secret is not what was sealed, or was sealed for another purpose"


class SealedText(NamedTuple):
    """A sealed or wrapped text, taken apart."""

    form: str
    master: str
    wrapped: bytes
    content: bytes
    """Empty: there is none."""

    def __str__(self) -> str:
        parts = (self.wrapped, self.content) if self.content else (self.wrapped,)
        return ".".join((self.form, self.master, *map(_coded, parts)))


def parse_sealed_text(text: str, *forms: str) -> SealedText:
    """`Corrupt`: none of these forms."""
    form, _, rest = text.partition(".")
    master, _, coded = rest.partition(".")
    wrapped, dot, content = coded.partition(".")
    if form not in forms:
        raise Corrupt("a secret is not what was sealed: its form is not known")
    try:
        parts = SealedText(form, master, _raw(wrapped), _raw(content))
    except ValueError:
        raise Corrupt("a secret is not what was sealed: it cannot be read") from None
    if bool(dot) != bool(parts.content):
        raise Corrupt("a secret is not what was sealed: it cannot be read")
    return parts


def associated_data(form: str, purpose: str) -> bytes:
    """What is authenticated with a text. `Invalid`: no purpose."""
    if not 1 <= len(purpose) <= MAX_PURPOSE:
        raise Invalid(f"a secret's purpose has {len(purpose)} characters: 1 to {MAX_PURPOSE}")
    return f"{form}\0".encode() + utf8(purpose, "a secret's purpose")


def check_plain(plain: bytes) -> None:
    """The size of a secret. `TooLarge`."""
    if len(plain) > MAX_PLAIN_BYTES:
        raise TooLarge(f"a secret of {len(plain)} bytes is too large: up to {MAX_PLAIN_BYTES}")


def _coded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(coded: str) -> bytes:
    """`ValueError` for what `_coded` does not write."""
    raw = base64.b64decode(coded + "=" * (-len(coded) % 4), b"-_", validate=True)
    if _coded(raw) != coded:
        raise ValueError("not canonical")
    return raw
