"""Limits for bounce and complaint rates: when to warn, and when to pause sending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class GuardAction(StrEnum):
    """What happens beyond a limit."""

    WARN = "warn"
    PAUSE = "pause"


class ExceededLimit(NamedTuple):
    """An exceeded limit."""

    action: GuardAction
    what: str
    """`bounces` or `complaints`."""
    rate: str
    """In words, without numbers of messages: these are not for every tenant of a shared provider."""
    figures: str
    """The same with them."""


_LEAST = 3
"""Bounces or complaints at least: one or two recipients alone must not pause a campaign."""


@dataclass(frozen=True, slots=True)
class ReputationLimits:
    """Limits in percent of the messages handed over in a window; 0: off."""

    bounce_warn: float = 5.0
    bounce_pause: float = 10.0
    complaint_warn: float = 0.1
    complaint_pause: float = 0.5
    sample: int = 200
    """With fewer hand-overs in the window no limit applies."""
    window_ms: int = 3_600_000

    def excesses(self, *, sent: int, hard: int, complained: int) -> list[ExceededLimit]:
        """The exceeded limits, pauses first. Only hard bounces count."""
        if sent < self.sample:
            return []
        bounces = self._of("bounces", "bounced for good", hard, sent)
        complaints = self._of("complaints", "were called spam", complained, sent)
        return sorted([*bounces, *complaints], key=lambda excess: excess.action is not GuardAction.PAUSE)

    def _of(self, what: str, words: str, count: int, sent: int) -> Iterator[ExceededLimit]:
        warn, pause = (self.bounce_warn, self.bounce_pause) if what == "bounces" else (self.complaint_warn, self.complaint_pause)
        if count < _LEAST:
            return
        percent = 100 * count / sent
        for action, limit in ((GuardAction.PAUSE, pause), (GuardAction.WARN, warn)):
            if limit and percent >= limit:
                rate = f"{percent:.3g} % of messages {words} in the last {_span(self.window_ms)}; the limit is {limit:g} %"
                yield ExceededLimit(action, what, rate, f"{rate} ({count:,} of {sent:,})")
                return


def _span(milliseconds: int) -> str:
    minutes = milliseconds // 60_000
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
