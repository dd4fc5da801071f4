"""When a campaign starts, from what people write: a time, and the time zone they mean."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model.campaign import Schedule
from postroom.platform.ports.timers import MAX_AHEAD_MS


class FieldNames(NamedTuple):
    """What the two are called where they were written, for sentences about them."""

    at: str
    timezone: str


API = FieldNames("schedule.at", "schedule.timezone")


def parse_schedule(at: str, timezone: str, *, now: Instant, grace_ms: int, wording: FieldNames = API) -> Schedule:
    """`at` is RFC 3339, or without an offset: then in `timezone`. `Invalid`: no time, passed, or too far ahead."""
    shown = f"{wording.at} {at[:40]}"
    try:
        when = datetime.fromisoformat(at)
    except ValueError as error:
        raise Invalid(f"{shown}: write 2026-12-01T09:00 or 2026-12-01T09:00+01:00") from error
    zone = _zone(timezone, wording)
    try:
        placed = when if when.tzinfo is not None else _in_zone(when, zone, wording)
        instant = Instant(round(placed.timestamp() * 1000))
    except (ValueError, OverflowError) as error:  # the first and last days of the calendar, in some zones
        raise Invalid(f"{shown} is outside the calendar") from error
    if instant + grace_ms < now:
        raise Invalid(f"{shown} ({timezone}) has passed: name a time to come, or leave it away to send now")
    if instant > now + MAX_AHEAD_MS:
        raise Invalid(f"{shown} is more than {MAX_AHEAD_MS // 86_400_000} days ahead")
    return Schedule(instant, timezone, grace_ms)


def _zone(timezone: str, wording: FieldNames) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # some names are those of folders
        raise Invalid(f"{wording.timezone} {timezone[:40]} is no IANA time zone, such as Europe/Paris or UTC") from error


def _in_zone(when: datetime, zone: ZoneInfo, wording: FieldNames) -> datetime:
    """A wall-clock time in a zone. `Invalid` for one that the zone's clocks skip; of a time they show twice, the first."""
    placed = when.replace(tzinfo=zone)
    if datetime.fromtimestamp(placed.timestamp(), zone).replace(tzinfo=None) != when:
        raise Invalid(f"{wording.at} {when.isoformat()} does not exist in {zone.key}: the clocks skip it")
    return placed
