"""`/v1/uploads`: announce a file, bring it by the signed URL in the answer, see what it is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from postroom.gateway.access import Editor, Viewer
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.uploads import NewUpload, SignedUpload, UploadId, UploadView, announcement
from postroom.gateway.steps import Once
from postroom.gateway.trail import Trails
from postroom.model.access import Role
from postroom.services.uploads import UploadService

_LOCATION = {"Location": {"description": "The signed URL of the download.", "schema": {"type": "string"}}}
_REDIRECT: dict[int | str, dict[str, Any]] = {
    307: {"description": "The bytes are at `Location`, for ten minutes.", "headers": _LOCATION}
}


def uploads_routes(service: UploadService) -> APIRouter:
    """The routes of the presigned URL service."""
    router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=Route)

    @router.post("", status_code=201, operation_id="announce_upload", summary="Announce an upload")
    def announce(body: NewUpload, who: Editor, steps: Once, trail: Trails) -> SignedUpload:
        """Answers the request that brings the bytes. It takes exactly what was announced, and takes it once: cut off anywhere
        it leaves nothing and may be repeated until it succeeds."""
        upload_id = steps.once("id", service.new_id)
        announced = service.create(who.tenant, upload_id, announcement(body), author=who.name)
        trail.changed("upload", upload_id, after=body.model_dump(mode="json"))
        return SignedUpload.of(announced)

    @router.get("", operation_id="list_uploads", summary="List uploads")
    def list_uploads(who: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[UploadView]:
        """Newest first, without sample rows."""
        page = service.list(who.tenant, cursor=cursor, limit=limit)
        return Page(items=[UploadView.of(upload) for upload in page.uploads], cursor=page.cursor)

    @router.get("/{upload_id}", operation_id="get_upload", summary="Get an upload")
    def get(upload_id: UploadId, who: Viewer) -> UploadView:
        """Once the bytes of a recipients file are there: its encoding, delimiter and columns, which of them holds the addresses,
        how many rows there are, and for editors the first of them."""
        upload = service.get(who.tenant, upload_id)
        return UploadView.of(upload, service.sample(upload) if who.role.includes(Role.EDITOR) else None)

    @router.delete("/{upload_id}", status_code=204, operation_id="delete_upload", summary="Delete an upload")
    def delete(upload_id: UploadId, who: Editor, trail: Trails) -> Response:
        """Its bytes too. 409 while a campaign that has not ended uses it."""
        service.delete(who.tenant, upload_id)
        trail.changed("upload", upload_id)
        return Response(status_code=204)

    @router.get(
        "/{upload_id}/content",
        status_code=307,
        response_class=RedirectResponse,
        responses=_REDIRECT,
        operation_id="download_upload",
        summary="Download an upload",
    )
    def content(upload_id: UploadId, who: Editor) -> RedirectResponse:
        """Redirects to a signed URL of the bytes as they were uploaded. 422 before they arrived and when they are gone."""
        return RedirectResponse(service.content(who.tenant, upload_id).url, 307)

    return router
