"""Tenants on the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from postroom.model.access import Principal, PrincipalKind, Role, Service
from postroom.model.tenant import MAX_TENANT_NAME, TENANT_ID, Tenant
from postroom.services.status import rfc3339

LINE = r"^[^\x00-\x1f\x7f]*$"
"""One line of text."""


class NewTenant(BaseModel):
    """Who is to own records of its own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": "newsroom", "name": "The newsroom"}]})

    id: str = Field(pattern=TENANT_ID, description="Lower-case letters, digits and `-`; not `me`. It stays for ever.")
    name: str = Field(default="", max_length=MAX_TENANT_NAME, pattern=LINE, description="For people.")


class TenantShown(BaseModel):
    """A tenant."""

    id: str = Field(description="Its id.", examples=["newsroom"])
    name: str = Field(description="For people; may be empty.", examples=["The newsroom"])
    disabled: bool = Field(description="Whether its people and programs are refused at the door.")
    created_at: str | None = Field(
        description="When it was made; null: before this was kept.", examples=["2026-09-21T14:13:20.000Z"]
    )

    @classmethod
    def of(cls, tenant: Tenant) -> TenantShown:
        """As it is now."""
        return cls(id=tenant.id, name=tenant.name, disabled=tenant.disabled, created_at=rfc3339(tenant.created_at))


class You(BaseModel):
    """Who the door takes the caller for."""

    kind: PrincipalKind = Field(description="A person, an API key, or a program with a token of its own.")
    id: str = Field(description="The subject at the issuer, or the key's id.", examples=["2abcdefghijklmno"])
    name: str = Field(description="For people.", examples=["ann@example.com"])
    role: Role = Field(description="What the caller may do in the tenant.")
    operator: bool = Field(description="Whether the caller may manage the installation too.")
    scopes: list[Service] | None = Field(description="The only services that a key may call; null: all that the role may.")

    @classmethod
    def of(cls, who: Principal) -> You:
        """The caller."""
        scopes = None if who.scopes is None else [Service(scope) for scope in sorted(who.scopes)]
        return cls(kind=who.kind, id=who.id, name=who.name, role=who.role, operator=who.operator, scopes=scopes)


class MyTenant(BaseModel):
    """The caller's own tenant, and the caller."""

    tenant: TenantShown = Field(description="Whose records the caller sees.")
    you: You = Field(description="Who the door takes the caller for.")
