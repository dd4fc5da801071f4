"""Ids and recipient keys that survive e-mail and URLs: lower-case base32 (RFC 4648 alphabet), so letters and digits only.

SES tag values and a case-folded VERP local part (64 octets, RFC 5321 4.5.3.1.1) must be able to carry them. A campaign id has 16
characters: 8 of time, so that ids sort by age, and 8 random ones. An id of a message in the built-in inbox counts down with time,
so that a listing in byte order has the newest first.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import NewType

from postroom.clock import Instant

_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"  # in ASCII order, so that ids sort as their numbers do
_EPOCH_MS = 1_577_836_800_000  # 2020-01-01: 40 bits of milliseconds last until 2054
CAMPAIGN_ID_LENGTH = 16


def encode(number: int, length: int) -> str:
    """`number` as exactly `length` characters, the most significant first; `ValueError` if it does not fit."""
    if number < 0 or number >> (5 * length):
        raise ValueError(f"{number} does not fit {length} base32 characters")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))


def decode(text: str) -> int:
    """The number that `encode` wrote; any case. `ValueError` for anything else."""
    number = 0
    for character in text.lower():
        number = number << 5 | _ALPHABET.index(character)
    return number


def campaign_id(now: Instant, chance: bytes) -> str:
    """A new campaign id from the time and at least 5 random bytes. The conditional write that stores it guards chance."""
    return encode((now - _EPOCH_MS) & ((1 << 40) - 1), 8) + encode(int.from_bytes(chance[:5], "big"), 8)


Key = NewType("Key", bytes)
"""12 bytes that identify a recipient within a tenant."""
KEY_BYTES = 12


def recipient_key(secret: bytes, normalised_address: str) -> Key:
    """The key of an address as `model.address` normalised it."""
    return Key(hmac.digest(secret, normalised_address.encode(), hashlib.sha256)[:KEY_BYTES])


def key_maker(secret: bytes) -> Callable[[str], Key]:
    """`recipient_key` for one secret, for many addresses: HMAC's pads (RFC 2104 §2) hashed once: half the cost."""
    pad = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    inner_start = hashlib.sha256(bytes(byte ^ 0x36 for byte in pad))
    outer_start = hashlib.sha256(bytes(byte ^ 0x5C for byte in pad))

    def key_of(normalised_address: str) -> Key:
        inner, outer = inner_start.copy(), outer_start.copy()
        inner.update(normalised_address.encode())
        outer.update(inner.digest())
        return Key(outer.digest()[:KEY_BYTES])

    return key_of


INBOX_PREFIX = "inbox/"
_MAIL_SUFFIX = ".eml"
_LAST_MS = (1 << 45) - 1
_MAIL_ID = re.compile(r"[2-7a-z]{17}")


def new_mail_id(now: Instant, chance: bytes) -> str:
    """A new inbox id: 9 characters of time, 8 of at least 5 random bytes."""
    return encode(_LAST_MS - now, 9) + encode(int.from_bytes(chance[:5], "big"), 8)


def is_mail_id(text: str) -> bool:
    """Whether `text` is a well-formed inbox id."""
    return _MAIL_ID.fullmatch(text) is not None


def inbox_object_key(mail: str) -> str:
    """The object key of an inbox mail."""
    return f"{INBOX_PREFIX}{mail}{_MAIL_SUFFIX}"


def mail_id_from(object_key: str) -> str:
    """The inbox id in an object key."""
    return object_key.removeprefix(INBOX_PREFIX).removesuffix(_MAIL_SUFFIX)
