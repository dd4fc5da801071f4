"""Request and response bodies of `/v1/suppressions` and `/v1/erasures`.

Responses about an erasure never contain the person's address.
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
    str,
    Query(
        min_length=1,
        max_length=500,
        description="The email address. Case and display name are ignored.",
        examples=["Anna.Example@mail.example"],
    ),
]

Topic = Annotated[
    str | None, Query(min_length=1, max_length=MAX_TOPIC_BYTES, description="Only the entry of this topic.", examples=["offers"])
]


class NewSuppression(BaseModel):
    """An address to suppress."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"address": "anna@mail.example", "reason": "unsubscribe", "note": "asked by phone"}]},
    )

    address: str = Field(min_length=1, max_length=500, description="The email address. Case and display name are ignored.")
    reason: SuppressionReason = Field(
        SuppressionReason.MANUAL,
        description="Why the address is suppressed. `unsubscribe` and `complaint` replace other reasons.",
    )
    note: str = Field("", max_length=MAX_NOTE, description="Free text, stored with the entry.")
    topic: str | None = Field(
        None, min_length=1, max_length=MAX_TOPIC_BYTES, description="Suppress only mail of this topic. Default: all mail."
    )


class SuppressionBody(BaseModel):
    """An entry of the suppression list."""

    address: str = Field(description="The email address; empty: only its digest is known.", examples=["anna@mail.example"])
    reason: SuppressionReason = Field(description="Why the address is suppressed.")
    note: str = Field(description="Free text, or the server's reply.")
    added_at: str = Field(description="RFC 3339, UTC.", examples=["2026-11-24T04:56:00.018Z"])
    topic: str | None = Field(description="Only mail of this topic; null: all mail.")
    expires_at: str | None = Field(
        description="When the entry expires (RFC 3339, UTC); null: never.", examples=["2026-12-08T04:56:00.018Z"]
    )
    source: str = Field(
        description="The message and the event that caused it, separated by a slash; empty: it was added by hand.",
        examples=["a7myn322bdj6kkrr0123456789/dsn-5f0c1d2e"],
    )

    @classmethod
    def from_record(cls, entry: SuppressionEntry) -> Self:
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
    """A row that was rejected."""

    line: int = Field(description="The line of the file, from 1.")
    address: str = Field(description="The address as written in the file.")
    reason: str = Field(description="Why it was rejected.")


class ImportResult(BaseModel):
    """The result of an import."""

    rows: int = Field(description="`added` + `already` + `rejected`.")
    added: int = Field(description="Rows that were added, or that replaced a weaker reason.")
    already: int = Field(description="Rows that were already on the list.")
    rejected: int = Field(description="Rows that were rejected.")
    problems: list[RejectedRow] = Field(description="The first 1,000 rejected rows.")

    @classmethod
    def from_record(cls, done: Imported) -> Self:
        problems = [RejectedRow(line=row.line, address=row.text[:500], reason=row.reason) for row in done.rejected]
        return cls(rows=done.rows, added=done.added, already=done.already, rejected=done.refused, problems=problems)


ErasureId = Annotated[str, Path(pattern=ID_PATTERN, description="The erasure's id.", examples=["a7myn32egfni72nw"])]


class NewErasure(BaseModel):
    """A person to erase."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"address": "anna@mail.example"}]})

    address: str = Field(
        min_length=1, max_length=500, description="The person's address; case and display name are ignored. It is not stored."
    )
    forget_suppression: Flag = Field(
        False,
        description="Also remove the person from the suppression list. Default: their entry stays, without the "
        "address, so that they still get no mail.",
    )


class ErasureResult(BaseModel):
    """What the last run found and erased. What earlier runs erased is not repeated."""

    campaigns: list[str] = Field(description="Campaigns with a message to the person, now erased.")
    singles: int = Field(description="The number of transactional messages erased.")
    uploads: list[str] = Field(description="Uploaded recipients files that were deleted.")
    files: list[str] = Field(description="Campaigns whose copy of the recipients file was deleted.")
    reports: list[str] = Field(description="Campaigns from whose report of rejected rows the person's lines were removed.")
    mails: int = Field(description="The number of mails deleted from the built-in inbox.")
    told: int = Field(description="The number of callback deliveries from which the person's data was removed.")
    suppressed: bool = Field(description="Whether the person is on the suppression list, without the address.")
    waiting: list[str] = Field(
        description="Campaigns, uploads, or days of transactional messages that are not erased yet, because they are "
        "being imported or sent, or are drafts that were never imported."
    )

    @classmethod
    def from_record(cls, found: ErasureFindings) -> Self:
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
        description="`running`; `waiting`: retried every 30 seconds; `done`; `failed`: create a new erasure."
    )
    person: str = Field(description="A digest of the address, keyed with the tenant's secret.", examples=["9f" * 12])
    forget_suppression: bool = Field(description="As in the request.")
    asked_at: str = Field(description="RFC 3339, UTC.", examples=["2026-11-24T04:56:00.018Z"])
    ended_at: str | None = Field(description="When it ended; null: not yet.", examples=["2026-11-24T04:56:01.018Z"])
    found: ErasureResult | None = Field(description="The result of the last run; null: none has ended yet.")

    @classmethod
    def from_record(cls, erasure: Erasure, status: ErasureStatus) -> Self:
        return cls(
            id=erasure.id,
            status=status,
            person=erasure.key,
            forget_suppression=erasure.forget_suppression,
            asked_at=rfc3339(erasure.asked_at) or "",
            ended_at=rfc3339(erasure.ended_at),
            found=None if erasure.found is None else ErasureResult.from_record(erasure.found),
        )
