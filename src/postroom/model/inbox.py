"""Mails in the built-in inbox: their ids count down with time, so that a store that lists in byte order has the newest first."""

from __future__ import annotations

import re

from postroom.clock import Instant
from postroom.model import ids

PREFIX = "inbox/"
_SUFFIX = ".eml"
_LAST_MS = (1 << 45) - 1
_ID = re.compile(r"[2-7a-z]{17}")


def mail_id(now: Instant, chance: bytes) -> str:
    """A new id: 9 characters of time, 8 of at least 5 random bytes."""
    return ids.encode(_LAST_MS - now, 9) + ids.encode(int.from_bytes(chance[:5], "big"), 8)


def is_mail_id(text: str) -> bool:
    """Whether `text` could be one."""
    return _ID.fullmatch(text) is not None


def object_key(mail: str) -> str:
    """Where the store keeps it."""
    return f"{PREFIX}{mail}{_SUFFIX}"


def mail_of(object_key: str) -> str:
    """The id of the mail that the store keeps there."""
    return object_key.removeprefix(PREFIX).removesuffix(_SUFFIX)
