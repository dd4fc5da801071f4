"""The texts of secrets (ports.secrets): how they are written, and what is authenticated with them. Both homes write the same.

    <form>.<id of the master key>.<wrapped data key>              a wrapped key (`w1`), where the home needs no more
    <form>.<id of the master key>.<wrapped data key>.<content>    a sealed secret (`s1`); a wrapped key and its check value

Binary parts are base64url without padding, and read only as they are written, so that no two texts mean the same.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from postroom.errors import Corrupt, Invalid, TooLarge
from postroom.platform.ports.limits import utf8
from postroom.platform.ports.secrets import MAX_PLAIN_BYTES, MAX_PURPOSE

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


def taken_apart(text: str, *forms: str) -> SealedText:
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


def bound(form: str, purpose: str) -> bytes:
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
