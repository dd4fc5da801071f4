"""Request and response bodies of `/v1/senders` and their DKIM keys (public parts only)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from postroom.clock import rfc3339
from postroom.model.dkim import Algorithm, DkimKey, DomainKeys, KeyStatus, record_name
from postroom.model.sender import SenderIdentity

SENDER_NAME = r"^[^\x00-\x20\x7f/?#]+$"
"""The characters of a sender's name in a path."""


class NewSender(BaseModel):
    """A sender to add."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "shop.example"}]})

    name: str = Field(
        pattern=SENDER_NAME, max_length=320, description="An address, or a domain with all addresses in it and below it."
    )


class TxtRecord(BaseModel):
    """A DNS TXT record."""

    name: str = Field(description="The record's name.", examples=["_postroom.shop.example"])
    value: str = Field(description="The record's value.", examples=["postroom-verification=abcdefgh234567abcdefgh234567abcd"])


class SenderBody(BaseModel):
    """A sender: an address or domain that the tenant may send from once it is verified."""

    name: str = Field(description="The address or domain.", examples=["shop.example"])
    verified: bool = Field(description="Whether the sender is verified.")
    verified_at: str | None = Field(description="When it was verified (RFC 3339, UTC).")
    trusted_by: str = Field(description="The operator who trusted it without DNS verification; empty: verified by DNS.")
    record: TxtRecord = Field(description="The TXT record that verifies it.")
    checked_at: str | None = Field(description="When the DNS was last checked.")
    finding: str = Field(description="Why the last check did not verify it; empty: it did.")
    created_at: str | None = Field(description="When it was added.")

    @classmethod
    def from_record(cls, identity: SenderIdentity) -> SenderBody:
        return cls(
            name=identity.name,
            verified=identity.verified_at is not None,
            verified_at=rfc3339(identity.verified_at),
            trusted_by=identity.trusted_by,
            record=TxtRecord(name=identity.record_name, value=identity.record_value),
            checked_at=rfc3339(identity.checked_at),
            finding=identity.finding,
            created_at=rfc3339(identity.created_at),
        )


class NewDkimKeys(BaseModel):
    """DKIM keys to create."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ed25519": True}]})

    ed25519: bool | None = Field(
        default=None,
        description="An Ed25519 key beside the RSA key. Not given: as the domain's keys have it; of the first, none.",
    )


class DkimKeyBody(BaseModel):
    """A DKIM key."""

    selector: str = Field(description="Names it in signatures and in the DNS.", examples=["pr20261124-k3vq"])
    algorithm: Algorithm = Field(description="`rsa` (2048 bits) or `ed25519`.")
    status: KeyStatus = Field(
        description="`waiting`: its record was not seen yet, it signs nothing; `active`: it signs; `retired`: another signs in "
        "its place, and its record is to stay while its mail is under way."
    )
    record: TxtRecord = Field(description="The TXT record to publish: one record, however many strings it is cut into.")
    created_at: str | None = Field(description="When it was made; RFC 3339.")
    active_at: str | None = Field(description="Since when it signs, or signed.")
    unchecked: bool = Field(description="It signs on an operator's word: the DNS has not confirmed it.")
    checked_at: str | None = Field(description="When the DNS was last checked.")
    finding: str = Field(description="Why the last check did not verify it; empty: it did.")

    @classmethod
    def from_record(cls, key: DkimKey, domain: str) -> DkimKeyBody:
        return cls(
            selector=key.selector,
            algorithm=key.algorithm,
            status=key.status,
            record=TxtRecord(name=record_name(key.selector, domain), value=key.record),
            created_at=rfc3339(key.created_at),
            active_at=rfc3339(key.active_at),
            unchecked=key.unchecked,
            checked_at=rfc3339(key.checked_at),
            finding=key.finding,
        )


class DkimKeysBody(BaseModel):
    """The DKIM keys of a domain."""

    domain: str = Field(description="The domain that they sign for, and every one below it that has none of its own.")
    keys: list[DkimKeyBody] = Field(description="The oldest first; ten at most.")

    @classmethod
    def from_record(cls, found: DomainKeys) -> DkimKeysBody:
        return cls(domain=found.domain, keys=[DkimKeyBody.from_record(key, found.domain) for key in found.keys])
