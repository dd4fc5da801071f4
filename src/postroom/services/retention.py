"""Deleting campaigns that ended longer ago than the installation keeps them, with all that is known of their recipients.

Records are read from the oldest on, and only up to those made after the limit: what is kept costs one page a tenant. A campaign
that has not ended stays, however old. Its record goes last (services.campaigns), so the next run finds what a kill leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from postroom.clock import Instant
from postroom.errors import Conflict, NotFound
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import ENDED, Campaign
from postroom.services.campaigns import CampaignService

_DAY_MS = 86_400_000


class CampaignRetention:
    """Of all tenants."""

    def __init__(self, tenants: Tenants, campaigns: Campaigns, service: CampaignService) -> None:
        self._tenants = tenants
        self._campaigns = campaigns
        self._service = service

    def run(self, now: Instant, *, days: int, stopped: Callable[[], bool]) -> int:
        """Delete what ended more than `days` days ago, until `stopped`; how many. Errors of the stores are raised."""
        before, deleted = Instant(now - days * _DAY_MS), 0
        for campaign in self._old(before):
            if stopped():
                break
            if campaign.status in ENDED and (campaign.finished_at or campaign.created_at) < before:
                deleted += self._delete(campaign)
        return deleted

    def _delete(self, campaign: Campaign) -> bool:
        """False: somebody deleted it, or went on with it, in this moment."""
        try:
            self._service.delete(campaign.ref)
        except (Conflict, NotFound):
            return False
        return True

    def _old(self, before: Instant) -> Iterator[Campaign]:
        """What was made before; nothing younger can have ended before."""
        for tenant in self._every_tenant():
            yield from self._campaigns.made_before(tenant, before)

    def _every_tenant(self) -> Iterator[str]:
        cursor: str | None = None
        while True:
            page = self._tenants.list(cursor=cursor)
            yield from (tenant.id for tenant in page.tenants)
            cursor = page.cursor
            if cursor is None:
                return
