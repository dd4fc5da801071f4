"""The size and time of a backup."""

from __future__ import annotations

from typing import NamedTuple

from postroom.clock import Instant


class BackupSummary(NamedTuple):
    """A backup's content, as written or restored."""

    created_at: Instant
    """When the backup began; later changes may be missing."""
    files: int
    size: int
    """Bytes."""
