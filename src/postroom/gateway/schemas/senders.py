"""Senders on the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from postroom.model.sender import SenderIdentity
from postroom.services.status import rfc3339

NAME = r"^[^\x00-\x20\x7f/?#]+$"
"""What may name a sender in a path."""


class NewSender(BaseModel):
    """Whom the tenant wants to send as."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "shop.example"}]})

    name: str = Field(pattern=NAME, max_length=320, description="An address, or a domain with all addresses in it and below it.")


class TxtRecord(BaseModel):
    """What the DNS has to hold."""

    name: str = Field(description="The record's name.", examples=["_postroom.shop.example"])
    value: str = Field(description="Its text.", examples=["postroom-verification=abcdefgh234567abcdefgh234567abcd"])


class SenderShown(BaseModel):
    """An address or domain that the tenant may, or will, send as."""

    name: str = Field(description="The address or domain.", examples=["shop.example"])
    verified: bool = Field(description="Whether it may be sent from.")
    verified_at: str | None = Field(description="Since when; RFC 3339.")
    vouched_by: str = Field(description="The operator who took it on trust; empty: the DNS says it.")
    record: TxtRecord = Field(description="The TXT record by which the DNS says it.")
    checked_at: str | None = Field(description="When the DNS was last asked.")
    finding: str = Field(description="What the DNS said, where it did not say yes.")
    created_at: str | None = Field(description="When it was entered.")

    @classmethod
    def of(cls, identity: SenderIdentity) -> SenderShown:
        """As it is now."""
        return cls(
            name=identity.name,
            verified=identity.verified_at is not None,
            verified_at=rfc3339(identity.verified_at),
            vouched_by=identity.vouched_by,
            record=TxtRecord(name=identity.record_name, value=identity.record_value),
            checked_at=rfc3339(identity.checked_at),
            finding=identity.finding,
            created_at=rfc3339(identity.created_at),
        )
