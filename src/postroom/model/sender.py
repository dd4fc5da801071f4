"""Who a tenant may send as: an address, or a domain with all addresses in it and below it, once it is shown to be its own."""

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
    """An address or a domain. `version` is the store's."""

    tenant: str
    name: str
    """The address or domain, as comparisons want it: lower case, the domain in its ASCII form."""
    token: str
    """What a TXT record of its domain has to hold."""
    created_at: Instant
    verified_at: Instant | None = None
    """None: it may not be sent from yet."""
    vouched_by: str = ""
    """The operator who took it on trust; empty: the DNS says it."""
    checked_at: Instant | None = None
    """When the DNS was last asked."""
    finding: str = ""
    """What the DNS said, where it did not say yes."""
    version: int = 0

    @property
    def domain(self) -> str:
        """The domain itself, or the address's."""
        return self.name.rpartition("@")[2]

    @property
    def record_name(self) -> str:
        """Where the TXT record has to be."""
        return f"{_LABEL}.{self.domain}"

    @property
    def record_value(self) -> str:
        """What it has to say."""
        return _VALUE + self.token


def sender_name(text: str) -> str:
    """The name of what somebody wrote: an address, or a domain. `Invalid`: it is neither."""
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
    """The names under which an address may be sent from, the narrowest first: itself, its domain, the domains above that.
    `Invalid`: it is no address."""
    name = sender_name(from_) if "@" in from_ else ""
    if not name:
        raise InvalidAddress(f"{from_[:100]!r} is not an email address")
    labels = name.rpartition("@")[2].split(".")
    return [name] + [".".join(labels[at:]) for at in range(len(labels) - 1)]
