"""`/v1/senders`: addresses and domains that a tenant may send as."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from postroom.gateway.access import Admin, Operator, Viewer
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.senders import NAME, NewSender, SenderShown
from postroom.gateway.trail import Trails
from postroom.services.senders import SenderService

Name = Annotated[
    str, Path(pattern=NAME, max_length=320, description="The address or domain.", examples=["news@shop.example", "shop.example"])
]


def sender_routes(senders: SenderService) -> APIRouter:
    """Over one list a tenant."""
    router = APIRouter(prefix="/v1/senders", tags=["senders"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_sender")
    def create(body: NewSender, who: Admin, trail: Trails) -> SenderShown:
        """Enter an address or a domain; the answer names the TXT record that verifies it. Again: the same answer."""
        shown = SenderShown.of(senders.add(who.tenant, body.name))
        trail.changed("sender", shown.name, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_senders")
    def list_all(who: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[SenderShown]:
        """List the tenant's senders by name."""
        page = senders.list(who.tenant, cursor=cursor, limit=limit)
        return Page(items=[SenderShown.of(identity) for identity in page.senders], cursor=page.cursor)

    @router.get("/{name}", operation_id="get_sender")
    def get(name: Name, who: Viewer) -> SenderShown:
        """Show a sender."""
        return SenderShown.of(senders.get(who.tenant, name))

    @router.post("/{name}/verify", operation_id="verify_sender")
    def verify(name: Name, who: Admin, trail: Trails) -> SenderShown:
        """Ask the DNS now whether its TXT record is there."""
        before = SenderShown.of(senders.get(who.tenant, name))
        shown = SenderShown.of(senders.verify(who.tenant, name))
        trail.changed("sender", shown.name, before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.post("/{name}/vouch", operation_id="vouch_for_sender")
    def vouch(name: Name, who: Operator, trail: Trails) -> SenderShown:
        """Take a sender of the operator's own tenant on trust. Operators only."""
        shown = SenderShown.of(senders.vouch(who.tenant, name, operator=who.name))
        trail.changed("sender", shown.name, after=shown.model_dump())
        return shown

    @router.delete("/{name}", status_code=204, operation_id="delete_sender")
    def remove(name: Name, who: Admin, trail: Trails) -> None:
        """Remove a sender: nothing new is sent from it, campaigns under way go on."""
        shown = SenderShown.of(senders.remove(who.tenant, name))
        trail.changed("sender", shown.name, before=shown.model_dump())

    return router
