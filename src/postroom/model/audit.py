"""The audit trail: records of changes, and the seals that reveal later tampering."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

TIME_PREFIX = r"^\d{4}(-\d\d(-\d\d(T\d\d(:\d\d)?)?)?)?$"
"""The beginning of a time that selects entries: a day, an hour, a minute."""
FIRST_HASH = ""
"""The hash before the first seal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One change, or some denials of the same kind."""

    id: str
    """Its time (RFC 3339, UTC, milliseconds) and some random characters: ids sort by time."""
    actor: str
    """`user`, `key`, `client`, `operator` or `guard`, and its id; empty: unauthenticated."""
    name: str = ""
    """The actor, for people."""
    address: str
    """The network address it came from; empty: this machine."""
    action: str
    """The method and the path's template, or the command."""
    request_id: str = ""
    status: int | None = None
    """The HTTP status of its result; None: it was begun, its end was not recorded."""
    target: str = ""
    """The record, such as `template/2abc…`."""
    before: str = ""
    """SHA-256 of the record before, hex; empty: there was none, or it is not known."""
    after: str = ""
    count: int = 1
    """More than 1: denials within a minute, at least so many."""
    reason: str = ""
    """Why it was denied, or what the reputation guard found."""

    @property
    def at(self) -> str:
        """RFC 3339, UTC."""
        return self.id[:24]


@dataclass(frozen=True, slots=True)
class AuditSeal:
    """A minute's entries, chained to the minute before that had any."""

    minute: str
    """`2026-12-01T09:30`, UTC."""
    entries: int
    digest: str
    """Over the entries, hex."""
    hash: str
    """Over all of this and the hash of the seal before: HMAC-SHA256 under the installation's audit key, hex."""


@dataclass(slots=True)
class AuditVerification:
    """The result of verifying a trail."""

    seals: int = 0
    entries: int = 0
    unsealed: int = 0
    """Entries of the last minutes, not sealed yet."""
    head: str = FIRST_HASH
    """The last seal's hash: kept elsewhere, it proves later that nothing before it was cut off."""
    problems: list[str] = field(default_factory=list)


def digest_entries(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[int, str]:
    """The number of entries, and SHA-256 over ids and contents in order."""
    digest, count = hashlib.sha256(), 0
    for name, data in entries:
        digest.update(hashlib.sha256(msgspec.json.encode([name, data], order="sorted")).digest())
        count += 1
    return count, digest.hexdigest()


def seal_hash(key: bytes, tenant: str, minute: str, *, entries: int, digest: str, before: str) -> str:
    """The hash of a seal whose predecessor's is `before`."""
    text = msgspec.json.encode([tenant, minute, entries, digest, before])
    return hmac.new(key, text, hashlib.sha256).hexdigest()
