"""A tenant owns every record. There is one, `default`, until the door opens."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who owns campaigns, templates and suppressions."""

    id: str
    """Lower-case letters, digits and `-`, up to 40."""
    number: int
    """Below 2**25: stands for the tenant in ids on the wire."""
    secret: bytes
    """32 bytes: keys of recipients and MACs of links are derived from it; never changes, never leaves."""
