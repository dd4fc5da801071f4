"""`/v1/erasures`: have a person forgotten, and see how far that is. For admins; the workers carry it out."""

from __future__ import annotations

from fastapi import APIRouter

from postroom.gateway.access import Admin
from postroom.gateway.routing import Route
from postroom.gateway.schemas.erasures import ErasureBody, ErasureId, NewErasure
from postroom.gateway.steps import Once
from postroom.gateway.trail import Trails
from postroom.services.erasure_requests import ErasureRequests


def erasure_routes(requests: ErasureRequests) -> APIRouter:
    """Each caller's own tenant's."""
    router = APIRouter(prefix="/v1/erasures", tags=["erasures"], route_class=Route)

    @router.post("", operation_id="erase_person", status_code=202)
    def erase(body: NewErasure, who: Admin, steps: Once, trail: Trails) -> ErasureBody:
        """Forget a person: their messages, files with their rows, their lines in reports. Statistics stay as they are.

        It cannot be taken back. Carried out after the answer; ask for it by its id to see when it is done."""
        erasure = requests.ask(
            who.tenant,
            steps.once("id", requests.new_id),
            body.address,
            forget_suppression=body.forget_suppression,
            actor=f"{who.kind}:{who.id}",
        )
        trail.changed("erasure", erasure.id, after={"person": erasure.key})
        return ErasureBody.of(*requests.get(who.tenant, erasure.id))

    @router.get("/{erasure_id}", operation_id="get_erasure")
    def get(erasure_id: ErasureId, who: Admin) -> ErasureBody:
        """Show how far an erasure is, and what it found."""
        return ErasureBody.of(*requests.get(who.tenant, erasure_id))

    return router
