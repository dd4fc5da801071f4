"""Backup and restore.

A restored installation does not send by itself: messages sent between the backup and the loss are `pending` in the copy, and
would be sent twice. So campaigns that were sending, scheduled or about to start are held, with the reason, until a person
resumes or cancels them. Single messages that were waiting become `unknown` (ledger.stream_hold). Messages that were with the
provider at the time of the backup are in their batch's open group; all of the group become `unknown`, because journals are not
part of a backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from postroom.clock import Instant
from postroom.ledger.campaigns import Campaigns
from postroom.model.backup import BackupSummary
from postroom.model.campaign import ENDED, Campaign, CampaignRef, CampaignStatus
from postroom.model.tenant import DEFAULT_TENANT

_TO_PAUSE = frozenset({CampaignStatus.SENDING, CampaignStatus.SCHEDULED})
Progress = Callable[[str], None]


class Archive(Protocol):
    """Copies a data directory, and restores it. Errors: platform/embedded/backup.py."""

    def write(self, target: Path, progress: Progress) -> BackupSummary: ...

    def restore(self, source: Path, prepare: Callable[[Path, Instant], None], progress: Progress) -> BackupSummary: ...


class Restored(NamedTuple):
    copied: BackupSummary
    held: list[CampaignRef]
    """Campaigns that were under way in the backup and now need a person's decision."""
    in_doubt: int
    """Single messages that were waiting in the backup."""


class BackupService:
    def __init__(
        self,
        archive: Archive,
        open_campaigns: Callable[[Path], AbstractContextManager[Campaigns]],
        hold_streams: Callable[[Path, str], int],
    ) -> None:
        """Both functions take a data directory. `open_campaigns` opens its records; `hold_streams` marks its waiting single
        messages as `unknown`, with a reason, and returns how many."""
        self._archive = archive
        self._open_campaigns = open_campaigns
        self._hold_streams = hold_streams

    def backup(self, target: Path, progress: Progress) -> BackupSummary:
        """Copy everything to `target`, which must be empty or absent. Sending may continue meanwhile."""
        return self._archive.write(target, progress)

    def restore(self, source: Path, progress: Progress) -> Restored:
        """Restore the backup in `source`. There must be no data yet."""
        held: list[CampaignRef] = []
        in_doubt = 0

        def prepare(data: Path, created_at: Instant) -> None:
            nonlocal in_doubt
            moment = datetime.fromtimestamp(created_at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            restored = f"restored from a backup of {moment}"
            with self._open_campaigns(data) as campaigns:
                held.extend(hold(campaigns, f"{restored}: what was sent after that is not known here and would be sent again"))
            in_doubt = self._hold_streams(data, f"{restored}: whether it was sent after that is not known here")

        copied = self._archive.restore(source, prepare, progress)
        return Restored(copied, held, in_doubt)


def hold(campaigns: Campaigns, reason: str) -> Iterator[CampaignRef]:
    """Hold all campaigns that would send by themselves, and yield them."""
    for ref in {*campaigns.unfinished(), *_of_default_tenant(campaigns)}:
        campaign = campaigns.get(ref)
        if campaign.status in _TO_PAUSE or (campaign.start_when_ready and campaign.status not in ENDED):
            _hold(campaigns, campaign, reason)
            yield campaign.ref


def _of_default_tenant(campaigns: Campaigns) -> Iterator[CampaignRef]:
    """The default tenant's unfinished campaigns. A backup of an older version has no list across tenants, and no other tenant."""
    cursor: str | None = None
    while True:
        page = campaigns.list(DEFAULT_TENANT, cursor=cursor)
        yield from (campaign.ref for campaign in page.items)
        cursor = page.cursor
        if cursor is None:
            return


def _hold(campaigns: Campaigns, campaign: Campaign, reason: str) -> None:
    if campaign.status in _TO_PAUSE:
        campaigns.transition(campaign, CampaignStatus.PAUSED, start_when_ready=False, reason=reason)
    else:
        campaigns.change(campaign, start_when_ready=False, reason=reason)
