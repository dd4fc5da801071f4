"""API keys: how a program without a person signs in.

The text is `pr_<id>_<secret><checksum>`: 16, 32 and 7 characters of lower-case base32. The id finds the record; the secret is 160
bits of chance; the checksum (CRC-32 of what stands before it) tells typing errors and other people's strings from keys without
asking anybody. For secret scanners: `pr_[a-z2-7]{16}_[a-z2-7]{39}`.

Kept is a SHA-256 of the text. A slow hash (argon2) is for passwords, which people choose and others guess; 160 bits of chance
cannot be guessed, and a program's key is checked on every call.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model import ids
from postroom.model.access import Role

PREFIX = "pr_"
SECRET_BYTES = 20
MAX_KEY_NAME = 100
KEY_ID = r"^[a-z2-7]{16}$"
_SECRET_LENGTH = 32
_CHECK_LENGTH = 7
_TEXT = re.compile(r"(pr_([a-z2-7]{16})_[a-z2-7]{32})([a-z2-7]{7})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of one. It never changes; it is revoked by being deleted."""

    id: str
    tenant: str
    name: str
    """For people: which program has it."""
    role: Role
    digest: str = field(repr=False)
    """SHA-256 of the text, hex."""
    created_at: Instant
    created_by: str
    """The name of whoever made it."""
    scopes: frozenset[str] | None = None
    """Of `Service`: the only ones it may call; None: all that the role may."""
    expires_at: Instant | None = None
    """None: never."""

    def is_of(self, text: str) -> bool:
        """Whether `text` is this key, in constant time."""
        return hmac.compare_digest(self.digest, digest_of(text))


class ReadKey(NamedTuple):
    """A text that may be a key."""

    id: str
    text: str


def compose(id: str, secret: bytes) -> str:  # noqa: A002
    """The text of a key from its id and 20 bytes of chance."""
    body = f"{PREFIX}{id}_{ids.encode(int.from_bytes(secret[:SECRET_BYTES], 'big'), _SECRET_LENGTH)}"
    return body + _checksum(body)


def read(text: str) -> ReadKey | None:
    """Its parts; None where it is no key, or mistyped."""
    found = _TEXT.fullmatch(text)
    return ReadKey(found[2], text) if found and found[3] == _checksum(found[1]) else None


def digest_of(text: str) -> str:
    """What is kept of the text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return ids.encode(zlib.crc32(body.encode()), _CHECK_LENGTH)
