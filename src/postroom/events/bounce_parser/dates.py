"""A mail's `Date` (RFC 5322 §3.3) as an instant; what cannot be read is none."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from postroom.clock import Instant

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(
    r"\b([0-9]{1,2})[ -]([a-z]{3})[a-z]{0,6}[ -]([0-9]{4}) {1,3}"
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?: {1,3}([+-])([0-9]{2})([0-9]{2}))?",
    re.IGNORECASE,
)


def read_date(text: str) -> Instant | None:
    """Without a zone it is UTC."""
    found = _DATE.search(text[:200])
    if not found:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    try:
        zone = timezone(timedelta(hours=int(zone_hours), minutes=int(zone_minutes)) * (-1 if sign == "-" else 1)) if sign else UTC
        number = _MONTHS.index(month.lower()) + 1
        moment = datetime(int(year), number, int(day), int(hour), int(minute), min(int(second or 0), 59), tzinfo=zone)
        return Instant(int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        return None
