"""API keys on the wire. The text of one is in one answer only: that to its making."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from postroom.clock import Instant
from postroom.gateway.schemas.scalars import WHOLE
from postroom.gateway.schemas.tenants import LINE
from postroom.model.access import MAX_KEY_NAME, ApiKey, Role, Service
from postroom.services.keys import MAX_DAYS, MadeKey
from postroom.services.status import rfc3339

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


class KeyShown(BaseModel):
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
    def of(cls, key: ApiKey, last_used_at: Instant | None = None) -> KeyShown:
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


class KeyMade(KeyShown):
    """A key and its text."""

    key: str = Field(
        description="The text: keep it now, it is not shown again. `pr_[a-z2-7]{16}_[a-z2-7]{39}`.",
        examples=["pr_2abcdefghijklmno_abcdefghijklmnopqrstuvwxyz234567abcdefg"],
    )

    @classmethod
    def made(cls, made: MadeKey) -> KeyMade:
        """Right after it was made."""
        return cls.model_validate({**KeyShown.of(made.key).model_dump(), "key": made.text})
