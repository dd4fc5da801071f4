"""Providers: how mail leaves (an SMTP relay or SES), with rate limits, message streams and an optional warm-up; of a tenant or
shared.

`Provider.url` has no password: that is stored sealed and opened only for sending.

A warm-up limits what a new provider sends each day until receiving servers know it: the first UTC day has a number of recipients,
each following day a multiple of it, until the ramp's end.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from postroom.clock import Instant
from postroom.errors import Invalid

MIN_PER_DAY: Final = 10
"""Recipients a day, so that campaigns and transactional messages both get some."""
MAX_PER_DAY: Final = 1_000_000_000
MIN_FACTOR: Final = 1.01
MAX_FACTOR: Final = 10.0
_DAY_MS = 86_400_000
_RAMP = re.compile(r"(\d{1,10})x(\d{1,2}(?:\.\d{1,6})?)(?:-(\d{1,10}))?(?:@(\d{4}-\d\d-\d\d))?", re.ASCII)


class WarmUp(NamedTuple):
    """A daily ramp."""

    start_per_day: int
    """Recipients on the first UTC day."""
    factor: float
    """Each day's multiple of the day before."""
    since: str = ""
    """The first day, `2026-12-01`; empty: the day on which it is stored."""
    to_per_day: int = MAX_PER_DAY
    """Where the ramp ends."""

    def per_day(self, now: Instant) -> int | None:
        """Recipients on the UTC day of `now`; before the first day as on it; None: the ramp is over."""
        begun = date.fromisoformat(self.since).toordinal() if self.since else _day(now).toordinal()
        days = max(0, _day(now).toordinal() - begun)
        if days * math.log(self.factor) >= math.log(self.to_per_day / self.start_per_day):
            return None
        return min(self.to_per_day, int(self.start_per_day * self.factor**days))

    def begun(self, now: Instant, was: WarmUp | None = None) -> WarmUp:
        """With a first day: its own, else that of the replaced ramp `was`, else today."""
        if self.since:
            return self
        return self._replace(since=was.since if was is not None and was.since else _day(now).isoformat())

    def checked(self) -> WarmUp:
        """Returns itself. Raises `Invalid` if the numbers are out of range."""
        if not MIN_PER_DAY <= self.start_per_day <= MAX_PER_DAY or not MIN_PER_DAY <= self.to_per_day <= MAX_PER_DAY:
            raise Invalid(f"a warm-up starts and ends with {MIN_PER_DAY:,} to {MAX_PER_DAY:,} recipients a day")
        if not MIN_FACTOR <= self.factor <= MAX_FACTOR:
            raise Invalid(f"a warm-up grows by a factor of {MIN_FACTOR:g} to {MAX_FACTOR:g} a day, not {self.factor:g}")
        if self.to_per_day < self.start_per_day:
            raise Invalid("a warm-up ends with no fewer recipients a day than it starts with")
        try:
            date.fromisoformat(self.since or "2000-01-01")
        except ValueError as error:
            raise Invalid(f"{self.since!r} is no day: 2026-12-01") from error
        return self

    def __str__(self) -> str:
        """As `parse` takes it."""
        end = "" if self.to_per_day == MAX_PER_DAY else f"-{self.to_per_day}"
        return f"{self.start_per_day}x{self.factor:g}{end}{self.since and '@' + self.since}"


def parse_warm_up(text: str) -> WarmUp:
    """Parse `200x1.5`, `200x1.5-50000` or `200x1.5-50000@2026-12-01`. Raises `Invalid`."""
    found = _RAMP.fullmatch(text.strip())
    if found is None:
        raise Invalid(f"{text!r} is no warm-up: 200x1.5, or with its end and its first day 200x1.5-50000@2026-12-01")
    start, factor, end, since = found.groups()
    return WarmUp(int(start), float(factor), since or "", int(end) if end else MAX_PER_DAY).checked()


def _day(now: Instant) -> date:
    return datetime.fromtimestamp(now / 1000, UTC).date()


DEFAULT_PROVIDER = "default"
"""The provider of campaigns that name none: the setting POSTROOM_MAIL at the time of sending."""
INBOX = "inbox:"
"""The setting's value where mail stays on this machine."""
PROVIDER_NAME = r"^[a-z0-9-]{1,40}$"
MAX_URL = 1_000
MAX_PASSWORD = 1_000
_NAME = re.compile(PROVIDER_NAME)


class MessageStream(StrEnum):
    """What a provider may send (Postmark: message streams)."""

    BULK = "bulk"
    """Campaigns."""
    TRANSACTIONAL = "transactional"
    """Single messages."""


class UsageLimits(NamedTuple):
    """Limits of a provider; None: no limit."""

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
    """A provider as it may be shown."""

    name: str
    url: str
    """Without a password."""
    has_password: bool
    use: UsageLimits
    streams: frozenset[MessageStream]
    tenant: str | None
    """The tenant it belongs to; None: shared by all."""
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
        """Whether all tenants may use it."""
        return self.tenant is None

    @property
    def id(self) -> str:
        """Unique in the installation."""
        return self.name if self.name == DEFAULT_PROVIDER else f"{self.tenant or ''}/{self.name}"


def check_provider_name(name: str) -> None:
    """Raises `Invalid` unless `name` can name a provider."""
    if not name.isascii() or not _NAME.fullmatch(name) or "\n" in name:
        raise Invalid(f"{name[:80]!r} cannot name a provider: 1 to 40 lower-case letters, digits and '-'")
    if name == DEFAULT_PROVIDER:
        raise Invalid(f"the provider {DEFAULT_PROVIDER} is the setting POSTROOM_MAIL; choose another name")


def without_password(url: str) -> tuple[str, str | None]:
    """The URL without its password, and the percent-encoded password or None."""
    parts = _split(url)
    who, at, where = parts.netloc.rpartition("@")
    user, colon, password = who.partition(":")
    return parts._replace(netloc=f"{user}{at}{where}").geturl(), password if colon else None


def with_password(url: str, password: str | None) -> str:
    """The URL with a password. Raises `Invalid` if it has no user."""
    if password is None:
        return url
    parts = _split(url)
    user, at, where = parts.netloc.rpartition("@")
    if not at or not user or ":" in user:
        raise Invalid("a password needs a user in the URL: smtp://user@host, ses://key-id@region")
    return parts._replace(netloc=f"{user}:{password}@{where}").geturl()


def encode_password(password: str) -> str:
    """A password percent-encoded for a URL. Raises `Invalid` if it is not Unicode text."""
    try:
        return quote(password, safe="")
    except UnicodeEncodeError:  # its message shows the password
        raise Invalid("the password is not Unicode text") from None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # its message repeats the URL, password and all
        raise Invalid("the provider's URL cannot be read: smtp://user@host:port?option=value") from None
