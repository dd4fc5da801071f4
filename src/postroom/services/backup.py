"""Backup and restore. A restored installation sends nothing by itself: time has passed that it knows nothing of.

Messages sent between the backup and the loss are `pending` in the copy. Were the restored campaigns simply to go on, their
recipients would get them twice. So what was sending, scheduled, or about to start is held, with the reason; a person who
knows what happened since resumes or cancels it. Messages that were with the provider at the moment of the backup stand in
their batch's open group and become `unknown`, all of the group: journals are not part of a backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.ledger.campaigns import Campaigns
from postroom.model.backup import Copied
from postroom.model.campaign import Campaign, CampaignState
from postroom.model.tenant import DEFAULT_TENANT

_TO_PAUSE = frozenset({CampaignState.SENDING, CampaignState.SCHEDULED})

Progress = Callable[[str], None]


class Archive(Protocol):
    """How a home copies its data directory, and brings it back: see platform/embedded/backup.py for the errors."""

    def write(self, target: Path, progress: Progress) -> Copied: ...

    def restore(self, source: Path, prepare: Callable[[Path, Instant], None], progress: Progress) -> Copied: ...


class Restored(NamedTuple):
    """What came back."""

    copied: Copied
    held: list[str]
    """Campaigns that were under way in the backup, and wait for a person now."""


class BackupService:
    """One installation's backups."""

    def __init__(self, archive: Archive, open_campaigns: Callable[[Path], AbstractContextManager[Campaigns]]) -> None:
        """`open_campaigns`: the records in a data directory."""
        self._archive = archive
        self._open_campaigns = open_campaigns

    def backup(self, target: Path, progress: Progress) -> Copied:
        """Copy everything to `target`, which must be empty or absent, while mail may be being sent."""
        return self._archive.write(target, progress)

    def restore(self, source: Path, progress: Progress) -> Restored:
        """Make the backup in `source` the data, of which there must be none yet."""
        held: list[str] = []

        def prepare(data: Path, created_at: Instant) -> None:
            with self._open_campaigns(data) as campaigns:
                held.extend(hold(campaigns, created_at))

        return Restored(self._archive.restore(source, prepare, progress), held)


def hold(campaigns: Campaigns, created_at: Instant) -> Iterator[str]:
    """Hold every campaign that would send by itself; their ids."""
    moment = datetime.fromtimestamp(created_at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    reason = f"restored from a backup of {moment}: what was sent after that is not known here and would be sent again"
    cursor: str | None = None
    while True:
        page = campaigns.list(DEFAULT_TENANT, cursor=cursor)
        for campaign in page.campaigns:
            if campaign.state in _TO_PAUSE or campaign.start_when_ready:
                _hold(campaigns, campaign, reason)
                yield campaign.home.campaign
        cursor = page.cursor
        if cursor is None:
            return


def _hold(campaigns: Campaigns, campaign: Campaign, reason: str) -> None:
    if campaign.state in _TO_PAUSE:
        campaigns.transition(campaign, CampaignState.PAUSED, start_when_ready=False, reason=reason)
    else:
        campaigns.change(campaign, start_when_ready=False, reason=reason)
