"""`/v1/suppressions`: who must not be written to. Entering is for editors, taking somebody off for admins.

`/v1/erasures`: have a person forgotten, and see how far that is. For admins; the workers carry it out.
"""

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


"""Bytes of an import: some 350,000 rows, that are entered within the time of a call."""


_FILE = {
    "requestBody": {
        "required": True,
        "description": "UTF-8: an address a row, with or without a header; `reason`, `note`, `added_at`, `topic`, "
        "`expires_at` and `source` are read.",
        "content": {"text/csv": {"schema": {"type": "string"}, "example": "address,reason\nanna@mail.example,unsubscribe\n"}},
    }
}


def suppression_routes(lists: SuppressionLists, download: Download = streamed) -> APIRouter:
    """Each caller's own list. `download`: how files are answered."""
    router = APIRouter(prefix="/v1/suppressions", tags=["suppressions"], route_class=Route)
    _add_entries(router, lists)
    _add_files(router, lists, download)
    return router


def _add_entries(router: APIRouter, lists: SuppressionLists) -> None:
    @router.get("", operation_id="list_suppressions")
    def list_entries(
        caller: Viewer,
        address: Annotated[
            str | None, Query(min_length=1, max_length=500, description="Only this address, in any spelling.")
        ] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[SuppressionBody]:
        """List who must not be written to, in no particular order; or look for one address."""
        suppressions = lists.of(caller.tenant)
        if address is not None:
            return Page(items=[SuppressionBody.of(entry) for entry in suppressions.entries_of(address)], cursor=None)
        page = suppressions.list(cursor=cursor, limit=limit)
        return Page(items=[SuppressionBody.of(entry) for entry in page.items], cursor=page.cursor)

    @router.post(
        "",
        operation_id="add_suppression",
        status_code=201,
        responses={200: {"model": SuppressionBody, "description": "On the list already; nothing was changed."}},
    )
    def add(body: NewSuppression, caller: Editor, audit: Audit, response: Response) -> SuppressionBody:
        """Enter an address. Again: harmless."""
        suppressions = lists.of(caller.tenant)
        topic = (body.topic or "").strip() or None
        added = suppressions.add(body.address, reason=body.reason, note=body.note, topic=topic)
        entry = suppressions.get(body.address, topic=topic)
        if entry is None:
            raise NotFound("somebody took it off the list in this moment")
        if added:
            audit.changed("suppression", entry.key.hex(), after={"reason": entry.reason.value})
        response.status_code = 201 if added else 200
        return SuppressionBody.of(entry)

    @router.delete("", operation_id="remove_suppression", status_code=204)
    def remove(address: Address, caller: Admin, audit: Audit, topic: Topic = None) -> None:
        """Take an address off the list, of every topic too; or (`topic`) of that one alone."""
        suppressions = lists.of(caller.tenant)
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
        reason: Annotated[SuppressionReason, Query(description="Of rows that name none.")] = SuppressionReason.MANUAL,
    ) -> ImportResult:
        """Enter every row of a CSV file of up to 10 MB. Again: harmless."""
        media = media_type(request)
        if media != "text/csv":
            raise UnsupportedMediaType(f"the body must be text/csv, not {media or 'without a Content-Type'}")
        content = io.BytesIO(await request.body())
        suppressions = lists.of(caller.tenant)
        done = await to_thread.run_sync(lambda: suppressions.import_csv(content, reason=reason, keep=MAX_REJECTED))
        audit.changed("suppressions", "import", after={"added": done.added, "already": done.already})
        return ImportResult.of(done)

    @router.get("/export.csv", operation_id="export_suppressions", response_class=CsvAnswer, responses=CSV)
    def export(caller: Viewer) -> Response:
        """The whole list as CSV, which an import takes back: address, reason, note, added_at, topic,
        expires_at, source."""
        lines = lists.of(caller.tenant).export_csv()
        return download(caller.tenant, (line.encode("utf-8", "replace") for line in lines), "suppressions.csv")


def erasure_routes(requests: ErasureRequests) -> APIRouter:
    """Each caller's own tenant's."""
    router = APIRouter(prefix="/v1/erasures", tags=["erasures"], route_class=Route)

    @router.post("", operation_id="erase_person", status_code=202)
    def erase(body: NewErasure, caller: Admin, points: Points, audit: Audit) -> ErasureBody:
        """Forget a person: their messages, files with their rows, their lines in reports. Statistics stay as they are.

        It cannot be taken back. Carried out after the answer; ask for it by its id to see when it is done."""
        erasure = requests.ask(
            caller.tenant,
            points.once("id", requests.new_id),
            body.address,
            forget_suppression=body.forget_suppression,
            actor=f"{caller.kind}:{caller.id}",
        )
        audit.changed("erasure", erasure.id, after={"person": erasure.key})
        return ErasureBody.of(*requests.get(caller.tenant, erasure.id))

    @router.get("/{erasure_id}", operation_id="get_erasure")
    def get(erasure_id: ErasureId, caller: Admin) -> ErasureBody:
        """Show how far an erasure is, and what it found."""
        return ErasureBody.of(*requests.get(caller.tenant, erasure_id))

    return router
