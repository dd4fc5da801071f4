"""A tenant owns every record. There is one, `default`, from the start; operators add others."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from postroom.clock import Instant

DEFAULT_TENANT = "default"
MAX_NUMBER = 2**25 - 1
TENANT_ID = r"^[a-z0-9-]{1,40}$"
MAX_TENANT_NAME = 200
_ID = re.compile(TENANT_ID)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: owns campaigns, templates, suppressions and all else."""

    id: str
    """Lower-case letters, digits and `-`, up to 40."""
    number: int
    """Below 2**25: the tenant in tokens and stream ids. Never reused."""
    secret: bytes = field(repr=False)
    """32 bytes: recipient keys and token MACs are derived from it. Never changes, is never shown."""
    name: str = ""
    """For people."""
    disabled: bool = False
    """Its calls are refused. Nothing is deleted."""
    created_at: Instant | None = None
    """None: older than this field."""


def is_tenant_id(text: str) -> bool:
    """Whether `text` can be a tenant's id."""
    return text.isascii() and _ID.fullmatch(text) is not None
