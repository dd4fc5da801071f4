"""What a backup amounts to."""

from __future__ import annotations

from typing import NamedTuple

from postroom.clock import Instant


class BackupSummary(NamedTuple):
    """What a backup holds, or a restore brought back."""

    created_at: Instant
    """When the backup began: nothing later is surely in it."""
    files: int
    size: int
    """Bytes."""
