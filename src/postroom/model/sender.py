"""Sender identities: addresses and domains (with all addresses in and below them) that a tenant may send from once verified."""

from __future__ import annotations

import re
from dataclasses import dataclass

from postroom.clock import Instant
from postroom.errors import Invalid, InvalidAddress
from postroom.model import address

_LABEL = "_postroom"
_VALUE = "postroom-verification="
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class SenderIdentity:
    """A sender: an address or a domain. `version` is the store's."""

    tenant: str
    name: str
    """The address or domain, normalised: lower case, the domain in ASCII."""
    token: str
    """The value that the domain's TXT record must contain."""
    created_at: Instant
    verified_at: Instant | None = None
    """None: it may not be sent from yet."""
    trusted_by: str = ""
    """The operator who trusted it; empty: verified by DNS."""
    checked_at: Instant | None = None
    """When the DNS was last asked."""
    finding: str = ""
    """Why the last check failed; empty: it did not."""
    version: int = 0

    @property
    def domain(self) -> str:
        """The domain itself, or the address's."""
        return self.name.rpartition("@")[2]

    @property
    def record_name(self) -> str:
        """The name of the TXT record."""
        return f"{_LABEL}.{self.domain}"

    @property
    def record_value(self) -> str:
        """The value of the TXT record."""
        return _VALUE + self.token


def sender_name(text: str) -> str:
    """The normalised name of an address or domain. Raises `Invalid` if it is neither."""
    if "@" in text:
        try:
            return address.parse_address(text).normalised
        except address.AddressError as error:
            raise InvalidAddress(f"{text[:100]!r} is not an email address: {error}") from error
    try:
        name = address.parse_address(f"postmaster@{text.strip().rstrip('.')}").normalised.rpartition("@")[2]
    except address.AddressError as error:
        raise Invalid(f"{text[:100]!r} is no domain: {error}") from error
    if not _DOMAIN.fullmatch(name):
        raise Invalid(f"{text[:100]!r} is no domain: write it as in shop.example")
    return name


def covering(from_: str) -> list[str]:
    """The sender names that allow an address, narrowest first: itself, its domain, the domains above. Raises `Invalid`."""
    name = sender_name(from_) if "@" in from_ else ""
    if not name:
        raise InvalidAddress(f"{from_[:100]!r} is not an email address")
    labels = name.rpartition("@")[2].split(".")
    return [name] + [".".join(labels[at:]) for at in range(len(labels) - 1)]
