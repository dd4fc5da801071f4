"""When a campaign starts, from what people write."""

from __future__ import annotations

from datetime import datetime

import pytest

from postroom.errors import Invalid
from postroom.services.campaign_creation import parse_schedule
from tests.fakes.clock import START

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("at", "timezone", "utc"),
    [
        ("2026-12-01T09:00", "Europe/Paris", "2026-12-01T08:00:00+00:00"),
        ("2026-12-01T09:00+05:45", "Europe/Paris", "2026-12-01T03:15:00+00:00"),
        ("2026-12-01T09:00Z", "Asia/Kathmandu", "2026-12-01T09:00:00+00:00"),
        ("2026-10-25T02:30", "Europe/Paris", "2026-10-25T00:30:00+00:00"),  # shown twice: the first
        ("2026-12-01", "UTC", "2026-12-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_that_of_its_offset_else_of_the_zones_clocks(at: str, timezone: str, utc: str) -> None:
    schedule = parse_schedule(at, timezone, now=START, grace_ms=HOUR)
    assert schedule.at == datetime.fromisoformat(utc).timestamp() * 1000
    assert (schedule.timezone, schedule.grace_ms) == (timezone, HOUR)


@pytest.mark.parametrize(
    ("at", "timezone", "says"),
    [
        ("soon", "UTC", "schedule.at soon: write"),
        ("2027-03-28T02:30", "Europe/Paris", "the clocks skip it"),
        ("2026-09-21T12:00", "UTC", "has passed"),
        ("2028-01-01", "UTC", "days ahead"),
        ("9999-12-31T23:59:59", "America/New_York", "days ahead|outside the calendar"),
        ("0001-01-01", "Asia/Tokyo", "has passed|outside the calendar"),
        *(("2026-12-01", zone, "no IANA time zone") for zone in ("", "Mars", "America", "../etc/passwd", "a\x00b", "x" * 300)),
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_words_of_the_api(at: str, timezone: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        parse_schedule(at, timezone, now=START, grace_ms=HOUR)


def test_a_schedule_within_its_grace_is_taken() -> None:
    assert parse_schedule("2026-09-21T13:30Z", "UTC", now=START, grace_ms=HOUR).at < START
