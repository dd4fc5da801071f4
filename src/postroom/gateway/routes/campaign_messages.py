"""`/v1/campaigns/{id}/…`: its batches, its messages, and both of its files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from postroom.gateway.access import Viewer
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.campaign_messages import (
    BatchBody,
    MessageBody,
    MessageId,
    MessageWithEvents,
    StateName,
    states_of,
)
from postroom.gateway.schemas.campaigns import CampaignId
from postroom.model.campaign import Home
from postroom.services.campaign_reading import CampaignReading
from postroom.services.exports import Exports

States = Annotated[
    list[StateName] | None, Query(description="Only messages in this state; again for more.", max_length=len(StateName))
]
_BLOCK = 65_536


def campaign_message_routes(reading: CampaignReading, exports: Exports) -> APIRouter:
    """Who may see anything of the tenant may see these."""
    router = APIRouter(prefix="/v1/campaigns/{campaign_id}", tags=["campaigns"], route_class=Route)

    @router.get("/batches", operation_id="list_batches")
    def batches(campaign_id: CampaignId, who: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[BatchBody]:
        """List the batches of a campaign, by number."""
        page = reading.batches(Home(who.tenant, campaign_id), cursor=cursor, limit=limit)
        return Page(items=[BatchBody.of(batch) for batch in page.batches], cursor=page.cursor)

    @router.get("/messages", operation_id="list_campaign_messages")
    def messages(
        campaign_id: CampaignId, who: Viewer, state: States = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[MessageBody]:
        """List the messages of a campaign, in an order of their own."""
        home = Home(who.tenant, campaign_id)
        campaign, page = reading.messages(home, states=states_of(state), cursor=cursor, limit=limit)
        return Page(items=[MessageBody.of(campaign, message) for message in page.messages], cursor=page.cursor)

    @router.get("/messages/{message_id}", operation_id="get_campaign_message")
    def message(campaign_id: CampaignId, message_id: MessageId, who: Viewer) -> MessageWithEvents:
        """Show one message of a campaign and what happened to it."""
        campaign, found = reading.message(Home(who.tenant, campaign_id), message_id)
        return MessageWithEvents.told(campaign, found, reading.timeline(campaign, found))

    @router.get("/rejected.csv", operation_id="export_rejected_rows", response_class=CsvAnswer, responses=CSV)
    def rejected(campaign_id: CampaignId, who: Viewer) -> CsvAnswer:
        """Rows that are no recipients, as CSV: line, address, reason, detail."""
        return csv_answer(exports.rejected_csv(Home(who.tenant, campaign_id)), f"{campaign_id}-rejected.csv")

    @router.get("/export.csv", operation_id="export_campaign_messages", response_class=CsvAnswer, responses=CSV)
    def export(campaign_id: CampaignId, who: Viewer, state: States = None) -> CsvAnswer:
        """Every message as CSV: where it stands, its last reply, what its recipient did, and the row's own cells."""
        lines = exports.messages_csv(Home(who.tenant, campaign_id), states_of(state))
        return csv_answer((line.encode("utf-8", "replace") for line in lines), f"{campaign_id}.csv")

    return router


class CsvAnswer(StreamingResponse):
    """CSV in UTF-8, for a file."""

    media_type = "text/csv"


CSV: dict[int | str, dict[str, object]] = {
    200: {
        "description": "UTF-8 with a header (RFC 4180). Cells that a spreadsheet would take for a formula have a `'` in front.",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}


def csv_answer(parts: Iterator[bytes], filename: str) -> CsvAnswer:
    """Streams `parts`; the first of them are read before the answer begins, so that errors still can be told."""
    blocks = _in_blocks(parts)
    first = next(blocks, b"")
    disposition = f'attachment; filename="{filename}"'
    return CsvAnswer(chain([first], blocks), headers={"Content-Disposition": disposition})


def _in_blocks(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A thread is asked once a block, not once a line."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
