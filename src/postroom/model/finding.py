"""The result of one check by `doctor` or a provider test."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """The severity."""

    OK = "ok"
    SKIPPED = "skipped"
    """Could not be checked."""
    WARN = "warn"
    """Works, but will cause trouble."""
    FAIL = "fail"
    """Does not work."""


class Finding(NamedTuple):
    """One check's result."""

    subject: str
    level: Level
    text: str
    todo: str = ""
    """What to do; empty if nothing."""
