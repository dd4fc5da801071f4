"""`/v1/senders`: addresses and domains that a tenant may send from, and the DKIM keys of their domains.

A repeated POST of DKIM keys returns the same keys: the stem of their selectors is a recovery point. No response contains a
private key. A key signs only once its DNS record was found.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from postroom.gateway.access import Admin, Operator, Viewer
from postroom.gateway.audit import Audit
from postroom.gateway.idempotency import Points
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.senders import SENDER_NAME, DkimKeyBody, DkimKeysBody, NewDkimKeys, NewSender, SenderBody
from postroom.model.dkim import SELECTOR
from postroom.services.dkim import DkimService
from postroom.services.senders import SenderService

Name = Annotated[
    str,
    Path(
        pattern=SENDER_NAME, max_length=320, description="The address or domain.", examples=["news@shop.example", "shop.example"]
    ),
]


def sender_routes(senders: SenderService) -> APIRouter:
    router = APIRouter(prefix="/v1/senders", tags=["senders"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_sender")
    def create(body: NewSender, caller: Admin, audit: Audit) -> SenderBody:
        """Add a sender: an address or a domain. The response has the TXT record that verifies it; repeating returns the same."""
        shown = SenderBody.from_record(senders.add(caller.tenant, body.name))
        audit.changed("sender", shown.name, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_senders")
    def list_all(caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[SenderBody]:
        """List senders, by name."""
        page = senders.list(caller.tenant, cursor=cursor, limit=limit)
        return Page(items=[SenderBody.from_record(identity) for identity in page.items], cursor=page.cursor)

    @router.get("/{name}", operation_id="get_sender")
    def get(name: Name, caller: Viewer) -> SenderBody:
        """Retrieve a sender."""
        return SenderBody.from_record(senders.get(caller.tenant, name))

    @router.post("/{name}/verify", operation_id="verify_sender")
    def verify(name: Name, caller: Admin, audit: Audit) -> SenderBody:
        """Verify a sender: look up its TXT record now."""
        before = SenderBody.from_record(senders.get(caller.tenant, name))
        shown = SenderBody.from_record(senders.verify(caller.tenant, name))
        audit.changed("sender", shown.name, before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.post("/{name}/trust", operation_id="trust_sender")
    def trust(name: Name, caller: Operator, audit: Audit) -> SenderBody:
        """Trust a sender of the operator's own tenant without DNS verification. Operators only."""
        shown = SenderBody.from_record(senders.trust(caller.tenant, name, operator=caller.name))
        audit.changed("sender", shown.name, after=shown.model_dump())
        return shown

    @router.delete("/{name}", status_code=204, operation_id="delete_sender")
    def remove(name: Name, caller: Admin, audit: Audit) -> None:
        """Delete a sender. New campaigns and messages cannot use it; campaigns that are sending continue."""
        shown = SenderBody.from_record(senders.remove(caller.tenant, name))
        audit.changed("sender", shown.name, before=shown.model_dump())

    return router


Selector = Annotated[str, Path(pattern=SELECTOR, max_length=63, description="The key's selector.", examples=["pr20261124-k3vq"])]


def dkim_routes(senders: SenderService, dkim: DkimService) -> APIRouter:
    """DKIM keys of domains that are senders of the tenant, or have one."""
    router = APIRouter(prefix="/v1/senders/{name}/dkim", tags=["senders"], route_class=Route)

    def known(tenant: str, name: str) -> str:
        """The name, if it is a sender of the tenant. Raises `NotFound`."""
        return senders.get(tenant, name).name

    @router.get("", operation_id="list_dkim_keys")
    def list_all(name: Name, caller: Viewer) -> DkimKeysBody:
        """List the DKIM keys of a sender's domain, with the DNS records to publish."""
        return DkimKeysBody.from_record(dkim.keys(caller.tenant, known(caller.tenant, name)))

    @router.post("", status_code=201, operation_id="create_dkim_keys")
    def create(name: Name, body: NewDkimKeys, caller: Admin, points: Points, audit: Audit) -> DkimKeysBody:
        """Create DKIM keys. Each starts to sign once it is verified, and then replaces the current key. The response has the new
        keys only."""
        name = known(caller.tenant, name)
        stem = points.once("stem", dkim.new_stem)
        keys = dkim.renew(caller.tenant, name, stem, ed25519=body.ed25519)
        domain = dkim.keys(caller.tenant, name).domain
        made = DkimKeysBody(domain=domain, keys=[DkimKeyBody.from_record(key, domain) for key in keys])
        audit.changed("dkim", f"{made.domain}/{stem}", after=made.model_dump())
        return made

    @router.post("/{selector}/verify", operation_id="verify_dkim_key")
    def verify(name: Name, selector: Selector, caller: Admin, audit: Audit) -> DkimKeyBody:
        """Verify a DKIM key: look up its DNS record now. A pending key signs from then on."""
        was = dkim.keys(caller.tenant, known(caller.tenant, name))
        before = DkimKeyBody.from_record(was.key(selector), was.domain)
        shown = DkimKeyBody.from_record(dkim.verify(caller.tenant, was.domain, selector), was.domain)
        audit.changed("dkim", f"{was.domain}/{selector}", before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{selector}", status_code=204, operation_id="delete_dkim_key")
    def remove(name: Name, selector: Selector, caller: Admin, audit: Audit) -> None:
        """Delete a DKIM key. Within a minute nothing is signed with it; keep its DNS record for some days."""
        domain = dkim.keys(caller.tenant, known(caller.tenant, name)).domain
        shown = DkimKeyBody.from_record(dkim.remove(caller.tenant, domain, selector), domain)
        audit.changed("dkim", f"{domain}/{selector}", before=shown.model_dump())

    return router
