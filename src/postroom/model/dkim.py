"""DKIM keys and their DNS records (RFC 6376 section 3.6.1, RFC 8463).

    waiting ──→ active ──→ retired

A key waits until its record was found in the DNS, because mail signed with an unpublished key fails verification. Then it signs,
and the previous key of the same algorithm is retired: its record stays published for mail under way.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from postroom.clock import Instant
from postroom.errors import Conflict, Invalid, NotFound

MAX_KEYS = 10
"""Keys per domain, in any state."""
SELECTOR = r"^[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$"
_STRING = 255  # bytes of one string of a TXT record (RFC 1035 §3.3.14)
_NAME = 253
_ENDINGS = {"rsa": "", "ed25519": "-ed25519"}


class Algorithm(StrEnum):
    """The value of `k=`."""

    RSA = "rsa"
    """2048 bits; verified by every receiver."""
    ED25519 = "ed25519"
    """Short and fast, but verified by few receivers: only beside an RSA key."""


class KeyStatus(StrEnum):
    """waiting → active → retired; see above."""

    WAITING = "waiting"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class DkimKey:
    """The public part of a key."""

    selector: str
    algorithm: Algorithm
    public: str
    """The value of `p=`: base64 of a SubjectPublicKeyInfo (RSA), or of the 32 bytes (Ed25519)."""
    created_at: Instant
    status: KeyStatus = KeyStatus.WAITING
    active_at: Instant | None = None
    """When it began to sign."""
    unchecked: bool = False
    """Trusted by an operator without a DNS check."""
    checked_at: Instant | None = None
    """When the DNS was last asked."""
    finding: str = ""
    """The result of the last DNS check; empty if the record was found."""

    @property
    def record(self) -> str:
        """The content of its TXT record."""
        return f"v=DKIM1; k={self.algorithm.value}; p={self.public}"

    @property
    def record_strings(self) -> str:
        """The record in zone file notation: quoted strings of at most 255 bytes."""
        text = self.record
        return " ".join(f'"{text[at : at + _STRING]}"' for at in range(0, len(text), _STRING))


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """A tenant's keys of one domain, oldest first. `version` is the store's; 0: there are none."""

    tenant: str
    domain: str
    keys: tuple[DkimKey, ...] = ()
    version: int = 0

    def key(self, selector: str) -> DkimKey:
        """Raises `NotFound`."""
        for key in self.keys:
            if key.selector == selector:
                return key
        raise NotFound(f"{self.domain} has no DKIM key {selector}")

    def changed(self, selector: str, changed: DkimKey) -> tuple[DkimKey, ...]:
        """All keys with one changed. If it became active, the others of its algorithm are retired."""

        def after(key: DkimKey) -> DkimKey:
            if key.selector == selector:
                return changed
            replaced = key.status is KeyStatus.ACTIVE is changed.status and key.algorithm is changed.algorithm
            return replace(key, status=KeyStatus.RETIRED) if replaced else key

        return tuple(map(after, self.keys))

    def check_room(self, more: int) -> None:
        """Raises `Conflict` if the domain cannot have `more` keys."""
        if len(self.keys) + more > MAX_KEYS:
            raise Conflict(f"{self.domain} has {len(self.keys)} DKIM keys, and {MAX_KEYS} at most: remove those that are retired")


def record_name(selector: str, domain: str) -> str:
    """The name of a key's TXT record."""
    return f"{selector}._domainkey.{domain}"


def selector_stem(now: Instant, mark: str) -> str:
    """The common prefix of the selectors of keys created together: the day, and a mark that differs between tenants with the same
    domain."""
    return f"pr{datetime.fromtimestamp(now / 1000, UTC):%Y%m%d}-{mark}"


def selector_for(start: str, algorithm: Algorithm, domain: str) -> str:
    """A selector. Raises `Invalid` if the domain is too long."""
    selector = start + _ENDINGS[algorithm]
    if len(record_name(selector, domain)) > _NAME:
        raise Invalid(f"{domain[:60]}… is too long a domain for a DKIM key: its record's name would pass {_NAME} characters")
    return selector


def parse_dkim_tags(record: str) -> dict[str, str]:
    """A record's tags, names in lower case (RFC 6376 section 3.2)."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip() for name, separator, value in pairs if separator}


def record_mismatch(key: DkimKey, name: str, texts: Sequence[str]) -> str:
    """Why the TXT records found do not match the key; empty if they do."""
    if not texts:
        return f"{name} has no TXT record yet; a change of the DNS may take an hour to be seen"
    if len(texts) > 1:
        return f"{name} has {len(texts)} TXT records, and receivers want one"
    found = parse_dkim_tags(texts[0])
    if found.get("v", "DKIM1") != "DKIM1":
        return f"{name} has a TXT record that is no DKIM key: {texts[0][:60]}"
    public = re.sub(r"\s", "", found.get("p", ""))
    if not public:
        return f"{name} says that the key is revoked (empty p=)"
    if found.get("k", "rsa") != key.algorithm.value or not _same(public, key.public):
        return f"{name} has another key: publish the record again, in one piece"
    return _restricted(found, name)


def _restricted(found: dict[str, str], name: str) -> str:
    """Other reasons that keep receivers from using the key."""
    hashes = re.split(r"\s*:\s*", found.get("h", "sha256"))
    services = re.split(r"\s*:\s*", found.get("s", "*"))
    if "sha256" not in hashes or not {"*", "email"} & set(services):
        return f"{name} restricts the key by h= or s=: publish the record as it is shown"
    return ""


def _same(found: str, public: str) -> bool:
    """Compares bytes: padding may be written differently."""
    try:
        return base64.b64decode(found + "=" * (-len(found) % 4), validate=True) == base64.b64decode(public)
    except ValueError:
        return False
