"""Request and response bodies of `/v1/keys`, `/v1/users`, `/v1/tenants` and `/v1/audit`.

Only the response to its creation contains an API key itself.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from postroom.clock import Instant, rfc3339
from postroom.gateway.schemas.scalars import WHOLE, Flag
from postroom.model.access import (
    BUILT_IN,
    MAX_ISSUER,
    MAX_KEY_NAME,
    MAX_NAME,
    MAX_SUBJECT,
    ApiKey,
    Membership,
    Principal,
    PrincipalKind,
    Role,
    Service,
)
from postroom.model.tenant import MAX_TENANT_NAME, TENANT_ID, Tenant
from postroom.services.keys import MAX_DAYS, MadeKey

LINE = r"^[^\x00-\x1f\x7f]*$"
"""One line of text."""


class NewTenant(BaseModel):
    """A tenant to create."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": "newsroom", "name": "The newsroom"}]})

    id: str = Field(pattern=TENANT_ID, description="Lower-case letters, digits and `-`; not `me`. Cannot be changed later.")
    name: str = Field(default="", max_length=MAX_TENANT_NAME, pattern=LINE, description="A display name or description.")


class TenantBody(BaseModel):
    """A tenant."""

    id: str = Field(description="Its id.", examples=["newsroom"])
    name: str = Field(description="For people; may be empty.", examples=["The newsroom"])
    disabled: bool = Field(description="Whether requests of its users and keys are refused.")
    created_at: str | None = Field(description="When it was created; null: not recorded.", examples=["2026-09-21T14:13:20.000Z"])

    @classmethod
    def from_record(cls, tenant: Tenant) -> TenantBody:
        return cls(id=tenant.id, name=tenant.name, disabled=tenant.disabled, created_at=rfc3339(tenant.created_at))


class CallerBody(BaseModel):
    """The caller's identity."""

    kind: PrincipalKind = Field(description="A user, an API key, or an OAuth client.")
    id: str = Field(description="The subject at the issuer, or the key's id.", examples=["2abcdefghijklmno"])
    name: str = Field(description="A display name or description.", examples=["ann@example.com"])
    role: Role = Field(description="The caller's role in the tenant.")
    operator: bool = Field(description="Whether the caller may manage the installation.")
    scopes: list[Service] | None = Field(description="The services an API key may call; null: all that the role allows.")

    @classmethod
    def from_record(cls, who: Principal) -> CallerBody:
        scopes = None if who.scopes is None else [Service(scope) for scope in sorted(who.scopes)]
        return cls(kind=who.kind, id=who.id, name=who.name, role=who.role, operator=who.operator, scopes=scopes)


class OwnTenant(BaseModel):
    """The caller's own tenant, and the caller."""

    tenant: TenantBody = Field(description="The caller's tenant.")
    you: CallerBody = Field(description="The caller's identity.")


Days = Annotated[int, Field(ge=1, le=MAX_DAYS), WHOLE]


class NewKey(BaseModel):
    """An API key to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "shop", "role": "sender", "scopes": ["messages"], "expires_in_days": 90}]},
    )

    name: str = Field(
        min_length=1,
        max_length=MAX_KEY_NAME,
        pattern=LINE,
        description="The key's display name, such as the program that uses it.",
    )
    role: Role = Field(description="The key's role; not higher than the caller's.")
    scopes: list[Service] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Service),
        description="The services the key may call; null: all that the role allows. A key with scopes grants no others.",
    )
    expires_in_days: Days | None = Field(
        default=None,
        description="Days until the key expires; null: never. A key that expires cannot create one that expires later.",
    )


class KeyBody(BaseModel):
    """An API key, without the key itself."""

    id: str = Field(description="The key's id; also a part of the key itself.", examples=["2abcdefghijklmno"])
    name: str = Field(description="The key's display name.", examples=["shop"])
    role: Role = Field(description="The key's role.")
    scopes: list[Service] | None = Field(description="The services the key may call; null: all that the role allows.")
    created_at: str | None = Field(description="When it was created (RFC 3339, UTC).", examples=["2026-09-21T14:13:20.000Z"])
    created_by: str = Field(description="Who did it.", examples=["ann@example.com"])
    expires_at: str | None = Field(description="When the key expires; null: never.", examples=["2026-12-20T14:13:20.000Z"])
    last_used_at: str | None = Field(
        description="When it was last used, to the minute; null: never, or over a year ago.",
        examples=["2026-09-22T08:00:00.000Z"],
    )

    @classmethod
    def from_record(cls, key: ApiKey, last_used_at: Instant | None = None) -> KeyBody:
        return cls(
            id=key.id,
            name=key.name,
            role=key.role,
            scopes=None if key.scopes is None else [Service(scope) for scope in sorted(key.scopes)],
            created_at=rfc3339(key.created_at),
            created_by=key.created_by,
            expires_at=rfc3339(key.expires_at),
            last_used_at=rfc3339(last_used_at),
        )


class CreatedKey(KeyBody):
    """A new API key, with the key itself."""

    key: str = Field(
        description="The key itself. Store it now: it is not shown again. `pr_[a-z2-7]{16}_[a-z2-7]{39}`.",
        examples=["pr_2abcdefghijklmno_abcdefghijklmnopqrstuvwxyz234567abcdefg"],
    )

    @classmethod
    def made(cls, made: MadeKey) -> CreatedKey:
        return cls.model_validate({**KeyBody.from_record(made.key).model_dump(), "key": made.text})


USER_ID = r"^[a-z2-7]{26}$"
_SUBJECT = r"^[ -~]+$"
_ISSUER = rf"^({BUILT_IN}|https?://[A-Za-z0-9][A-Za-z0-9._~:/-]*)$"


class NewUser(BaseModel):
    """A user to add."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"subject": "4f6c1c1e-9d7b-4f0e-8a55", "role": "editor", "name": "ann@example.com"}]},
    )

    subject: str = Field(
        min_length=1,
        max_length=MAX_SUBJECT,
        pattern=_SUBJECT,
        description="The user's subject (`sub`) in the issuer's tokens; for a program with its own tokens, the client id.",
    )
    role: Role = Field(description="The user's role in the tenant; not higher than the caller's.")
    name: str = Field(min_length=1, max_length=MAX_NAME, pattern=LINE, description="The display name, usually an email address.")
    issuer: str | None = Field(
        default=None,
        max_length=MAX_ISSUER,
        pattern=_ISSUER,
        description="The issuer (`iss`) of the user's tokens, exactly, or `built-in`. Default: the installation's issuer.",
    )
    operator: Flag = Field(
        default=False, description="Whether the user may manage the installation. Only operators can grant it."
    )


