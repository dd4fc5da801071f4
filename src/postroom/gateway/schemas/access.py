"""Tenants on the wire.

API keys on the wire. The text of one is in one answer only: that to its making.

Members of a tenant on the wire.

The audit trail as the API shows it.
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
    """Who is to own records of its own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": "newsroom", "name": "The newsroom"}]})

    id: str = Field(pattern=TENANT_ID, description="Lower-case letters, digits and `-`; not `me`. It stays for ever.")
    name: str = Field(default="", max_length=MAX_TENANT_NAME, pattern=LINE, description="For people.")


class TenantBody(BaseModel):
    """A tenant."""

    id: str = Field(description="Its id.", examples=["newsroom"])
    name: str = Field(description="For people; may be empty.", examples=["The newsroom"])
    disabled: bool = Field(description="Whether its people and programs are refused at the door.")
    created_at: str | None = Field(
        description="When it was made; null: before this was kept.", examples=["2026-09-21T14:13:20.000Z"]
    )

    @classmethod
    def of(cls, tenant: Tenant) -> TenantBody:
        """As it is now."""
        return cls(id=tenant.id, name=tenant.name, disabled=tenant.disabled, created_at=rfc3339(tenant.created_at))


class CallerBody(BaseModel):
    """Who the door takes the caller for."""

    kind: PrincipalKind = Field(description="A person, an API key, or a program with a token of its own.")
    id: str = Field(description="The subject at the issuer, or the key's id.", examples=["2abcdefghijklmno"])
    name: str = Field(description="For people.", examples=["ann@example.com"])
    role: Role = Field(description="What the caller may do in the tenant.")
    operator: bool = Field(description="Whether the caller may manage the installation too.")
    scopes: list[Service] | None = Field(description="The only services that a key may call; null: all that the role may.")

    @classmethod
    def of(cls, who: Principal) -> CallerBody:
        """The caller."""
        scopes = None if who.scopes is None else [Service(scope) for scope in sorted(who.scopes)]
        return cls(kind=who.kind, id=who.id, name=who.name, role=who.role, operator=who.operator, scopes=scopes)


class OwnTenant(BaseModel):
    """The caller's own tenant, and the caller."""

    tenant: TenantBody = Field(description="Whose records the caller sees.")
    you: CallerBody = Field(description="Who the door takes the caller for.")


Days = Annotated[int, Field(ge=1, le=MAX_DAYS), WHOLE]


class NewKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "shop", "role": "sender", "scopes": ["messages"], "expires_in_days": 90}]},
    )

    name: str = Field(min_length=1, max_length=MAX_KEY_NAME, pattern=LINE, description="For people: which program has it.")
    role: Role = Field(description="What it may do; not above the caller's own.")
    scopes: list[Service] | None = Field(
        default=None,
        min_length=1,
        max_length=len(Service),
        description="The only services it may call; null: all that the role may. A key with scopes makes keys for those only.",
    )
    expires_in_days: Days | None = Field(
        default=None,
        description="After so many days it is refused; null: not before it is revoked. A key that expires makes none that lasts "
        "longer.",
    )


class KeyBody(BaseModel):
    """What is known of a key: not its text, which nobody can show again."""

    id: str = Field(description="Stands in its text too.", examples=["2abcdefghijklmno"])
    name: str = Field(description="Which program has it.", examples=["shop"])
    role: Role = Field(description="What it may do.")
    scopes: list[Service] | None = Field(description="The only services it may call; null: all that the role may.")
    created_at: str | None = Field(description="When it was made.", examples=["2026-09-21T14:13:20.000Z"])
    created_by: str = Field(description="By whom.", examples=["ann@example.com"])
    expires_at: str | None = Field(description="From when on it is refused; null: never.", examples=["2026-12-20T14:13:20.000Z"])
    last_used_at: str | None = Field(
        description="To the minute; null: not yet, or over a year ago.", examples=["2026-09-22T08:00:00.000Z"]
    )

    @classmethod
    def of(cls, key: ApiKey, last_used_at: Instant | None = None) -> KeyBody:
        """As the record has it."""
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
    """A key and its text."""

    key: str = Field(
        description="The text: keep it now, it is not shown again. `pr_[a-z2-7]{16}_[a-z2-7]{39}`.",
        examples=["pr_2abcdefghijklmno_abcdefghijklmnopqrstuvwxyz234567abcdefg"],
    )

    @classmethod
    def made(cls, made: MadeKey) -> CreatedKey:
        """Right after it was made."""
        return cls.model_validate({**KeyBody.of(made.key).model_dump(), "key": made.text})


