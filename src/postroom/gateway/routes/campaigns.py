"""`/v1/campaigns`: create, retrieve, update and control campaigns; their batches, messages and CSV exports.

The id of a new campaign, and its template's version if none is given, are recovery points, noted before anything is created:
the request may fail anywhere and be repeated. Actions may be repeated. Workers carry out what changes many messages, after the
response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Response

from postroom.errors import Denied
from postroom.gateway.access import Editor, Sender, Viewer
from postroom.gateway.audit import Audit, AuditChange, reads
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.idempotency import Points
from postroom.gateway.paging import CSV, CsvAnswer, Cursor, Download, Limit, Page, streamed
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.campaign_messages import (
    BatchBody,
    CampaignMessageStatus,
    DryRunBody,
    MessageBody,
    MessageId,
    MessageWithEvents,
    states_of,
)
from postroom.gateway.schemas.campaigns import (
    AffectedMessages,
    CampaignBody,
    CampaignEdit,
    CampaignId,
    NewCampaign,
    SettleRequest,
)
from postroom.model.access import Principal, Role
from postroom.model.campaign import Campaign, CampaignRef, CampaignSpec, CampaignStatus
from postroom.services.campaign_actions import CampaignActions
from postroom.services.campaign_creation import CampaignRequests
from postroom.services.campaigns import CampaignEditor, CampaignReader, CampaignService
from postroom.services.dry_run import DryRun
from postroom.services.exports import CampaignExports

CampaignStatuses = Annotated[
    list[CampaignStatus] | None, Query(description="Only campaigns with this status. May be given several times.", max_length=9)
]
NamePrefix = Annotated[str, Query(max_length=200, description="Only campaigns with this name prefix, ignoring case.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignServices:
    """The services used by these routes."""

    campaigns: CampaignService
    requests: CampaignRequests
    edits: CampaignEditor
    changes: CampaignActions
    dry_run: DryRun
    changed: Callable[[CampaignRef], None] = lambda ref: None
    """Called after every change, so that the status cache drops its entry."""


def campaign_routes(services: CampaignServices) -> APIRouter:
    """All routes except reading messages."""
    router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=Route)
    _add_records(router, services)
    _add_actions(router, services)
    _add_changes(router, services)
    return router


def _add_records(router: APIRouter, services: CampaignServices) -> None:
    campaigns, requests = services.campaigns, services.requests

    @router.post("", operation_id="create_campaign", status_code=201)
    def create(body: NewCampaign, caller: Editor, points: Points, audit: Audit, response: Response) -> CampaignBody:
        """Create a campaign.

        Its recipients are imported at once. If `start` is true, it is then sent or scheduled; this needs the role sender."""
        if body.start:
            _demand_sender(caller)
        ref = CampaignRef(caller.tenant, points.once("id", lambda: campaigns.new_id(caller.tenant)))

        def newest() -> str:
            return str(requests.template_version(caller.tenant, body.template_id))

        version = body.template_version or int(points.once("template_version", newest))
        campaign = requests.find_created(ref) or requests.create(
            ref, _spec(requests, body, template_version=version, created_by=caller.name), start=body.start
        )
        response.headers["Location"] = f"/v1/campaigns/{ref.campaign}"
        return _changed_campaign(services, audit, None, campaign, response)

    @router.get("", operation_id="list_campaigns")
    def list_campaigns(
        caller: Viewer, status: CampaignStatuses = None, name: NamePrefix = "", limit: Limit = 100, cursor: Cursor = None
    ) -> Page[CampaignBody]:
        """List campaigns, newest first."""
        page = campaigns.list(caller.tenant, statuses=status or (), name=name, cursor=cursor, limit=limit)
        return Page(items=[CampaignBody.from_record(campaign) for campaign in page.items], cursor=page.cursor)

    @router.get(
        "/{campaign_id}",
        operation_id="get_campaign",
        response_model=CampaignBody,
        responses={304: {"description": "Not modified."}},
    )
    def get(
        campaign_id: CampaignId, caller: Viewer, response: Response, if_none_match: IfNoneMatch = None
    ) -> CampaignBody | Response:
        """Retrieve a campaign."""
        campaign = campaigns.get(CampaignRef(caller.tenant, campaign_id))
        etag = etag_of(campaign.version)
        if matches(if_none_match, etag):
            return not_modified(etag)
        response.headers["ETag"] = etag
        return CampaignBody.from_record(campaign)

    @router.patch("/{campaign_id}", operation_id="edit_campaign")
    def edit(
        campaign_id: CampaignId,
        body: CampaignEdit,
        caller: Editor,
        audit: Audit,
        response: Response,
        if_match: IfMatch = None,
    ) -> CampaignBody:
        """Update a campaign's name, schedule or rate, while it is not sending.

        If the campaign was created with `start` true, this needs the role sender."""
        before = campaigns.get(CampaignRef(caller.tenant, campaign_id))
        if before.start_when_ready:
            _demand_sender(caller)
        demand(if_match, etag_of(before.version))
        return _changed_campaign(services, audit, before, services.edits.apply(before, body.edit()), response)

    @router.delete("/{campaign_id}", operation_id="delete_campaign", status_code=204)
    def delete(campaign_id: CampaignId, caller: Sender, audit: Audit) -> None:
        """Delete a campaign that has ended or was never started, with all its messages."""
        ref = CampaignRef(caller.tenant, campaign_id)
        before = campaigns.get(ref)
        campaigns.delete(ref)
        services.changed(ref)
        audit.changed("campaign", campaign_id, before=_audit_value(before))


def _spec(requests: CampaignRequests, body: NewCampaign, *, template_version: int, created_by: str) -> CampaignSpec:
    schedule = requests.schedule(body.schedule.at, body.schedule.timezone) if body.schedule else None
    policies = requests.defaults.with_options(rate=body.rate, unknown=body.unknown)
    return body.spec(template_version=template_version, created_by=created_by, schedule=schedule, policies=policies)


def _add_actions(router: APIRouter, services: CampaignServices) -> None:
    campaigns = services.campaigns

    @router.post("/{campaign_id}/start", operation_id="start_campaign")
    def start(campaign_id: CampaignId, caller: Sender, audit: Audit, response: Response) -> CampaignBody:
        """Start a campaign that was created with `start` false: send it, or schedule it."""
        ref = CampaignRef(caller.tenant, campaign_id)
        return _changed_campaign(services, audit, campaigns.get(ref), campaigns.start(ref), response)

    @router.post("/{campaign_id}/pause", operation_id="pause_campaign")
    def pause(campaign_id: CampaignId, caller: Sender, audit: Audit, response: Response) -> CampaignBody:
        """Pause a campaign within a second. Messages in flight are still delivered."""
        ref = CampaignRef(caller.tenant, campaign_id)
        return _changed_campaign(services, audit, campaigns.get(ref), campaigns.pause(ref, f"paused by {caller.name}"), response)

    @router.post("/{campaign_id}/resume", operation_id="resume_campaign")
    def resume(campaign_id: CampaignId, caller: Sender, audit: Audit, response: Response) -> CampaignBody:
        """Resume a paused campaign."""
        ref = CampaignRef(caller.tenant, campaign_id)
        return _changed_campaign(services, audit, campaigns.get(ref), campaigns.resume(ref), response)

    @router.post("/{campaign_id}/dry-run", operation_id="rehearse_campaign")
    @reads
    def rehearse(campaign_id: CampaignId, caller: Editor) -> DryRunBody:
        """Dry-run a campaign: compose the messages of the first 1,000 rows of the upload, and send nothing."""
        return DryRunBody.from_record(services.dry_run.run(campaigns.get(CampaignRef(caller.tenant, campaign_id))))


def _add_changes(router: APIRouter, services: CampaignServices) -> None:
    campaigns, changes = services.campaigns, services.changes

    @router.post("/{campaign_id}/cancel", operation_id="cancel_campaign")
    def cancel(campaign_id: CampaignId, caller: Sender, audit: Audit, response: Response) -> CampaignBody:
        """Cancel a campaign for good. Messages that were not sent yet are skipped."""
        ref = CampaignRef(caller.tenant, campaign_id)
        return _changed_campaign(services, audit, campaigns.get(ref), changes.cancel(ref), response)

    @router.post("/{campaign_id}/retry-failed", operation_id="retry_failed_messages", status_code=202)
    def retry_failed(campaign_id: CampaignId, caller: Sender, audit: Audit) -> AffectedMessages:
        """Retry the failed messages of a campaign that is paused or completed. Bounced addresses are not retried."""
        ref = CampaignRef(caller.tenant, campaign_id)
        concerned = AffectedMessages(messages=changes.retry_failed(ref))
        services.changed(ref)
        audit.changed("campaign", campaign_id, after={"retry_failed": concerned.messages})
        return concerned

    @router.post("/{campaign_id}/settle", operation_id="settle_unknown_messages", status_code=202)
    def settle(campaign_id: CampaignId, body: SettleRequest, caller: Sender, audit: Audit) -> AffectedMessages:
        """Settle the `unknown` messages of a campaign: those whose provider's reply was never received."""
        ref = CampaignRef(caller.tenant, campaign_id)
        concerned = AffectedMessages(messages=changes.settle(ref, body.decision))
        services.changed(ref)
        audit.changed("campaign", campaign_id, after={"settle": body.decision.value, "messages": concerned.messages})
        return concerned


