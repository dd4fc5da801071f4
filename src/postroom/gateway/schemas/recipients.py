"""What is said of the suppression list over HTTP.

What is said of the erasure of a person over HTTP. No answer repeats an address.
"""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from postroom.clock import rfc3339
from postroom.gateway.schemas.scalars import Flag
from postroom.ledger.suppression import SuppressionEntry, SuppressionReason
from postroom.model.tokens import MAX_TOPIC_BYTES
from postroom.services.erasure import ErasureFindings
from postroom.services.erasure_requests import ID_PATTERN, Erasure, ErasureStatus
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


class ImportResult(BaseModel):
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


ErasureId = Annotated[str, Path(pattern=ID_PATTERN, description="The erasure's id.", examples=["a7myn32egfni72nw"])]


class NewErasure(BaseModel):
    """Whom to forget."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"address": "anna@mail.example"}]})

    address: str = Field(min_length=1, max_length=500, description="In any spelling. It is not kept.")
    forget_suppression: Flag = Field(
        False,
        description="Also take the person off the suppression list. Else their entry stays, without the address: they are still "
        "not written to.",
    )


class ErasureResult(BaseModel):
    """What the last try found. What an earlier one had deleted is not told again."""

    campaigns: list[str] = Field(description="Campaigns with a message to the person; it is erased.")
    singles: int = Field(description="Single messages erased.")
    uploads: list[str] = Field(description="Recipients files that were uploaded, deleted.")
    files: list[str] = Field(description="Campaigns whose own recipients file was deleted.")
    reports: list[str] = Field(description="Campaigns whose report of rejected rows lost the person's lines.")
    mails: int = Field(description="Mails deleted from the built-in inbox.")
    told: int = Field(description="Requests to callbacks, made or still to be made, that told of the person and do not any more.")
    suppressed: bool = Field(description="Whether the person is on the suppression list, without the address.")
    waiting: list[str] = Field(
        description="Campaigns, uploads, or days of single messages that are not erased yet: they are being imported or sent, or "
        "are drafts that never were imported."
    )

    @classmethod
    def of(cls, found: ErasureFindings) -> Self:
        """As it was found."""
        return cls(
            campaigns=found.campaigns,
            singles=found.singles,
            uploads=found.uploads,
            files=found.files,
            reports=found.reports,
            mails=found.mails,
            told=found.told,
            suppressed=found.suppressed,
            waiting=found.waiting,
        )


class ErasureBody(BaseModel):
    """An erasure."""

    id: str = Field(description="Its id.", examples=["a7myn32egfni72nw"])
    status: ErasureStatus = Field(
        description="`running`; `waiting`: tried again every half minute; `done`; `failed`: ask anew, with a new erasure."
    )
    person: str = Field(description="Who it is: a digest of the address under the tenant's secret.", examples=["9f" * 12])
    forget_suppression: bool = Field(description="As asked for.")
    asked_at: str = Field(description="RFC 3339, UTC.", examples=["2026-11-24T04:56:00.018Z"])
    ended_at: str | None = Field(description="When it was done; null before.", examples=["2026-11-24T04:56:01.018Z"])
    found: ErasureResult | None = Field(description="What the last try found; null before the first has ended.")

    @classmethod
    def of(cls, erasure: Erasure, status: ErasureStatus) -> Self:
        """As it stands."""
        return cls(
            id=erasure.id,
            status=status,
            person=erasure.key,
            forget_suppression=erasure.forget_suppression,
            asked_at=rfc3339(erasure.asked_at) or "",
            ended_at=rfc3339(erasure.ended_at),
            found=None if erasure.found is None else ErasureResult.of(erasure.found),
        )