class UserEdit(BaseModel):
    """The members to change. Members that are not given stay unchanged."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "sender"}]})

    role: Role | None = Field(default=None, description="The new role, not higher than the caller's; null: unchanged.")
    name: str | None = Field(
        default=None, min_length=1, max_length=MAX_NAME, pattern=LINE, description="The new name; null: unchanged."
    )
    operator: Flag | None = Field(default=None, description="Operators only; null: unchanged.")


class UserBody(BaseModel):
    """A user of the tenant."""

    id: str = Field(description="The user's id, derived from issuer and subject.", examples=["2abcdefghijklmnopqrstuvwxy"])
    issuer: str = Field(description="The issuer: `built-in`, or an issuer's identifier.", examples=["built-in"])
    subject: str = Field(description="The subject at the issuer.", examples=["4f6c1c1e-9d7b-4f0e-8a55"])
    role: Role = Field(description="The user's role in the tenant.")
    name: str = Field(description="A display name or description.", examples=["ann@example.com"])
    operator: bool = Field(description="Whether the user may manage the installation.")
    added_at: str | None = Field(description="When the user was added.", examples=["2026-09-21T14:13:20.000Z"])

    @classmethod
    def from_record(cls, member: Membership) -> UserBody:
        return cls(
            id=member.id,
            issuer=member.issuer,
            subject=member.subject,
            role=member.role,
            name=member.name,
            operator=member.operator,
            added_at=rfc3339(member.added_at),
        )


class AuditEntry(BaseModel):
    """An entry of the audit log."""

    id: str = Field(description="The entry's id. Ids sort by time.")
    at: str = Field(description="RFC 3339, UTC.")
    actor: str = Field(
        description="`user:`, `key:`, `client:` or `operator:` and an id, or `guard:guard`; empty: unauthenticated."
    )
    name: str = Field(description="The actor's display name.")
    address: str = Field(description="The client's network address; empty: the machine itself.")
    action: str = Field(description="The method and the path's template, a command, or `denied`.")
    request_id: str = Field(description="`X-Request-Id` of the call.")
    status: int | None = Field(description="The HTTP status of the response; null: the outcome was not recorded.")
    target: str = Field(description="The record that was changed.")
    before: str = Field(description="SHA-256 of the record before the change; empty: it did not exist.")
    after: str = Field(description="SHA-256 of the record after the change; empty: it was deleted.")
    count: int = Field(description="Above 1: at least this many denials of the same kind within a minute.")
    reason: str = Field(description="Why a request was denied, or what the reputation guard found.")


class AuditVerificationBody(BaseModel):
    """The result of verifying the audit log."""

    seals: int = Field(description="The number of sealed minutes.")
    entries: int = Field(description="The number of sealed entries.")
    unsealed: int = Field(description="Entries of the last minutes that are not sealed yet.")
    head: str = Field(
        description="The hash of the last seal. Stored elsewhere, it proves later that no earlier entry was removed."
    )
    problems: list[str] = Field(description="What does not match, in words; empty: the log is intact.")
