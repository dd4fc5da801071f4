"""`/v1/keys`: API keys for programs.

A repeated POST answers the same key: its id and secret are recovery points of the call. They are kept for a day only, the secret
sealed, as is the answer; in the record of the key itself stands a digest.

`/v1/users`: who belongs to the caller's tenant. Signing in is the issuer's affair; here stands what they may do.

`/v1/tenants`: for operators, and everybody's own.

`/v1/audit`: who changed what, when and from where.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from postroom.gateway.access import Admin, Operator, Viewer
from postroom.gateway.audit import Audit, AuditChange
from postroom.gateway.idempotency import Points
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.access import (
    USER_ID,
    AuditEntry,
    AuditVerification,
    CallerBody,
    CreatedKey,
    KeyBody,
    NewKey,
    NewTenant,
    NewUser,
    OwnTenant,
    TenantBody,
    UserBody,
    UserEdit,
)
from postroom.ledger.audit import AuditLog
from postroom.ledger.tenants import Tenants
from postroom.model.access import API_KEY_ID, Membership
from postroom.model.audit import TIME_PREFIX, AuditRecord
from postroom.model.tenant import TENANT_ID, Tenant
from postroom.platform.ports.secrets import Secrets
from postroom.services.keys import ApiKeyService
from postroom.services.users import MemberService

KeyId = Annotated[str, Path(pattern=API_KEY_ID, description="The key's id.", examples=["2abcdefghijklmno"])]


def keys_routes(keys: ApiKeyService, secrets: Secrets) -> APIRouter:
    """The keys of the caller's tenant."""
    router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_key")
    def create(body: NewKey, caller: Admin, points: Points, audit: Audit, response: Response) -> CreatedKey:
        """Make an API key. Its text is shown in this answer only."""
        id = points.once("id", keys.new_id)  # noqa: A001
        purpose = f"key/{caller.tenant}/{id}"
        secret = secrets.open(purpose, points.once("secret", lambda: secrets.seal(purpose, keys.new_secret())))
        scopes = None if body.scopes is None else frozenset(body.scopes)
        made = keys.create(caller, body.name, role=body.role, scopes=scopes, days=body.expires_in_days, id=id, secret=secret)
        audit.changed("key", id, after=KeyBody.of(made.key).model_dump())
        response.headers["Cache-Control"] = "no-store"
        return CreatedKey.made(made)

    @router.get("", operation_id="list_keys")
    def list_all(caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[KeyBody]:
        """List the tenant's keys, oldest first."""
        page = keys.list(caller, cursor=cursor, limit=limit)
        return Page(items=[KeyBody.of(*used) for used in page.items], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_key")
    def get(id: KeyId, caller: Admin) -> KeyBody:  # noqa: A002
        """Show a key: not its text, which nobody can show again."""
        return KeyBody.of(*keys.get(caller, id))

    @router.delete("/{id}", status_code=204, operation_id="revoke_key")
    def revoke(id: KeyId, caller: Admin, audit: Audit) -> None:  # noqa: A002
        """Revoke a key: within seconds calls with it are refused, for ever."""
        audit.changed("key", id, before=KeyBody.of(keys.revoke(caller, id)).model_dump())

    return router


UserId = Annotated[str, Path(pattern=USER_ID, description="The user's id.", examples=["2abcdefghijklmnopqrstuvwxy"])]


def users_routes(members: MemberService, *, issuer: str) -> APIRouter:
    """`issuer`: whose subjects are meant where a call names no issuer."""
    router = APIRouter(prefix="/v1/users", tags=["users"], route_class=Route)

    @router.post("", status_code=201, operation_id="add_user")
    def add(body: NewUser, caller: Admin, audit: Audit) -> UserBody:
        """Let somebody into the tenant. Again, as the same, it answers the same."""
        named = body.issuer or issuer
        shown = UserBody.of(
            members.add(caller, Membership(named, body.subject, caller.tenant, body.role, body.name, operator=body.operator))
        )
        audit.changed("user", shown.id, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_users")
    def list_all(caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[UserBody]:
        """List who belongs to the tenant, in no particular order."""
        page = members.list(caller, cursor=cursor, limit=limit)
        return Page(items=[UserBody.of(member) for member in page.items], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_user")
    def get(id: UserId, caller: Admin) -> UserBody:  # noqa: A002
        """Show one who belongs to the tenant."""
        return UserBody.of(members.get(caller, id))

    @router.patch("/{id}", operation_id="change_user")
    def change(id: UserId, body: UserEdit, caller: Admin, audit: Audit) -> UserBody:  # noqa: A002
        """Change role, name or operator flag; it counts within seconds. The last admin stays one."""
        before = UserBody.of(members.get(caller, id))
        shown = UserBody.of(members.change(caller, id, **body.model_dump(exclude_none=True)))
        audit.changed("user", id, before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{id}", status_code=204, operation_id="remove_user")
    def remove(id: UserId, caller: Admin, audit: Audit) -> None:  # noqa: A002
        """Let somebody in no longer; it counts within seconds. The last admin stays."""
        audit.changed("user", id, before=UserBody.of(members.remove(caller, id)).model_dump())

    return router


TenantId = Annotated[str, Path(pattern=TENANT_ID, description="The tenant's id.", examples=["newsroom"])]


def tenants_routes(tenants: Tenants) -> APIRouter:
    """The installation's tenants."""
    router = APIRouter(prefix="/v1/tenants", tags=["tenants"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_tenant")
    def create(body: NewTenant, caller: Operator, points: Points, audit: Audit) -> TenantBody:
        """Make a tenant. Operators only."""
        mark = points.once("mark", lambda: secrets.token_hex(16))
        shown = TenantBody.of(tenants.create(body.id, body.name, mark=mark))
        audit.changed("tenant", shown.id, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_tenants")
    def list_all(caller: Operator, limit: Limit = 100, cursor: Cursor = None) -> Page[TenantBody]:
        """List all tenants. Operators only."""
        page = tenants.list(cursor=cursor, limit=limit)
        return Page(items=[TenantBody.of(tenant) for tenant in page.items], cursor=page.cursor)

    @router.get("/me", operation_id="get_my_tenant")
    def mine(caller: Viewer) -> OwnTenant:
        """Show the caller's own tenant, and who the door takes the caller for."""
        return OwnTenant(tenant=TenantBody.of(tenants.read(caller.tenant)), you=CallerBody.of(caller))

    @router.get("/{id}", operation_id="get_tenant")
    def get(id: TenantId, caller: Operator) -> TenantBody:  # noqa: A002
        """Show a tenant. Operators only."""
        return TenantBody.of(tenants.read(id))

    @router.post("/{id}/disable", operation_id="disable_tenant")
    def disable(id: TenantId, caller: Operator, audit: Audit) -> TenantBody:  # noqa: A002
        """Refuse a tenant's people and programs at the door, within seconds; nothing of it is lost. Operators only."""
        return switched(id, audit, tenants.disable)

    @router.post("/{id}/enable", operation_id="enable_tenant")
    def enable(id: TenantId, caller: Operator, audit: Audit) -> TenantBody:  # noqa: A002
        """Take a tenant's calls again. Operators only."""
        return switched(id, audit, tenants.enable)

    def switched(id: str, audit: AuditChange, switch: Callable[[str], Tenant]) -> TenantBody:  # noqa: A002
        before, shown = TenantBody.of(tenants.read(id)), TenantBody.of(switch(id))
        audit.changed("tenant", id, before=before.model_dump(), after=shown.model_dump())
        return shown

    return router


When = Annotated[
    str,
    Query(pattern=TIME_PREFIX, description="A year, month, day, hour or minute, UTC.", examples=["2026-12-01", "2026-12-01T09"]),
]


def audit_log_routes(log: AuditLog) -> APIRouter:
    """Over one trail a tenant."""
    router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Route)

    @router.get("", operation_id="list_audit")
    def entries(caller: Admin, limit: Limit = 100, cursor: Cursor = None, when: When | None = None) -> Page[AuditEntry]:
        """The tenant's trail, newest first."""
        page = log.list(caller.tenant, prefix=when or "", cursor=cursor, limit=limit)
        return Page(items=[_entry_body(entry) for entry in page.items], cursor=page.cursor)

    @router.get("/verification", operation_id="verify_audit")
    def verification(caller: Admin) -> AuditVerification:
        """Check the trail's seals: whether an entry was changed, added or taken away since."""
        found = log.verify(caller.tenant)
        return AuditVerification(
            seals=found.seals, entries=found.entries, unsealed=found.unsealed, head=found.head, problems=found.problems
        )

    return router


def _entry_body(entry: AuditRecord) -> AuditEntry:
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
