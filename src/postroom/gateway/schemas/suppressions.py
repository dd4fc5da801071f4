"""What is said of the suppression list over HTTP."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from postroom.ledger.suppression import SuppressionEntry, SuppressionReason
from postroom.model.tokens import MAX_TOPIC_BYTES
from postroom.services.status import rfc3339
from postroom.services.suppression import MAX_NOTE, Imported

MAX_REJECTED = 1_000

Address = Annotated[
    str, Query(min_length=1, max_length=500, description="In any spelling.", examples=["Anna.Example@mail.example"])
]

Topic = Annotated[
    str | None, Query(min_length=1, max_length=MAX_TOPIC_BYTES, description="Only of this topic.", examples=["offers"])
]


class NewSuppression(BaseModel):
    """Somebody who must not be written to."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"address": "anna@mail.example", "reason": "unsubscribe", "note": "asked by phone"}]},
    )

    address: str = Field(min_length=1, max_length=500, description="In any spelling.")
    reason: SuppressionReason = Field(
        SuppressionReason.MANUAL, description="Why; a person's own will (`unsubscribe`, `complaint`) replaces other reasons."
    )
    note: str = Field("", max_length=MAX_NOTE, description="Free text, kept with it.")
    topic: str | None = Field(
        None, min_length=1, max_length=MAX_TOPIC_BYTES, description="Only mail of this topic; without it: all mail."
    )


class SuppressionBody(BaseModel):
    """One entry."""

    address: str = Field(
        description="The mailbox; empty where nobody knows it: see the reference of tracking.", examples=["anna@mail.example"]
    )
    reason: SuppressionReason = Field(description="Why.")
    note: str = Field(description="Free text, or the server's reply.")
    added_at: str = Field(description="RFC 3339, UTC.", examples=["2026-11-24T04:56:00.018Z"])
    topic: str | None = Field(description="Only mail of this topic; null: all mail.")
    expires_at: str | None = Field(
        description="When it ends by itself, RFC 3339, UTC; null: never.", examples=["2026-12-08T04:56:00.018Z"]
    )
    source: str = Field(
        description="The message that it came from and the event of its timeline, with a slash between; empty: somebody "
        "entered it.",
        examples=["a7myn322bdj6kkrr0123456789/dsn-5f0c1d2e"],
    )

    @classmethod
    def of(cls, entry: SuppressionEntry) -> Self:
        """As it stands."""
        return cls(
            address=entry.address,
            reason=entry.reason,
            note=entry.note,
            added_at=rfc3339(entry.added_at) or "",
            topic=entry.topic,
            expires_at=rfc3339(entry.expires_at),
            source=entry.source,
        )


class RejectedRow(BaseModel):
    """A row that was not entered."""

    line: int = Field(description="Of the file, from 1.")
    address: str = Field(description="As it stands there.")
    reason: str = Field(description="A sentence.")


class ImportedBody(BaseModel):
    """What an import did."""

    rows: int = Field(description="`added` + `already` + `rejected`.")
    added: int = Field(description="New on the list, or for a stronger reason.")
    already: int = Field(description="On the list before.")
    rejected: int = Field(description="Not entered.")
    problems: list[RejectedRow] = Field(description="The first thousand of the rejected.")

    @classmethod
    def of(cls, done: Imported) -> Self:
        """As it was done."""
        problems = [RejectedRow(line=row.line, address=row.text[:500], reason=row.reason) for row in done.rejected]
        return cls(rows=done.rows, added=done.added, already=done.already, rejected=done.refused, problems=problems)
