"""A campaign from what the user typed: files read, values checked, each error naming its option."""

from __future__ import annotations

import mimetypes
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from postroom.clock import Instant
from postroom.entrypoints.cli.session import say
from postroom.errors import Invalid
from postroom.model.campaign import Home, Policies, Schedule, UnknownPolicy
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.ports.timers import MAX_AHEAD_MS
from postroom.services.campaigns import AttachedFile, Draft
from postroom.settings import Settings
from postroom.wiring import Postroom


def create(postroom: Postroom, draft: Draft, recipients: Path) -> Home:
    """Make the campaign and say its id, so that whoever is killed from here on can be resumed."""
    try:
        with recipients.open("rb") as upload:
            home = postroom.campaigns.create(DEFAULT_TENANT, draft, upload, recipients.name).home
    except OSError as error:
        raise Invalid(f"--recipients {recipients} cannot be read: {error.strerror}") from error
    say(f"campaign {home.campaign}")
    return home


def read_template(path: Path) -> str:
    """HTML, compiled from MJML where the file is that."""
    source = read_text(path)
    named = path.suffix.lower() == ".mjml"
    if not named and "<mjml" not in source:
        return source
    from postroom.delivery.mjml import compile_mjml, is_mjml  # loads a compiler that most campaigns do not need

    return compile_mjml(source) if named or is_mjml(source) else source


def read_text(path: Path) -> str:
    """A UTF-8 file; `Invalid`."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def attached(path: Path) -> AttachedFile:
    """A file for every message; `Invalid`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    kind, encoding = mimetypes.guess_type(path.name)
    return AttachedFile(path.name, kind if kind and not encoding else "application/octet-stream", content)


def inline(path: Path) -> AttachedFile:
    """A picture within every message, its content id the file's name; `Invalid`."""
    return replace(attached(path), content_id=path.name)


def variables(given: list[str]) -> dict[str, str]:
    """Of `--set k=v`; `Invalid`."""
    pairs = [pair.partition("=") for pair in given]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise Invalid(f"--set {name}{equals}: write name=value, the name in letters, digits and _")
    return {name: value for name, _, value in pairs}


def schedule(at: str, timezone: str, postroom: Postroom) -> Schedule:
    """Of `--at` and `--timezone`; `Invalid` for what is no time, has passed, or is too far ahead."""
    try:
        when = datetime.fromisoformat(at)
    except ValueError as error:
        raise Invalid(f"--at {at}: write 2026-12-01T09:00 or 2026-12-01T09:00+01:00") from error
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"--timezone {timezone} is no IANA time zone, such as Europe/Paris or UTC") from error
    try:
        instant = Instant(round((in_zone(when, zone) if when.tzinfo is None else when).timestamp() * 1000))
    except (ValueError, OverflowError) as error:  # the first and last days of the calendar, in some zones
        raise Invalid(f"--at {at} is outside the calendar") from error
    grace_ms, now = round(postroom.settings.schedule_grace * 1000), postroom.clock.now()
    if instant + grace_ms < now:
        raise Invalid(f"--at {at} ({timezone}) has passed: name a time to come, or leave --at away to send now")
    if instant > now + MAX_AHEAD_MS:
        raise Invalid(f"--at {at} is more than {MAX_AHEAD_MS // 86_400_000} days ahead")
    return Schedule(instant, timezone, grace_ms)


def in_zone(when: datetime, zone: ZoneInfo) -> datetime:
    """A wall-clock time in a zone. `Invalid` for one that the zone's clocks skip; of a time they show twice, the first."""
    placed = when.replace(tzinfo=zone)
    if datetime.fromtimestamp(placed.timestamp(), zone).replace(tzinfo=None) != when:
        raise Invalid(f"--at {when.isoformat()} does not exist in {zone.key}: the clocks skip it")
    return placed


def policies(settings: Settings, rate: float | None, unknown: UnknownPolicy) -> Policies:
    """The settings' rules and the options'; `Invalid`."""
    rate = settings.rate if rate is None else rate
    if rate is not None and not 0.1 <= rate <= 1_000_000:
        raise Invalid(f"--rate {rate:g}: from 0.1 to 1000000 recipients a second")
    return Policies(
        unknown=unknown,
        settle_after_ms=round(settings.settle_after * 1000),
        rate=rate,
        give_up_after_ms=round(settings.give_up_after * 1000),
        retry_after_ms=round(settings.retry_after * 1000),
    )
