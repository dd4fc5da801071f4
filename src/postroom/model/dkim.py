"""Keys that a domain's mail is signed with, and the DNS records by which receivers know them (RFC 6376 §3.6.1, RFC 8463).

    waiting ──→ active ──→ retired

A key waits until its record was seen in the DNS: mail signed with a key that nobody can look up fails. Then it signs, and the one
of the same algorithm that signed before is retired: its record stays published, because its mail is still under way.
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
"""Keys of one domain, whatever their state."""
SELECTOR = r"^[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$"
_STRING = 255  # bytes of one string of a TXT record (RFC 1035 §3.3.14)
_NAME = 253
_ENDINGS = {"rsa": "", "ed25519": "-ed25519"}


class Algorithm(StrEnum):
    """As `k=` has it."""

    RSA = "rsa"
    """2048 bits: what every receiver verifies."""
    ED25519 = "ed25519"
    """Short and fast, and verified by few: beside an RSA key only."""


class KeyStatus(StrEnum):
    """See the module's text."""

    WAITING = "waiting"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key's public part."""

    selector: str
    algorithm: Algorithm
    public: str
    """As `p=` has it: base64 of a SubjectPublicKeyInfo (RSA), or of the 32 bytes (Ed25519)."""
    created_at: Instant
    status: KeyStatus = KeyStatus.WAITING
    active_at: Instant | None = None
    """Since when it signs, or signed."""
    unchecked: bool = False
    """It signs on an operator's word; the DNS was not asked."""
    checked_at: Instant | None = None
    """When the DNS was last asked."""
    finding: str = ""
    """What the DNS said, where it did not say yes."""

    @property
    def record(self) -> str:
        """What its TXT record has to say."""
        return f"v=DKIM1; k={self.algorithm.value}; p={self.public}"

    @property
    def record_strings(self) -> str:
        """The same as zone files have it: in quotes, none longer than a string may be."""
        text = self.record
        return " ".join(f'"{text[at : at + _STRING]}"' for at in range(0, len(text), _STRING))


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """A tenant's keys of one domain, the oldest first. `version` is the store's; 0: there are none."""

    tenant: str
    domain: str
    keys: tuple[DkimKey, ...] = ()
    version: int = 0

    def key(self, selector: str) -> DkimKey:
        """`NotFound`."""
        for key in self.keys:
            if key.selector == selector:
                return key
        raise NotFound(f"{self.domain} has no DKIM key {selector}")

    def changed(self, selector: str, changed: DkimKey) -> tuple[DkimKey, ...]:
        """All keys, one of them changed. One that has become active retires the others of its algorithm."""

        def after(key: DkimKey) -> DkimKey:
            if key.selector == selector:
                return changed
            replaced = key.status is KeyStatus.ACTIVE is changed.status and key.algorithm is changed.algorithm
            return replace(key, status=KeyStatus.RETIRED) if replaced else key

        return tuple(map(after, self.keys))

    def check_room(self, more: int) -> None:
        """`Conflict`: no more may be made."""
        if len(self.keys) + more > MAX_KEYS:
            raise Conflict(f"{self.domain} has {len(self.keys)} DKIM keys, and {MAX_KEYS} at most: remove those that are retired")


def record_name(selector: str, domain: str) -> str:
    """Where a key's TXT record has to be."""
    return f"{selector}._domainkey.{domain}"


def selector_stem(now: Instant, mark: str) -> str:
    """What the selectors of keys begin with that are made together: their day, and a mark that tells them from others' (two
    tenants may have keys of the same domain)."""
    return f"pr{datetime.fromtimestamp(now / 1000, UTC):%Y%m%d}-{mark}"


def selector_for(start: str, algorithm: Algorithm, domain: str) -> str:
    """`Invalid`: the domain is too long for a key."""
    selector = start + _ENDINGS[algorithm]
    if len(record_name(selector, domain)) > _NAME:
        raise Invalid(f"{domain[:60]}… is too long a domain for a DKIM key: its record's name would pass {_NAME} characters")
    return selector


def parse_dkim_tags(record: str) -> dict[str, str]:
    """A record's tags by their names in lower case (RFC 6376 §3.2)."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip() for name, separator, value in pairs if separator}


def record_mismatch(key: DkimKey, name: str, texts: Sequence[str]) -> str:
    """Why a receiver that finds these texts at the key's name could not verify its signatures; empty: it could."""
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
    """What else may keep a receiver from using the key."""
    hashes = re.split(r"\s*:\s*", found.get("h", "sha256"))
    services = re.split(r"\s*:\s*", found.get("s", "*"))
    if "sha256" not in hashes or not {"*", "email"} & set(services):
        return f"{name} restricts the key by h= or s=: publish the record as it is shown"
    return ""


def _same(found: str, public: str) -> bool:
    """As bytes: padding is all that may be written differently."""
    try:
        return base64.b64decode(found + "=" * (-len(found) % 4), validate=True) == base64.b64decode(public)
    except ValueError:
        return False
