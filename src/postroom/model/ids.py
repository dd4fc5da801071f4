"""Ids that survive the wire: lower-case base32 (RFC 4648 alphabet), so letters and digits only.

SES tag values and a case-folded VERP local part (64 octets, RFC 5321 §4.5.3.1.1) must be able to carry them.
A campaign id is 16 characters: 8 of time, so that ids sort by age, and 8 of chance.
"""

from __future__ import annotations

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
