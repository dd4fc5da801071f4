"""Machines that fetch what a mail holds before any person saw it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from postroom.clock import Instant
from postroom.model.event import Event, EventKind

SOON_MS: Final = 2_000
"""Sooner after the message left nobody has it before them: it is a filter on the way that looks into it."""
_HITS = frozenset({EventKind.OPENED, EventKind.CLICKED})


def judge(event: Event, sent_at: Instant | None) -> Event:
    """A hit that came too soon after the message (None: nobody knows when that was) is a machine's; all else is as it was."""
    if event.kind not in _HITS or event.machine or sent_at is None or event.at - sent_at >= SOON_MS:
        return event
    return replace(event, machine=True)
