"""`/v1/suppressions` (editors add addresses, admins remove them) and `/v1/erasures` (admins; workers carry them out)."""

from __future__ import annotations

import io
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from postroom.errors import NotFound
from postroom.gateway.access import Admin, Editor, Viewer
from postroom.gateway.audit import Audit
from postroom.gateway.bodies import accepts, media_type
from postroom.gateway.errors import UnsupportedMediaType
from postroom.gateway.idempotency import Points
from postroom.gateway.paging import CSV, CsvAnswer, Cursor, Download, Limit, Page, streamed
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.recipients import (
    MAX_REJECTED,
    Address,
    ErasureBody,
    ErasureId,
    ImportResult,
    NewErasure,
    NewSuppression,
    SuppressionBody,
    Topic,
)
from postroom.ledger.suppression import SuppressionReason
from postroom.services.erasure_requests import ErasureRequests
from postroom.services.suppression import SuppressionLists

MAX_FILE = 10_000_000
"""Bytes of an import: some 350,000 rows, which are added within a request's time limit."""

_FILE = {
    "requestBody": {
        "required": True,
        "description": "UTF-8: an address a row, with or without a header; `reason`, `note`, `added_at`, `topic`, "
        "`expires_at` and `source` are read.",
        "content": {"text/csv": {"schema": {"type": "string"}, "example": "address,reason\nanna@mail.example,unsubscribe\n"}},
    }
}


def suppression_routes(lists: SuppressionLists, download: Download = streamed) -> APIRouter:
    """`download`: how files are returned."""
    router = APIRouter(prefix="/v1/suppressions", tags=["suppressions"], route_class=Route)
    _add_entries(router, lists)
    _add_files(router, lists, download)
    return router


def _add_entries(router: APIRouter, lists: SuppressionLists) -> None:
    @router.get("", operation_id="list_suppressions")
    def list_entries(
        caller: Viewer,
        address: Annotated[
            str | None, Query(min_length=1, max_length=500, description="Only this address. Case and display name are ignored.")
        ] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[SuppressionBody]:
        """List suppressed addresses, in no particular order; or look up one address."""
        suppressions = lists.for_tenant(caller.tenant)
        if address is not None:
            return Page(items=[SuppressionBody.from_record(entry) for entry in suppressions.entries_of(address)], cursor=None)
        page = suppressions.list(cursor=cursor, limit=limit)
        return Page(items=[SuppressionBody.from_record(entry) for entry in page.items], cursor=page.cursor)

    @router.post(
        "",
        operation_id="add_suppression",
        status_code=201,
        responses={200: {"model": SuppressionBody, "description": "Already on the list; nothing was changed."}},
    )
    def add(body: NewSuppression, caller: Editor, audit: Audit, response: Response) -> SuppressionBody:
        """Add an address to the suppression list. Repeating the request changes nothing."""
        suppressions = lists.for_tenant(caller.tenant)
        topic = (body.topic or "").strip() or None
        added = suppressions.add(body.address, reason=body.reason, note=body.note, topic=topic)
        entry = suppressions.get(body.address, topic=topic)
        if entry is None:
            raise NotFound("the address was removed from the list at the same time")
        if added:
            audit.changed("suppression", entry.key.hex(), after={"reason": entry.reason.value})
        response.status_code = 201 if added else 200
        return SuppressionBody.from_record(entry)

    @router.delete("", operation_id="remove_suppression", status_code=204)
    def remove(address: Address, caller: Admin, audit: Audit, topic: Topic = None) -> None:
        """Remove an address from the suppression list: of all topics, or only of `topic`."""
        suppressions = lists.for_tenant(caller.tenant)
        entries = [entry for entry in suppressions.entries_of(address) if topic is None or entry.topic == topic]
        if not entries or not suppressions.remove(address, topic=topic):
            raise NotFound("this address is not on the list")
        audit.changed("suppression", entries[0].key.hex(), before={"reason": entries[0].reason.value})


def _add_files(router: APIRouter, lists: SuppressionLists, download: Download) -> None:
    @router.post("/import", operation_id="import_suppressions", openapi_extra=_FILE)
    @accepts(MAX_FILE)
    async def import_file(
        request: Request,
        caller: Editor,
        audit: Audit,
        reason: Annotated[SuppressionReason, Query(description="The reason for rows without one.")] = SuppressionReason.MANUAL,
    ) -> ImportResult:
        """Import addresses into the suppression list from a CSV file of up to 10 MB. Repeating the import changes nothing."""
        media = media_type(request)
        if media != "text/csv":
            raise UnsupportedMediaType(f"the body must be text/csv, not {media or 'without a Content-Type'}")
        content = io.BytesIO(await request.body())
        suppressions = lists.for_tenant(caller.tenant)
        done = await to_thread.run_sync(lambda: suppressions.import_csv(content, reason=reason, keep=MAX_REJECTED))
        audit.changed("suppressions", "import", after={"added": done.added, "already": done.already})
        return ImportResult.from_record(done)

    @router.get("/export.csv", operation_id="export_suppressions", response_class=CsvAnswer, responses=CSV)
    def export(caller: Viewer) -> Response:
        """Export the suppression list as CSV, in the format of the import: address, reason, note, added_at, topic,
        expires_at, source."""
        lines = lists.for_tenant(caller.tenant).export_csv()
        return download(caller.tenant, (line.encode("utf-8", "replace") for line in lines), "suppressions.csv")


def erasure_routes(requests: ErasureRequests) -> APIRouter:
    router = APIRouter(prefix="/v1/erasures", tags=["erasures"], route_class=Route)

    @router.post("", operation_id="erase_person", status_code=202)
    def erase(body: NewErasure, caller: Admin, points: Points, audit: Audit) -> ErasureBody:
        """Erase a person: their messages, uploaded files with their rows, their lines in reports. Statistics stay unchanged.

        This cannot be undone. It is carried out after the response; retrieve the erasure to see when it is done."""
        erasure = requests.ask(
            caller.tenant,
            points.once("id", requests.new_id),
            body.address,
            forget_suppression=body.forget_suppression,
            actor=f"{caller.kind}:{caller.id}",
        )
        audit.changed("erasure", erasure.id, after={"person": erasure.key})
        return ErasureBody.from_record(*requests.get(caller.tenant, erasure.id))

    @router.get("/{erasure_id}", operation_id="get_erasure")
    def get(erasure_id: ErasureId, caller: Admin) -> ErasureBody:
        """Retrieve an erasure with its progress and results."""
        return ErasureBody.from_record(*requests.get(caller.tenant, erasure_id))

    return router
