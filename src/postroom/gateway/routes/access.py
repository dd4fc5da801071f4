"""`/v1/keys`, `/v1/users`, `/v1/tenants` and `/v1/audit`: who may use the API, and the audit log.

A repeated POST to `/v1/keys` returns the same key: its id and secret are recovery points of the request. They are stored for a
day, the secret and the response sealed; the key's own record has only a digest.
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
    AuditVerificationBody,
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
    router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_key")
    def create(body: NewKey, caller: Admin, points: Points, audit: Audit, response: Response) -> CreatedKey:
        """Create an API key. The response is the only one that contains the key itself."""
        id = points.once("id", keys.new_id)  # noqa: A001
        purpose = f"key/{caller.tenant}/{id}"
        secret = secrets.open(purpose, points.once("secret", lambda: secrets.seal(purpose, keys.new_secret())))
        scopes = None if body.scopes is None else frozenset(body.scopes)
        made = keys.create(caller, body.name, role=body.role, scopes=scopes, days=body.expires_in_days, id=id, secret=secret)
        audit.changed("key", id, after=KeyBody.from_record(made.key).model_dump())
        response.headers["Cache-Control"] = "no-store"
        return CreatedKey.made(made)

    @router.get("", operation_id="list_keys")
    def list_all(caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[KeyBody]:
        """List API keys, oldest first."""
        page = keys.list(caller, cursor=cursor, limit=limit)
        return Page(items=[KeyBody.from_record(*used) for used in page.items], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_key")
    def get(id: KeyId, caller: Admin) -> KeyBody:  # noqa: A002
        """Retrieve an API key, without the key itself."""
        return KeyBody.from_record(*keys.get(caller, id))

    @router.delete("/{id}", status_code=204, operation_id="revoke_key")
    def revoke(id: KeyId, caller: Admin, audit: Audit) -> None:  # noqa: A002
        """Revoke an API key. Within seconds, requests with it are refused."""
        audit.changed("key", id, before=KeyBody.from_record(keys.revoke(caller, id)).model_dump())

    return router


UserId = Annotated[str, Path(pattern=USER_ID, description="The user's id.", examples=["2abcdefghijklmnopqrstuvwxy"])]


def users_routes(members: MemberService, *, issuer: str) -> APIRouter:
    """`issuer`: the default issuer of a user's subject."""
    router = APIRouter(prefix="/v1/users", tags=["users"], route_class=Route)

    @router.post("", status_code=201, operation_id="add_user")
    def add(body: NewUser, caller: Admin, audit: Audit) -> UserBody:
        """Add a user to the tenant. Repeating the request returns the same user."""
        named = body.issuer or issuer
        shown = UserBody.from_record(
            members.add(caller, Membership(named, body.subject, caller.tenant, body.role, body.name, operator=body.operator))
        )
        audit.changed("user", shown.id, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_users")
    def list_all(caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[UserBody]:
        """List the tenant's users, in no particular order."""
        page = members.list(caller, cursor=cursor, limit=limit)
        return Page(items=[UserBody.from_record(member) for member in page.items], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_user")
    def get(id: UserId, caller: Admin) -> UserBody:  # noqa: A002
        """Retrieve a user."""
        return UserBody.from_record(members.get(caller, id))

    @router.patch("/{id}", operation_id="change_user")
    def change(id: UserId, body: UserEdit, caller: Admin, audit: Audit) -> UserBody:  # noqa: A002
        """Update a user's role, name or operator flag, effective within seconds. The last admin must stay admin."""
        before = UserBody.from_record(members.get(caller, id))
        shown = UserBody.from_record(members.change(caller, id, **body.model_dump(exclude_none=True)))
        audit.changed("user", id, before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{id}", status_code=204, operation_id="remove_user")
    def remove(id: UserId, caller: Admin, audit: Audit) -> None:  # noqa: A002
        """Remove a user from the tenant, effective within seconds. The last admin cannot be removed."""
        audit.changed("user", id, before=UserBody.from_record(members.remove(caller, id)).model_dump())

    return router


TenantId = Annotated[str, Path(pattern=TENANT_ID, description="The tenant's id.", examples=["newsroom"])]


def tenants_routes(tenants: Tenants) -> APIRouter:
    router = APIRouter(prefix="/v1/tenants", tags=["tenants"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_tenant")
    def create(body: NewTenant, caller: Operator, points: Points, audit: Audit) -> TenantBody:
        """Create a tenant. Operators only."""
        mark = points.once("mark", lambda: secrets.token_hex(16))
        shown = TenantBody.from_record(tenants.create(body.id, body.name, mark=mark))
        audit.changed("tenant", shown.id, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_tenants")
    def list_all(caller: Operator, limit: Limit = 100, cursor: Cursor = None) -> Page[TenantBody]:
        """List all tenants. Operators only."""
        page = tenants.list(cursor=cursor, limit=limit)
        return Page(items=[TenantBody.from_record(tenant) for tenant in page.items], cursor=page.cursor)

    @router.get("/me", operation_id="get_my_tenant")
    def mine(caller: Viewer) -> OwnTenant:
        """Retrieve the caller's own tenant, and the caller's identity."""
        return OwnTenant(tenant=TenantBody.from_record(tenants.read(caller.tenant)), you=CallerBody.from_record(caller))

    @router.get("/{id}", operation_id="get_tenant")
    def get(id: TenantId, caller: Operator) -> TenantBody:  # noqa: A002
        """Retrieve a tenant. Operators only."""
        return TenantBody.from_record(tenants.read(id))

    @router.post("/{id}/disable", operation_id="disable_tenant")
    def disable(id: TenantId, caller: Operator, audit: Audit) -> TenantBody:  # noqa: A002
        """Disable a tenant: within seconds, requests of its users and keys are refused; no data is deleted. Operators only."""
        return switched(id, audit, tenants.disable)

    @router.post("/{id}/enable", operation_id="enable_tenant")
    def enable(id: TenantId, caller: Operator, audit: Audit) -> TenantBody:  # noqa: A002
        """Enable a tenant again. Operators only."""
        return switched(id, audit, tenants.enable)

    def switched(id: str, audit: AuditChange, switch: Callable[[str], Tenant]) -> TenantBody:  # noqa: A002
        before, shown = TenantBody.from_record(tenants.read(id)), TenantBody.from_record(switch(id))
        audit.changed("tenant", id, before=before.model_dump(), after=shown.model_dump())
        return shown

    return router


When = Annotated[
    str,
    Query(
        pattern=TIME_PREFIX,
        description="Only entries of this year, month, day, hour or minute (UTC).",
        examples=["2026-12-01", "2026-12-01T09"],
    ),
]


def audit_log_routes(log: AuditLog) -> APIRouter:
    router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Route)

    @router.get("", operation_id="list_audit")
    def entries(caller: Admin, limit: Limit = 100, cursor: Cursor = None, when: When | None = None) -> Page[AuditEntry]:
        """List audit log entries, newest first."""
        page = log.list(caller.tenant, prefix=when or "", cursor=cursor, limit=limit)
        return Page(items=[_entry_body(entry) for entry in page.items], cursor=page.cursor)

    @router.get("/verification", operation_id="verify_audit")
    def verification(caller: Admin) -> AuditVerificationBody:
        """Verify the audit log: check its seals for entries that were changed, added or removed."""
        found = log.verify(caller.tenant)
        return AuditVerificationBody(
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
