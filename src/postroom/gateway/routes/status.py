"""`GET /v1/campaigns/{id}/status`: where a campaign stands in numbers, made to be asked all the time (gateway.status_board)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from postroom.gateway.access import Viewer
from postroom.gateway.etags import IfNoneMatch, matches
from postroom.gateway.routing import Route
from postroom.gateway.schemas.campaigns import CampaignId
from postroom.gateway.schemas.status import StatusBody
from postroom.gateway.status_board import StatusBoard
from postroom.model.campaign import CampaignRef

MAX_WAIT_S = 20
"""API Gateway answers for us after 29 seconds."""

Wait = Annotated[
    int,
    Query(
        ge=0,
        le=MAX_WAIT_S,
        description="Seconds to wait for a change: of what `If-None-Match` names, else of what it is when the call comes in.",
    ),
]
_CACHING = "private, no-cache"
_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"model": StatusBody, "description": "The status, with its `ETag`."},
    304: {"description": "Still as you know it."},
}


def status_routes(board: StatusBoard) -> APIRouter:
    """One route, that never holds a thread while it waits."""
    router = APIRouter(prefix="/v1/campaigns", tags=["status", "campaigns"], route_class=Route)

    @router.get("/{campaign_id}/status", operation_id="get_campaign_status", responses=_ANSWERS)
    async def status(
        campaign_id: CampaignId, who: Viewer, request: Request, wait: Wait = 0, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Show where a campaign stands; at most half a second old.

        Ask with `If-None-Match` to be told only of changes, and with `wait` to be told as soon as there is one."""
        ref = CampaignRef(who.tenant, campaign_id)
        posted = await board.look(ref)
        if wait:
            first = posted.etag
            known = if_none_match

            def seen(etag: str) -> bool:
                return etag == first if known is None else matches(known, etag)

            posted = await board.watch(ref, seen, seconds=wait, gone=request.is_disconnected)
        headers = {"ETag": posted.etag, "Cache-Control": _CACHING}
        if if_none_match is not None and matches(if_none_match, posted.etag):
            return Response(status_code=304, headers=headers)
        return Response(posted.body, media_type="application/json", headers=headers)

    return router
