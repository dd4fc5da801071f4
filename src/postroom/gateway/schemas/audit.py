"""The audit trail as the API shows it."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
