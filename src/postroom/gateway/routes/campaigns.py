"""`/v1/campaigns`: made, looked at, changed, operated.

A new campaign's id, and the version of its template where none was named, are noted before anything is made: the call may die
anywhere and come again. Verbs may be repeated. What changes many messages is carried out by the workers, after the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from postroom.errors import Denied
from postroom.gateway.access import Editor, Sender, Viewer
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.campaign_messages import RehearsalBody
from postroom.gateway.schemas.campaigns import CampaignBody, CampaignEdit, CampaignId, Concerned, NewCampaign, Settle
from postroom.gateway.steps import Once
from postroom.gateway.trail import Trail, Trails, reads
from postroom.model.access import Principal, Role
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.services.campaign_changes import Changes
from postroom.services.campaign_dry_run import DryRun
from postroom.services.campaign_edits import Edits
from postroom.services.campaign_orders import Orders
from postroom.services.campaigns import CampaignService

States = Annotated[list[CampaignStatus] | None, Query(description="Only those; again for more.", max_length=9)]
NamePrefix = Annotated[str, Query(max_length=200, description="Only names that begin so, in any case.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The services behind these routes."""

    campaigns: CampaignService
    orders: Orders
    edits: Edits
    changes: Changes
    dry_run: DryRun
    changed: Callable[[CampaignRef], None] = lambda ref: None
    """Told of every change: whoever keeps a status forgets it."""


def campaign_routes(desk: Desk) -> APIRouter:
    """All but the reading of messages."""
    router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=Route)
    _add_records(router, desk)
    _add_verbs(router, desk)
    _add_changes(router, desk)
    return router


def _add_records(router: APIRouter, desk: Desk) -> None:
    campaigns = desk.campaigns

    @router.post("", operation_id="create_campaign", status_code=201)
    def create(body: NewCampaign, who: Editor, steps: Once, trail: Trails, response: Response) -> CampaignBody:
        """Make a campaign.

        Its recipients are imported at once, and sent to if `start` is true (which needs the role sender)."""
        if body.start:
            _demand_sender(who)
        ref = CampaignRef(who.tenant, steps.once("id", lambda: campaigns.new_id(who.tenant)))

        def newest() -> str:
            return str(desk.orders.template_version(who.tenant, body.template_id))

        version = body.template_version or int(steps.once("template_version", newest))
        campaign = desk.orders.place(ref, body.order(template_version=version, created_by=who.name))
        response.headers["Location"] = f"/v1/campaigns/{ref.campaign}"
        return _told(desk, trail, None, campaign, response)

    @router.get("", operation_id="list_campaigns")
    def list_campaigns(
        who: Viewer, status: States = None, name: NamePrefix = "", limit: Limit = 100, cursor: Cursor = None
    ) -> Page[CampaignBody]:
        """List campaigns, newest first."""
        page = campaigns.list(who.tenant, statuses=status or (), name=name, cursor=cursor, limit=limit)
        return Page(items=[CampaignBody.of(campaign) for campaign in page.campaigns], cursor=page.cursor)

    @router.get(
        "/{campaign_id}",
        operation_id="get_campaign",
        response_model=CampaignBody,
        responses={304: {"description": "As you know it."}},
    )
    def get(
        campaign_id: CampaignId, who: Viewer, response: Response, if_none_match: IfNoneMatch = None
    ) -> CampaignBody | Response:
        """Show one campaign."""
        campaign = campaigns.get(CampaignRef(who.tenant, campaign_id))
        etag = etag_of(campaign.version)
        if matches(if_none_match, etag):
            return not_modified(etag)
        response.headers["ETag"] = etag
        return CampaignBody.of(campaign)

    @router.patch("/{campaign_id}", operation_id="edit_campaign")
    def edit(
        campaign_id: CampaignId,
        body: CampaignEdit,
        who: Editor,
        trail: Trails,
        response: Response,
        if_match: IfMatch = None,
    ) -> CampaignBody:
        """Change its name, schedule or rate, while it is not sending.

        One that will be sent without being started needs the role sender."""
        before = campaigns.get(CampaignRef(who.tenant, campaign_id))
        if before.start_when_ready:
            _demand_sender(who)
        demand(if_match, etag_of(before.version))
        return _told(desk, trail, before, desk.edits.apply(before, body.edit()), response)

    @router.delete("/{campaign_id}", operation_id="delete_campaign", status_code=204)
    def delete(campaign_id: CampaignId, who: Sender, trail: Trails) -> None:
        """Forget a campaign that has ended or was never started, with all its messages."""
        ref = CampaignRef(who.tenant, campaign_id)
        before = campaigns.get(ref)
        campaigns.delete(ref)
        desk.changed(ref)
        trail.changed("campaign", campaign_id, before=_digestible(before))


