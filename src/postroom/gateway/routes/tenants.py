"""`/v1/tenants`: for operators, and everybody's own."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path

from postroom.gateway.access import Operator, Viewer
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.tenants import MyTenant, NewTenant, TenantShown, You
from postroom.gateway.steps import Once
from postroom.gateway.trail import Trail, Trails
from postroom.ledger.tenants import Tenants
from postroom.model.tenant import TENANT_ID, Tenant

TenantId = Annotated[str, Path(pattern=TENANT_ID, description="The tenant's id.", examples=["newsroom"])]


def tenants_routes(tenants: Tenants) -> APIRouter:
    """The installation's tenants."""
    router = APIRouter(prefix="/v1/tenants", tags=["tenants"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_tenant")
    def create(body: NewTenant, who: Operator, steps: Once, trail: Trails) -> TenantShown:
        """Make a tenant. Operators only."""
        mark = steps.once("mark", lambda: secrets.token_hex(16))
        shown = TenantShown.of(tenants.create(body.id, body.name, mark=mark))
        trail.changed("tenant", shown.id, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_tenants")
    def list_all(who: Operator, limit: Limit = 100, cursor: Cursor = None) -> Page[TenantShown]:
        """List all tenants. Operators only."""
        page = tenants.list(cursor=cursor, limit=limit)
        return Page(items=[TenantShown.of(tenant) for tenant in page.tenants], cursor=page.cursor)

    @router.get("/me", operation_id="get_my_tenant")
    def mine(who: Viewer) -> MyTenant:
        """Show the caller's own tenant, and who the door takes the caller for."""
        return MyTenant(tenant=TenantShown.of(tenants.read(who.tenant)), you=You.of(who))

    @router.get("/{id}", operation_id="get_tenant")
    def get(id: TenantId, who: Operator) -> TenantShown:  # noqa: A002
        """Show a tenant. Operators only."""
        return TenantShown.of(tenants.read(id))

    @router.post("/{id}/disable", operation_id="disable_tenant")
    def disable(id: TenantId, who: Operator, trail: Trails) -> TenantShown:  # noqa: A002
        """Refuse a tenant's people and programs at the door, within seconds; nothing of it is lost. Operators only."""
        return switched(id, trail, tenants.disable)

    @router.post("/{id}/enable", operation_id="enable_tenant")
    def enable(id: TenantId, who: Operator, trail: Trails) -> TenantShown:  # noqa: A002
        """Take a tenant's calls again. Operators only."""
        return switched(id, trail, tenants.enable)

    def switched(id: str, trail: Trail, switch: Callable[[str], Tenant]) -> TenantShown:  # noqa: A002
        before, shown = TenantShown.of(tenants.read(id)), TenantShown.of(switch(id))
        trail.changed("tenant", id, before=before.model_dump(), after=shown.model_dump())
        return shown

    return router
