"""Members of a tenant on the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from postroom.gateway.schemas.scalars import Flag
from postroom.gateway.schemas.tenants import LINE
from postroom.model.access import BUILT_IN, MAX_ISSUER, MAX_NAME, MAX_SUBJECT, Membership, Role
from postroom.services.status import rfc3339

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


class UserChange(BaseModel):
    """What is to change; what is not named stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "sender"}]})

    role: Role | None = Field(default=None, description="Not above the caller's own; null: as it is.")
    name: str | None = Field(default=None, min_length=1, max_length=MAX_NAME, pattern=LINE, description="Null: as it is.")
    operator: Flag | None = Field(default=None, description="Only for operators; null: as it is.")


class UserShown(BaseModel):
    """Somebody who belongs to the tenant."""

    id: str = Field(description="Stands for issuer and subject.", examples=["2abcdefghijklmnopqrstuvwxy"])
    issuer: str = Field(description="Who vouches for them: `built-in`, or an issuer's identifier.", examples=["built-in"])
    subject: str = Field(description="Who they are at the issuer.", examples=["4f6c1c1e-9d7b-4f0e-8a55"])
    role: Role = Field(description="What they may do in the tenant.")
    name: str = Field(description="For people.", examples=["ann@example.com"])
    operator: bool = Field(description="Whether they may manage the installation too.")
    added_at: str | None = Field(description="When they were let in.", examples=["2026-09-21T14:13:20.000Z"])

    @classmethod
    def of(cls, member: Membership) -> UserShown:
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