def _changed_campaign(
    services: CampaignServices, audit: AuditChange, before: Campaign | None, after: Campaign, response: Response
) -> CampaignBody:
    """The response, after audit and cache were told of the change."""
    services.changed(after.ref)
    audit.changed("campaign", after.ref.campaign, before=before and _audit_value(before), after=_audit_value(after))
    response.headers["ETag"] = etag_of(after.version)
    return CampaignBody.from_record(after)


def _audit_value(campaign: Campaign) -> object:
    return CampaignBody.from_record(campaign).model_dump(mode="json")


def _demand_sender(caller: Principal) -> None:
    if not caller.role.includes(Role.SENDER):
        raise Denied(f"sending needs the role {Role.SENDER}; {caller.name} is {caller.role}: make it with `start` false")


MessageStatuses = Annotated[
    list[CampaignMessageStatus] | None,
    Query(description="Only messages with this status. May be given several times.", max_length=len(CampaignMessageStatus)),
]


def campaign_message_routes(reading: CampaignReader, exports: CampaignExports, download: Download = streamed) -> APIRouter:
    """`download`: how files are returned."""
    router = APIRouter(prefix="/v1/campaigns/{campaign_id}", tags=["campaigns"], route_class=Route)

    @router.get("/batches", operation_id="list_batches")
    def batches(campaign_id: CampaignId, caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[BatchBody]:
        """List a campaign's batches, by number."""
        page = reading.batches(CampaignRef(caller.tenant, campaign_id), cursor=cursor, limit=limit)
        return Page(items=[BatchBody.from_record(batch) for batch in page.batches], cursor=page.cursor)

    @router.get("/messages", operation_id="list_campaign_messages")
    def messages(
        campaign_id: CampaignId, caller: Viewer, status: MessageStatuses = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Page[MessageBody]:
        """List a campaign's messages, in a stable order."""
        ref = CampaignRef(caller.tenant, campaign_id)
        campaign, page = reading.messages(ref, statuses=states_of(status), cursor=cursor, limit=limit)
        return Page(items=[MessageBody.from_record(campaign, message) for message in page.messages], cursor=page.cursor)

    @router.get("/messages/{message_id}", operation_id="get_campaign_message")
    def message(campaign_id: CampaignId, message_id: MessageId, caller: Viewer) -> MessageWithEvents:
        """Retrieve a campaign's message with its events."""
        campaign, found = reading.message(CampaignRef(caller.tenant, campaign_id), message_id)
        return MessageWithEvents.told(campaign, found, reading.timeline(campaign, found))

    @router.get("/rejected.csv", operation_id="export_rejected_rows", response_class=CsvAnswer, responses=CSV)
    def rejected(campaign_id: CampaignId, caller: Viewer) -> Response:
        """Export the rejected rows of a campaign's upload as CSV: line, address, reason, detail."""
        return download(
            caller.tenant, exports.rejected_csv(CampaignRef(caller.tenant, campaign_id)), f"{campaign_id}-rejected.csv"
        )

    @router.get("/export.csv", operation_id="export_campaign_messages", response_class=CsvAnswer, responses=CSV)
    def export(campaign_id: CampaignId, caller: Viewer, status: MessageStatuses = None) -> Response:
        """Export a campaign's messages as CSV: status, last reply, engagement, and the cells of the row."""
        lines = exports.messages_csv(CampaignRef(caller.tenant, campaign_id), states_of(status))
        return download(caller.tenant, (line.encode("utf-8", "replace") for line in lines), f"{campaign_id}.csv")

    return router
