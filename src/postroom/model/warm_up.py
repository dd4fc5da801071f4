"""Warm-up: how much a new provider or address may send each day, until receiving servers know it.

They believe nobody who sends much from the first day. So the first UTC day has a number, each following day a multiple of it, and
once that reaches the ramp's end there is nothing left to limit: the provider's own limits hold.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

from postroom.clock import Instant
from postroom.errors import Invalid

LEAST: Final = 10
"""A day, so that campaigns and single messages both have some."""
MOST: Final = 1_000_000_000
LEAST_FACTOR: Final = 1.01
MOST_FACTOR: Final = 10.0
_DAY_MS = 86_400_000
_TEXT = re.compile(r"(\d{1,10})x(\d{1,2}(?:\.\d{1,6})?)(?:-(\d{1,10}))?(?:@(\d{4}-\d\d-\d\d))?", re.ASCII)


class WarmUp(NamedTuple):
    """A daily ramp."""

    start_per_day: int
    """Recipients on the first UTC day."""
    factor: float
    """By how much each day has more than the one before."""
    since: str = ""
    """The first day, `2026-12-01`; empty: not begun yet, it begins with the provider or the change that brings it."""
    to_per_day: int = MOST
    """Where the ramp ends."""

    def per_day(self, now: Instant) -> int | None:
        """Recipients on the UTC day of `now`; before the first day as on it; None: the ramp is over."""
        begun = date.fromisoformat(self.since).toordinal() if self.since else _day(now).toordinal()
        days = max(0, _day(now).toordinal() - begun)
        if days * math.log(self.factor) >= math.log(self.to_per_day / self.start_per_day):
            return None
        return min(self.to_per_day, int(self.start_per_day * self.factor**days))

    def begun(self, now: Instant, was: WarmUp | None = None) -> WarmUp:
        """With its first day: as given, else of the ramp that is replaced, else today."""
        if self.since:
            return self
        return self._replace(since=was.since if was is not None and was.since else _day(now).isoformat())

    def checked(self) -> WarmUp:
        """As it is. `Invalid`: it is no ramp."""
        if not LEAST <= self.start_per_day <= MOST or not LEAST <= self.to_per_day <= MOST:
            raise Invalid(f"a warm-up starts and ends with {LEAST:,} to {MOST:,} recipients a day")
        if not LEAST_FACTOR <= self.factor <= MOST_FACTOR:
            raise Invalid(f"a warm-up grows by a factor of {LEAST_FACTOR:g} to {MOST_FACTOR:g} a day, not {self.factor:g}")
        if self.to_per_day < self.start_per_day:
            raise Invalid("a warm-up ends with no fewer recipients a day than it starts with")
        try:
            date.fromisoformat(self.since or "2000-01-01")
        except ValueError as error:
            raise Invalid(f"{self.since!r} is no day: 2026-12-01") from error
        return self

    def __str__(self) -> str:
        """As `parse` takes it."""
        end = "" if self.to_per_day == MOST else f"-{self.to_per_day}"
        return f"{self.start_per_day}x{self.factor:g}{end}{self.since and '@' + self.since}"


def parse(text: str) -> WarmUp:
    """`200x1.5`, `200x1.5-50000`, `200x1.5-50000@2026-12-01`. `Invalid`: it is none of them."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise Invalid(f"{text!r} is no warm-up: 200x1.5, or with its end and its first day 200x1.5-50000@2026-12-01")
    start, factor, end, since = found.groups()
    return WarmUp(int(start), float(factor), since or "", int(end) if end else MOST).checked()


def _day(now: Instant) -> date:
    return datetime.fromtimestamp(now / 1000, UTC).date()
