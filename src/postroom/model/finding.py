"""What an examination found: one line for a person who can act on it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    SKIPPED = "skipped"
    """Could not be checked."""
    WARN = "warn"
    """Works, and will hurt."""
    FAIL = "fail"
    """Does not work."""


class Finding(NamedTuple):
    """One line."""

    subject: str
    level: Level
    text: str
    todo: str = ""
    """What to do about it; empty where nothing is to be done."""