def _add_verbs(router: APIRouter, desk: Desk) -> None:
    campaigns = desk.campaigns

    @router.post("/{campaign_id}/start", operation_id="start_campaign")
    def start(campaign_id: CampaignId, who: Sender, trail: Trails, response: Response) -> CampaignBody:
        """Send, or schedule, a campaign that was made with `start` false."""
        ref = CampaignRef(who.tenant, campaign_id)
        return _told(desk, trail, campaigns.get(ref), campaigns.start(ref), response)

    @router.post("/{campaign_id}/pause", operation_id="pause_campaign")
    def pause(campaign_id: CampaignId, who: Sender, trail: Trails, response: Response) -> CampaignBody:
        """Stop sending within a second; what is in flight is drained."""
        ref = CampaignRef(who.tenant, campaign_id)
        return _told(desk, trail, campaigns.get(ref), campaigns.pause(ref, f"paused by {who.name}"), response)

    @router.post("/{campaign_id}/resume", operation_id="resume_campaign")
    def resume(campaign_id: CampaignId, who: Sender, trail: Trails, response: Response) -> CampaignBody:
        """Go on where it stopped."""
        ref = CampaignRef(who.tenant, campaign_id)
        return _told(desk, trail, campaigns.get(ref), campaigns.resume(ref), response)

    @router.post("/{campaign_id}/dry-run", operation_id="rehearse_campaign")
    @reads
    def rehearse(campaign_id: CampaignId, who: Editor) -> RehearsalBody:
        """Compose the messages of the upload's first thousand rows, and send nothing."""
        return RehearsalBody.of(desk.dry_run.run(campaigns.get(CampaignRef(who.tenant, campaign_id))))


def _add_changes(router: APIRouter, desk: Desk) -> None:
    campaigns, changes = desk.campaigns, desk.changes

    @router.post("/{campaign_id}/cancel", operation_id="cancel_campaign")
    def cancel(campaign_id: CampaignId, who: Sender, trail: Trails, response: Response) -> CampaignBody:
        """End it for good: nothing more is sent, and whoever still waits is skipped."""
        ref = CampaignRef(who.tenant, campaign_id)
        return _told(desk, trail, campaigns.get(ref), changes.cancel(ref), response)

    @router.post("/{campaign_id}/retry-failed", operation_id="retry_failed_messages", status_code=202)
    def retry_failed(campaign_id: CampaignId, who: Sender, trail: Trails) -> Concerned:
        """Send to everybody who failed again (not to refused addresses), in a campaign that is paused or completed."""
        ref = CampaignRef(who.tenant, campaign_id)
        concerned = Concerned(messages=changes.retry_failed(ref))
        desk.changed(ref)
        trail.changed("campaign", campaign_id, after={"retry_failed": concerned.messages})
        return concerned

    @router.post("/{campaign_id}/settle", operation_id="settle_unknown_messages", status_code=202)
    def settle(campaign_id: CampaignId, body: Settle, who: Sender, trail: Trails) -> Concerned:
        """Decide what became of messages that were handed over and whose answer was never seen."""
        ref = CampaignRef(who.tenant, campaign_id)
        concerned = Concerned(messages=changes.settle(ref, body.decision))
        desk.changed(ref)
        trail.changed("campaign", campaign_id, after={"settle": body.decision.value, "messages": concerned.messages})
        return concerned


def _told(desk: Desk, trail: Trail, before: Campaign | None, after: Campaign, response: Response) -> CampaignBody:
    """The answer, once everybody who is to know of the change does."""
    desk.changed(after.ref)
    trail.changed("campaign", after.ref.campaign, before=before and _digestible(before), after=_digestible(after))
    response.headers["ETag"] = etag_of(after.version)
    return CampaignBody.of(after)


def _digestible(campaign: Campaign) -> object:
    return CampaignBody.of(campaign).model_dump(mode="json")


def _demand_sender(who: Principal) -> None:
    if not who.role.includes(Role.SENDER):
        raise Denied(f"sending needs the role {Role.SENDER}; {who.name} is {who.role}: make it with `start` false")
