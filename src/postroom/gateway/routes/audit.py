"""`/v1/audit`: who changed what, when and from where."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from postroom.gateway.access import Admin
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.audit import AuditEntry, AuditVerification
from postroom.ledger.audit import AuditLog
from postroom.model.audit import TIME_PREFIX, AuditRecord

When = Annotated[
    str,
    Query(pattern=TIME_PREFIX, description="A year, month, day, hour or minute, UTC.", examples=["2026-12-01", "2026-12-01T09"]),
]


def audit_routes(log: AuditLog) -> APIRouter:
    """Over one trail a tenant."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Route)

    @router.get("", operation_id="list_audit")
    def entries(who: Admin, limit: Limit = 100, cursor: Cursor = None, when: When | None = None) -> Page[AuditEntry]:
        """The tenant's trail, newest first."""
        page = log.list(who.tenant, prefix=when or "", cursor=cursor, limit=limit)
        return Page(items=[_shown(entry) for entry in page.entries], cursor=page.cursor)

    @router.get("/verification", operation_id="verify_audit")
    def verification(who: Admin) -> AuditVerification:
        """Check the trail's seals: whether an entry was changed, added or taken away since."""
        found = log.verify(who.tenant)
        return AuditVerification(
            seals=found.seals, entries=found.entries, unsealed=found.unsealed, head=found.head, problems=found.problems
        )

    return router


def _shown(entry: AuditRecord) -> AuditEntry:
    return AuditEntry(
        id=entry.id,
        at=entry.at,
        actor=entry.actor,
        name=entry.name,
        address=entry.address,
        action=entry.action,
        request_id=entry.request_id,
        status=entry.status,
        target=entry.target,
        before=entry.before,
        after=entry.after,
        count=entry.count,
        reason=entry.reason,
    )
