"""Access control: roles, the principal of a call, memberships of tenants, and API keys.

An API key is `pr_<id>_<secret><checksum>`: 16, 32 and 7 characters of lower-case base32. The id finds the record; the secret is
160 random bits; the checksum (CRC-32 of what precedes it) recognises typing errors and other services' keys without a look-up.
For secret scanners: `pr_[a-z2-7]{16}_[a-z2-7]{39}`. Only its SHA-256 is stored: slow hashes are for passwords, which can be
guessed; 160 random bits cannot, and a key is checked on every call.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model import ids

MAX_ISSUER = 500
MAX_SUBJECT = 200
MAX_NAME = 200
BUILT_IN = "built-in"
"""The issuer of built-in users in memberships. The built-in issuer's URL changes with the server's, so it is not stored."""
_UNDATED = Instant(0)


class Role(StrEnum):
    """What a principal may do in a tenant. Each role includes those before it."""

    VIEWER = "viewer"
    """See everything of the tenant."""
    EDITOR = "editor"
    """Make and change templates, uploads and drafts."""
    SENDER = "sender"
    """Send: campaigns and single messages."""
    ADMIN = "admin"
    """Manage senders, providers, callbacks, users and keys; remove addresses from the suppression list."""

    def includes(self, other: Role) -> bool:
        """Whether this role may do all that `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class PrincipalKind(StrEnum):
    """Who makes a call."""

    USER = "user"
    """A person, signed in at an issuer."""
    KEY = "key"
    """A program with an API key."""
    CLIENT = "client"
    """A program with an access token (OAuth client credentials)."""
    OPERATOR = "operator"
    """The command line on the server itself."""


class Service(StrEnum):
    """Scopes of API keys: the tags of the routes."""

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
    """The authenticated caller of a request."""

    kind: PrincipalKind
    id: str
    """The subject at the issuer, the key's id, or the client's id. Up to 200 characters."""
    name: str
    """For people: an e-mail address or the key's name."""
    tenant: str
    role: Role
    operator: bool = False
    """May also manage the installation: tenants, shared providers, trusted senders."""
    scopes: frozenset[str] | None = None
    """The only `Service`s it may call; None: all that its role may."""
    ends_at: Instant | None = None
    """When its API key expires; None: never."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A subject's tenant and role. A subject belongs to one tenant, so calls do not name it."""

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
    """Zero: set when it is stored."""

    @property
    def id(self) -> str:
        """Identifies issuer and subject in storage keys and URLs."""
        return member_id(self.issuer, self.subject)


def member_id(issuer: str, subject: str) -> str:
    """26 characters: 128 bits of a digest, since an issuer is a URL and a subject may hold anything."""
    digest = hashlib.sha256(f"{len(issuer)}:{issuer}{subject}".encode(errors="surrogatepass")).digest()
    return ids.encode(int.from_bytes(digest[:16], "big"), 26)


KEY_PREFIX = "pr_"
SECRET_BYTES = 20
MAX_KEY_NAME = 100
API_KEY_ID = r"^[a-z2-7]{16}$"
_SECRET_LENGTH = 32
_CHECK_LENGTH = 7
_KEY_TEXT = re.compile(r"(pr_([a-z2-7]{16})_[a-z2-7]{32})([a-z2-7]{7})")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The stored record of a key. It never changes; revoking deletes it."""

    id: str
    tenant: str
    name: str
    """For people: which program has it."""
    role: Role
    digest: str = field(repr=False)
    """SHA-256 of the text, hex."""
    created_at: Instant
    created_by: str
    """The name of the user who created it."""
    scopes: frozenset[str] | None = None
    """Of `Service`: the only ones it may call; None: all that the role may."""
    expires_at: Instant | None = None
    """None: never."""

    def is_of(self, text: str) -> bool:
        """Whether `text` is this key, in constant time."""
        return hmac.compare_digest(self.digest, key_digest(text))


class ParsedKey(NamedTuple):
    """A well-formed key, not yet checked."""

    id: str
    text: str


def compose_key(id: str, secret: bytes) -> str:  # noqa: A002
    """The text of a key, from its id and 20 random bytes."""
    body = f"{KEY_PREFIX}{id}_{ids.encode(int.from_bytes(secret[:SECRET_BYTES], 'big'), _SECRET_LENGTH)}"
    return body + _checksum(body)


def parse_key(text: str) -> ParsedKey | None:
    """Parse a key; None if it is malformed or the checksum is wrong."""
    found = _KEY_TEXT.fullmatch(text)
    return ParsedKey(found[2], text) if found and found[3] == _checksum(found[1]) else None


def key_digest(text: str) -> str:
    """SHA-256 of the text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return ids.encode(zlib.crc32(body.encode()), _CHECK_LENGTH)
