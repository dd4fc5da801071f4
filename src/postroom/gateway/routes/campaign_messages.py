"""`/v1/campaigns/{id}/…`: its batches, its messages, and both of its files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from postroom.gateway.access import Viewer
from postroom.gateway.downloads import CSV, CsvAnswer, Download, streamed
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.campaign_messages import (
    BatchBody,
    MessageBody,
    MessageId,
    MessageWithEvents,
    StatusName,
    states_of,
)
from postroom.gateway.schemas.campaigns import CampaignId
from postroom.model.campaign import CampaignRef
from postroom.services.campaign_reading import CampaignReading
from postroom.services.exports import Exports

States = Annotated[
    list[StatusName] | None, Query(description="Only messages in this state; again for more.", max_length=len(StatusName))
]


def campaign_message_routes(reading: CampaignReading, exports: Exports, download: Download = streamed) -> APIRouter:
    """Who may see anything of the tenant may see these. `download`: how files are answered."""
    router = APIRouter(prefix="/v1/campaigns/{campaign_id}", tags=["campaigns"], route_class=Route)

    @router.get("/batches", operation_id="list_batches")
    def batches(campaign_id: CampaignId, who: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[BatchBody]:
        """List the batches of a campaign, by number."""
        page = reading.batches(CampaignRef(who.tenant, campaign_id), cursor=cursor, limit=limit)
        return Page(items=[BatchBody.of(batch) for batch in page.batches], cursor=page.cursor)

    @router.get("/messages", operation_id="list_campaign_messages")
    def messages(
        campaign_id: CampaignId, who: Viewer, status: States = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[MessageBody]:
        """List the messages of a campaign, in an order of their own."""
        ref = CampaignRef(who.tenant, campaign_id)
        campaign, page = reading.messages(ref, statuses=states_of(status), cursor=cursor, limit=limit)
        return Page(items=[MessageBody.of(campaign, message) for message in page.messages], cursor=page.cursor)

    @router.get("/messages/{message_id}", operation_id="get_campaign_message")
    def message(campaign_id: CampaignId, message_id: MessageId, who: Viewer) -> MessageWithEvents:
        """Show one message of a campaign and what happened to it."""
        campaign, found = reading.message(CampaignRef(who.tenant, campaign_id), message_id)
        return MessageWithEvents.told(campaign, found, reading.timeline(campaign, found))

    @router.get("/rejected.csv", operation_id="export_rejected_rows", response_class=CsvAnswer, responses=CSV)
    def rejected(campaign_id: CampaignId, who: Viewer) -> Response:
        """Rows that are no recipients, as CSV: line, address, reason, detail."""
        return download(who.tenant, exports.rejected_csv(CampaignRef(who.tenant, campaign_id)), f"{campaign_id}-rejected.csv")

    @router.get("/export.csv", operation_id="export_campaign_messages", response_class=CsvAnswer, responses=CSV)
    def export(campaign_id: CampaignId, who: Viewer, status: States = None) -> Response:
        """Every message as CSV: where it stands, its last reply, what its recipient did, and the row's own cells."""
        lines = exports.messages_csv(CampaignRef(who.tenant, campaign_id), states_of(status))
        return download(who.tenant, (line.encode("utf-8", "replace") for line in lines), f"{campaign_id}.csv")

    return router
