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
    """Who owns campaigns, templates and suppressions."""

    id: str
    """Lower-case letters, digits and `-`, up to 40."""
    number: int
    """Below 2**25: stands for the tenant in ids on the wire. Never given to another one."""
    secret: bytes = field(repr=False)
    """32 bytes: keys of recipients and MACs of links are derived from it; never changes, never leaves."""
    name: str = ""
    """For people."""
    disabled: bool = False
    """Its people and programs are refused at the door. Nothing of it is lost."""
    created_at: Instant | None = None
    """None: before this was kept."""


def is_tenant_id(text: str) -> bool:
    """Whether a tenant may be called so."""
    return text.isascii() and _ID.fullmatch(text) is not None
