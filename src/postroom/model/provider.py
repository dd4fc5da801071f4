"""A provider: one way for mail to leave, with its own rate, connections and streams; of one tenant, or shared by all.

Its URL stands here without the password, which is stored sealed and goes to nobody but the sender.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.warm_up import WarmUp

DEFAULT_PROVIDER = "default"
"""The setting POSTROOM_MAIL, as it is when the mail leaves; the provider of a campaign that names none."""
INBOX = "inbox:"
"""The setting's value where mail stays on this machine."""
PROVIDER_NAME = r"^[a-z0-9-]{1,40}$"
MAX_URL = 1_000
MAX_PASSWORD = 1_000
_NAME = re.compile(PROVIDER_NAME)


class Stream(StrEnum):
    """Which mail."""

    BULK = "bulk"
    """Campaigns."""
    TRANSACTIONAL = "transactional"
    """Single messages."""


class Use(NamedTuple):
    """How hard a provider may be used; None: no limit of its own."""

    per_second: float | None = None
    """Recipients, over all workers and campaigns."""
    per_day: int | None = None
    """Recipients, in any UTC day."""
    connections: int | None = None
    """At most, in one process; None: what the URL says."""
    warm_up: WarmUp | None = None
    """A daily ramp, beside `per_day`."""

    def today(self, now: Instant) -> int | None:
        """Recipients on the UTC day of `now`, at most; None: no limit."""
        ramp = self.warm_up and self.warm_up.per_day(now)
        return min((most for most in (self.per_day, ramp) if most is not None), default=None)


@dataclass(frozen=True, slots=True)
class Provider:
    """One, as it may be shown."""

    name: str
    url: str
    """Without a password."""
    has_password: bool
    use: Use
    streams: frozenset[Stream]
    tenant: str | None
    """Whose it is; None: the installation's, for every tenant."""
    trusted: bool
    """Whether an operator wrote the URL: it may lead into our own network."""
    created_at: Instant | None
    """None: the default, which is a setting."""
    version: int
    """Rises with every change."""
    today: int | None = None
    """Recipients on the UTC day on which it was read, at most; None: no limit."""

    @property
    def shared(self) -> bool:
        """Whether it is everybody's."""
        return self.tenant is None

    @property
    def id(self) -> str:
        """Unlike any other's of the installation."""
        return self.name if self.name == DEFAULT_PROVIDER else f"{self.tenant or ''}/{self.name}"


def check_name(name: str) -> None:
    """`Invalid` unless a provider may be called so."""
    if not name.isascii() or not _NAME.fullmatch(name) or "\n" in name:
        raise Invalid(f"{name[:80]!r} cannot name a provider: 1 to 40 lower-case letters, digits and '-'")
    if name == DEFAULT_PROVIDER:
        raise Invalid(f"the provider {DEFAULT_PROVIDER} is the setting POSTROOM_MAIL; choose another name")


def without_password(url: str) -> tuple[str, str | None]:
    """The URL without its password, and the password as it stands there: percent-encoded."""
    parts = _split(url)
    who, at, where = parts.netloc.rpartition("@")
    user, colon, password = who.partition(":")
    return parts._replace(netloc=f"{user}{at}{where}").geturl(), password if colon else None


def with_password(url: str, password: str | None) -> str:
    """The other way round. `Invalid`: there is no user that it could belong to."""
    if password is None:
        return url
    parts = _split(url)
    user, at, where = parts.netloc.rpartition("@")
    if not at or not user or ":" in user:
        raise Invalid("a password needs a user in the URL: smtp://user@host, ses://key-id@region")
    return parts._replace(netloc=f"{user}:{password}@{where}").geturl()


def encoded(password: str) -> str:
    """A password as it stands in a URL. `Invalid`: not Unicode text."""
    try:
        return quote(password, safe="")
    except UnicodeEncodeError:  # its message shows the password
        raise Invalid("the password is not Unicode text") from None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # its message repeats the URL, password and all
        raise Invalid("the provider's URL cannot be read: smtp://user@host:port?option=value") from None