USER_ID = r"^[a-z2-7]{26}$"


_SUBJECT = r"^[ -~]+$"


_ISSUER = rf"^({BUILT_IN}|https?://[A-Za-z0-9][A-Za-z0-9._~:/-]*)$"


class NewUser(BaseModel):
    """Somebody to let in."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"subject": "4f6c1c1e-9d7b-4f0e-8a55", "role": "editor", "name": "ann@example.com"}]},
    )

    subject: str = Field(
        min_length=1,
        max_length=MAX_SUBJECT,
        pattern=_SUBJECT,
        description="Who, as the issuer's tokens have it (`sub`); for a program with a token of its own its client id.",
    )
    role: Role = Field(description="What they may do in the tenant; not above the caller's own.")
    name: str = Field(min_length=1, max_length=MAX_NAME, pattern=LINE, description="For people: usually an e-mail address.")
    issuer: str | None = Field(
        default=None,
        max_length=MAX_ISSUER,
        pattern=_ISSUER,
        description="Who vouches for them: an issuer's identifier, exactly as its tokens have it (`iss`), or `built-in`; null: "
        "the installation's.",
    )
    operator: Flag = Field(default=False, description="Whether they may manage the installation too; only operators grant it.")


class UserEdit(BaseModel):
    """What is to change; what is not named stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "sender"}]})

    role: Role | None = Field(default=None, description="Not above the caller's own; null: as it is.")
    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME, pattern=LINE, description="Null: as it is.")
    operator: Flag | None = Field(default=None, description="Only for operators; null: as it is.")


class UserBody(BaseModel):
    """Somebody who belongs to the tenant."""

    id: str = Field(description="Stands for issuer and subject.", examples=["2abcdefghijklmnopqrstuvwxy"])
    issuer: str = Field(description="Who vouches for them: `built-in`, or an issuer's identifier.", examples=["built-in"])
    subject: str = Field(description="Who they are at the issuer.", examples=["4f6c1c1e-9d7b-4f0e-8a55"])
    role: Role = Field(description="What they may do in the tenant.")
    name: str = Field(description="For people.", examples=["ann@example.com"])
    operator: bool = Field(description="Whether they may manage the installation too.")
    added_at: str | None = Field(description="When they were let in.", examples=["2026-09-21T14:13:20.000Z"])

    @classmethod
    def of(cls, member: Membership) -> UserBody:
        """As the record has it."""
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
    """Something that was changed, or tried."""

    id: str = Field(description="Ids sort by time.")
    at: str = Field(description="RFC 3339, UTC.")
    actor: str = Field(description="`user:`, `key:`, `client:` or `operator:` and an id, or `guard:guard`; empty: nobody known.")
    name: str = Field(description="The actor, for people.")
    address: str = Field(description="The network address it came from; empty: the machine itself.")
    action: str = Field(description="The method and the path's template, a command, or `denied`.")
    request_id: str = Field(description="`X-Request-Id` of the call.")
    status: int | None = Field(description="How it ended; null: it was begun, and nobody saw its end.")
    target: str = Field(description="The record that was changed.")
    before: str = Field(description="SHA-256 of what the record was; empty: there was none.")
    after: str = Field(description="SHA-256 of what the record is now; empty: it is gone.")
    count: int = Field(description="More than 1: denials of the same kind within a minute, at least so many.")
    reason: str = Field(description="Of a denial, and what the guard found.")


class AuditVerification(BaseModel):
    """What checking the trail's seals found."""

    seals: int = Field(description="Minutes that are sealed.")
    entries: int = Field(description="Entries under them.")
    unsealed: int = Field(description="Entries of the last minutes, not sealed yet.")
    head: str = Field(description="The last seal's hash. Kept elsewhere, it proves later that nothing before it was cut off.")
    problems: list[str] = Field(description="What does not fit, in words; empty: the trail is as it was written.")
