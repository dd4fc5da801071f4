"""Who may do what: roles, the principal behind a call, and how a person or a program is tied to a tenant."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from postroom.clock import Instant
from postroom.model import ids

MAX_ISSUER = 500
MAX_SUBJECT = 200
MAX_NAME = 200
BUILT_IN = "built-in"
"""What memberships call the built-in issuer: its address, which stands in its tokens, changes with the door's."""
_UNDATED = Instant(0)


class Role(StrEnum):
    """What somebody may do in a tenant. Each includes those before it."""

    VIEWER = "viewer"
    """See everything of the tenant."""
    EDITOR = "editor"
    """Make and change templates, uploads and drafts."""
    SENDER = "sender"
    """Send: campaigns and single messages."""
    ADMIN = "admin"
    """Manage senders, providers, callbacks, people, keys and the suppression list's removal."""

    def includes(self, other: Role) -> bool:
        """Whether who has this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class Kind(StrEnum):
    """What is behind a call."""

    USER = "user"
    """A person, signed in at an issuer."""
    KEY = "key"
    """A program with an API key."""
    CLIENT = "client"
    """A program with an access token of its own (client credentials)."""
    OPERATOR = "operator"
    """Whoever works on the machine itself: the command line."""


class Service(StrEnum):
    """What a key can be limited to: the tags of the routes."""

    ALERTS = "alerts"
    ANALYTICS = "analytics"
    AUDIT = "audit"
    CALLBACKS = "callbacks"
    CAMPAIGNS = "campaigns"
    ERASURES = "erasures"
    KEYS = "keys"
    MESSAGES = "messages"
    PROVIDERS = "providers"
    SEARCH = "search"
    SENDERS = "senders"
    STATUS = "status"
    SUPPRESSIONS = "suppressions"
    TEMPLATES = "templates"
    TENANTS = "tenants"
    UPLOADS = "uploads"
    USERS = "users"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, established once a request."""

    kind: Kind
    id: str
    """The subject at the issuer, the key's id, or the client's id. Up to 200 characters."""
    name: str
    """For people: an e-mail address or the key's name."""
    tenant: str
    role: Role
    operator: bool = False
    """May also manage the installation: tenants, shared providers, vouching for senders."""
    scopes: frozenset[str] | None = None
    """Of `Service`: the only ones it may call; None: all that the role may."""
    ends_at: Instant | None = None
    """Of a key: when it expires; None: not."""


@dataclass(frozen=True, slots=True)
class Membership:
    """That somebody whom an issuer vouches for belongs to a tenant. One tenant a subject: a call names none."""

    issuer: str
    """The issuer's identifier, exactly as its tokens have it; `BUILT_IN`."""
    subject: str
    """A person's subject at the issuer; a program's client id."""
    tenant: str
    role: Role
    name: str
    """For people: an e-mail address, or what a program is called."""
    operator: bool = False
    added_at: Instant = _UNDATED
    """Zero: when it is granted."""

    @property
    def id(self) -> str:
        """Stands for issuer and subject in keys and addresses."""
        return member_id(self.issuer, self.subject)


def member_id(issuer: str, subject: str) -> str:
    """26 characters: 128 bits of a digest, since an issuer is a URL and a subject may hold anything."""
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode(errors="surrogatepass")).digest()
    return ids.encode(int.from_bytes(digest[:16], "big"), 26)
