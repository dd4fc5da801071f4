"""Deletes campaigns and single messages that are older than the installation keeps them.

Campaigns: records are read from the oldest on, up to the limit, so campaigns that stay cost one page a tenant. A campaign that
has not ended stays, however old. Its record is deleted last (services.campaigns), so the next run finds what a crash leaves.

Single messages: a day's stream is deleted as a whole. Streams have no list: their ids follow from tenant and day. A tenant's
record says up to which day all is deleted; it is written afterwards, so a crash only repeats deletions. A stream with unsent
messages stays, and so do those after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from postroom.clock import Instant
from postroom.delivery.transactional import ERA_DAYS, ContentStore
from postroom.errors import Conflict, NotFound, PostroomError
from postroom.ledger import scheduler_messages
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.streams import DailyStreams
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import ENDED, Campaign
from postroom.model.stream import day_of, stream_ref
from postroom.model.tenant import Tenant
from postroom.platform.ports.journal import Journals
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.tables import ItemKey, Put, Tables
from postroom.platform.ports.workflows import Workflows
from postroom.services.campaigns import CampaignService

_DAY_MS = 86_400_000


class CampaignRetention:
    def __init__(self, tenants: Tenants, campaigns: Campaigns, service: CampaignService) -> None:
        self._tenants = tenants
        self._campaigns = campaigns
        self._service = service

    def run(self, now: Instant, *, days: int, stopped: Callable[[], bool]) -> int:
        """Delete campaigns that ended more than `days` days ago, until `stopped`; returns how many. Errors of the stores are
        raised."""
        before, deleted = Instant(now - days * _DAY_MS), 0
        for campaign in self._old(before):
            if stopped():
                break
            if campaign.status in ENDED and (campaign.finished_at or campaign.created_at) < before:
                deleted += self._delete(campaign)
        return deleted

    def _delete(self, campaign: Campaign) -> bool:
        """False if another caller deleted or resumed it meanwhile."""
        try:
            self._service.delete(campaign.ref)
        except (Conflict, NotFound):
            return False
        return True

    def _old(self, before: Instant) -> Iterator[Campaign]:
        """Campaigns created before that time; younger ones cannot have ended earlier."""
        for tenant in self._every_tenant():
            yield from self._campaigns.made_before(tenant, before)

    def _every_tenant(self) -> Iterator[str]:
        cursor: str | None = None
        while True:
            page = self._tenants.list(cursor=cursor)
            yield from (tenant.id for tenant in page.items)
            cursor = page.cursor
            if cursor is None:
                return


_GRACE_DAYS = 1
"""Beyond `days`: a call may be repeated for a day."""
_LOOK_BACK_DAYS = 400
"""If the tenant's record names no day."""


class StreamRetention:
    def __init__(
        self,
        tables: Tables,
        tenants: Tenants,
        streams: DailyStreams,
        *,
        contents: ContentStore,
        messages: Messages,
        journals: Journals,
        workflows: Workflows,
    ) -> None:
        self._tables = tables
        self._tenants = tenants
        self._streams = streams
        self._contents = contents
        self._messages = messages
        self._journals = journals
        self._workflows = workflows

    def expire(self, now: Instant, *, days: int) -> int:
        """Delete streams that ended more than `days` days ago; returns how many tenant days were examined.

        A failing tenant does not stop the others; its error is raised at the end."""
        until, gone_through = day_of(now) - days - _GRACE_DAYS, 0
        failed: PostroomError | None = None
        for tenant in self._all_tenants():
            try:
                gone_through += self._expire(tenant, until)
            except PostroomError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return gone_through

    def _expire(self, tenant: Tenant, until: int) -> int:
        key = ItemKey(f"{tenant.id}#streams", "expired")
        item = self._tables.get(key)
        first = until - _LOOK_BACK_DAYS if item is None else int(item.data["before"])
        day = first
        while day < until and self._delete(tenant, day):
            day += 1
        if day > first:
            self._tables.write([Put(key, {"before": day})])
        return max(0, day - first)

    def _delete(self, tenant: Tenant, day: int) -> bool:
        """False if the stream has unsent messages."""
        ref = stream_ref(tenant, day)
        if self._streams.owes(ref):
            return False
        self._workflows.stop(scheduler_messages.STREAM, ref.campaign, "deleted")
        self._messages.drop(ref)
        self._journals.drop(ref.campaign)
        if (day + 1) % ERA_DAYS == 0:
            self._contents.purge(tenant.id, day // ERA_DAYS)
        return True

    def _all_tenants(self) -> Iterator[Tenant]:
        cursor: str | None = None
        while True:
            page = self._tenants.list(cursor=cursor)
            yield from page.items
            cursor = page.cursor
            if cursor is None:
                return
