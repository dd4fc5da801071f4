"""What is said of the erasure of a person over HTTP. No answer repeats an address."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from postroom.gateway.schemas.scalars import Flag
from postroom.services.erasure import Erased
from postroom.services.erasure_requests import ID_PATTERN, Erasure, ErasureStatus
from postroom.services.status import rfc3339

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


class FoundBody(BaseModel):
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
    def of(cls, found: Erased) -> Self:
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
    found: FoundBody | None = Field(description="What the last try found; null before the first has ended.")

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
            found=None if erasure.found is None else FoundBody.of(erasure.found),
        )
