"""DKIM keys on the wire: their public parts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from postroom.gateway.schemas.senders import TxtRecord
from postroom.model.dkim import Algorithm, DkimKey, DomainKeys, KeyStatus, record_name
from postroom.services.status import rfc3339


class NewDkimKeys(BaseModel):
    """What to make."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ed25519": True}]})

    ed25519: bool | None = Field(
        default=None,
        description="An Ed25519 key beside the RSA key. Not given: as the domain's keys have it; of the first, none.",
    )


class DkimKeyShown(BaseModel):
    """A key that mail is, or will be, signed with."""

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
    checked_at: str | None = Field(description="When the DNS was last asked.")
    finding: str = Field(description="What the DNS said, where it did not say yes.")

    @classmethod
    def of(cls, key: DkimKey, domain: str) -> DkimKeyShown:
        """As it is now."""
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


class DkimKeysShown(BaseModel):
    """All keys of a domain."""

    domain: str = Field(description="The domain that they sign for, and every one below it that has none of its own.")
    keys: list[DkimKeyShown] = Field(description="The oldest first; ten at most.")

    @classmethod
    def of(cls, found: DomainKeys) -> DkimKeysShown:
        """As they are now."""
        return cls(domain=found.domain, keys=[DkimKeyShown.of(key, found.domain) for key in found.keys])
