"""`/v1/senders/{name}/dkim`: the keys that the mail of a sender's domain is signed with.

A repeated POST answers the same keys: what their selectors begin with is a recovery point of the call. No answer holds a private
part; nothing here lets a key sign whose record the DNS does not have.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from postroom.gateway.access import Admin, Viewer
from postroom.gateway.routes.senders import Name
from postroom.gateway.routing import Route
from postroom.gateway.schemas.dkim import DkimKeyShown, DkimKeysShown, NewDkimKeys
from postroom.gateway.steps import Once
from postroom.gateway.trail import Trails
from postroom.model.dkim import SELECTOR
from postroom.services.dkim import DkimService
from postroom.services.senders import SenderService

Selector = Annotated[str, Path(pattern=SELECTOR, max_length=63, description="The key's selector.", examples=["pr20261124-k3vq"])]


def dkim_routes(senders: SenderService, dkim: DkimService) -> APIRouter:
    """Of domains that are senders of the tenant, or have one."""
    router = APIRouter(prefix="/v1/senders/{name}/dkim", tags=["senders"], route_class=Route)

    def known(tenant: str, name: str) -> str:
        """`NotFound`: no sender of the tenant."""
        return senders.get(tenant, name).name

    @router.get("", operation_id="list_dkim_keys")
    def list_all(name: Name, who: Viewer) -> DkimKeysShown:
        """List the DKIM keys of a sender's domain, with the records to publish."""
        return DkimKeysShown.of(dkim.keys(who.tenant, known(who.tenant, name)))

    @router.post("", status_code=201, operation_id="create_dkim_keys")
    def create(name: Name, body: NewDkimKeys, who: Admin, steps: Once, trail: Trails) -> DkimKeysShown:
        """Make new DKIM keys. Each signs once it is verified, and then takes the place of the one that signs now. Answers the new
        keys only."""
        name = known(who.tenant, name)
        stem = steps.once("stem", dkim.new_stem)
        keys = dkim.renew(who.tenant, name, stem, ed25519=body.ed25519)
        domain = dkim.keys(who.tenant, name).domain
        made = DkimKeysShown(domain=domain, keys=[DkimKeyShown.of(key, domain) for key in keys])
        trail.changed("dkim", f"{made.domain}/{stem}", after=made.model_dump())
        return made

    @router.post("/{selector}/verify", operation_id="verify_dkim_key")
    def verify(name: Name, selector: Selector, who: Admin, trail: Trails) -> DkimKeyShown:
        """Ask the DNS now whether the key's record is there: a key that waits signs from then on."""
        was = dkim.keys(who.tenant, known(who.tenant, name))
        before = DkimKeyShown.of(was.key(selector), was.domain)
        shown = DkimKeyShown.of(dkim.verify(who.tenant, was.domain, selector), was.domain)
        trail.changed("dkim", f"{was.domain}/{selector}", before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{selector}", status_code=204, operation_id="delete_dkim_key")
    def remove(name: Name, selector: Selector, who: Admin, trail: Trails) -> None:
        """Remove a DKIM key for good: within a minute nothing is signed with it. Its record is to stay for some days."""
        domain = dkim.keys(who.tenant, known(who.tenant, name)).domain
        shown = DkimKeyShown.of(dkim.remove(who.tenant, domain, selector), domain)
        trail.changed("dkim", f"{domain}/{selector}", before=shown.model_dump())

    return router
