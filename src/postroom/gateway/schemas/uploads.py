"""Request and response bodies of `/v1/uploads`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from postroom.clock import rfc3339
from postroom.gateway.schemas.scalars import WHOLE
from postroom.model.upload import CONTENT_TYPE_PATTERN, ID_PATTERN, MAX_BYTES, Inspection, Upload, UploadKind, UploadStatus
from postroom.services.uploads import Announced, Announcement

UploadId = Annotated[str, Path(pattern=ID_PATTERN, max_length=16, description="The upload's id.", examples=["4qhk2m7cxw3a5yzn"])]
_SIZE = "Its exact size in bytes."


class _NewFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: str = Field(
        min_length=1,
        max_length=1_000,
        pattern=r"^[^\x00]+$",
        description="The file name. A path and invisible characters are removed; up to 255 bytes are kept.",
    )
    content_type: str = Field(
        max_length=250,
        pattern=CONTENT_TYPE_PATTERN,
        description="The media type. The bytes must be sent with exactly this `Content-Type`.",
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        max_length=64,
        description="The SHA-256 of the bytes in hex. If given, other bytes are refused.",
    )


class NewRecipients(_NewFile):
    """A list of recipients, as CSV."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"kind": "recipients", "filename": "customers.csv", "content_type": "text/csv", "size": 129071}]
        },
    )

    kind: Literal[UploadKind.RECIPIENTS] = Field(description="What it is for.")
    size: Annotated[int, Field(ge=1, le=MAX_BYTES[UploadKind.RECIPIENTS]), WHOLE] = Field(description=_SIZE)


class NewAsset(_NewFile):
    """An attachment or an inline image."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"kind": "asset", "filename": "terms.pdf", "content_type": "application/pdf", "size": 48213}]
        },
    )

    kind: Literal[UploadKind.ASSET] = Field(description="What it is for.")
    size: Annotated[int, Field(ge=1, le=MAX_BYTES[UploadKind.ASSET]), WHOLE] = Field(description=_SIZE)


NewUpload = Annotated[NewRecipients | NewAsset, Field(discriminator="kind")]
"""A file to upload."""


def announcement(new: NewRecipients | NewAsset) -> Announcement:
    return Announcement(new.kind, new.filename, new.content_type, new.size, new.sha256)


class SignedUpload(BaseModel):
    """A signed request that uploads the file: method, URL and headers, until it expires."""

    id: str = Field(description="The upload's id.", examples=["4qhk2m7cxw3a5yzn"])
    method: str = Field(description="The HTTP method.", examples=["PUT"])
    url: str = Field(description="Where to send the bytes. It needs no token: keep it secret.")
    headers: dict[str, str] = Field(
        description="The headers to send, unchanged. Browsers send `Content-Length` themselves.",
        examples=[{"Content-Type": "text/csv", "Content-Length": "129071"}],
    )
    expires_at: str = Field(
        description="When the URL expires. The upload must have started by then.", examples=["2026-09-21T15:13:20.000Z"]
    )

    @classmethod
    def from_record(cls, announced: Announced) -> Self:
        upload, signed = announced
        return cls(
            id=upload.id,
            method=signed.method,
            url=signed.url,
            headers=dict(signed.headers),
            expires_at=rfc3339(signed.expires_at) or "",
        )


class InspectionBody(BaseModel):
    """The layout of a recipients file, detected from its beginning by the same rules as the import."""

    encoding: str | None = Field(description="Such as `utf-8`, `utf-16-le`, `cp1252`; null: not detected, see `problems`.")
    delimiter: str | None = Field(description="The delimiter between cells.", examples=[";"])
    header: bool = Field(description="Whether the first row is a header; if not, the columns are `column1`, `column2` …")
    columns: list[str] = Field(description="The names of the columns; of very many, the first.")
    column_count: int = Field(description="How many columns there are.")
    address_column: str | None = Field(
        description="The column taken for the addresses unless a campaign's `columns` name another for `email`; null: they must."
    )
    rows: int | None = Field(description="Rows after the header, invalid ones included; null: unknown.")
    rows_exact: bool = Field(description="Whether `rows` was counted; if not, it is estimated.")
    problems: list[str] = Field(description="Why it cannot be imported as it is, and how to fix it. Empty: no problems.")
    sample: list[dict[str, str]] | None = Field(
        description="The first rows, by column, long cells cut. Rows are personal data: null for viewers, and in lists."
    )

    @classmethod
    def from_record(cls, inspection: Inspection, sample: Sequence[Mapping[str, str]] | None) -> Self:
        return cls(
            encoding=inspection.encoding,
            delimiter=inspection.delimiter,
            header=inspection.header,
            columns=list(inspection.columns),
            column_count=inspection.column_count,
            address_column=inspection.address_column,
            rows=inspection.rows,
            rows_exact=inspection.rows_exact,
            problems=list(inspection.problems),
            sample=None if sample is None else [dict(row) for row in sample],
        )


class UploadBody(BaseModel):
    """An upload."""

    id: str = Field(description="Its id.", examples=["4qhk2m7cxw3a5yzn"])
    kind: UploadKind = Field(description="What it is for.")
    status: UploadStatus = Field(
        description="`waiting`: its bytes have not arrived whole; `ready`: they are there and never change; "
        "`expired`: they are gone."
    )
    filename: str | None = Field(description="Its name; null once it has expired.", examples=["customers.csv"])
    content_type: str = Field(description="Its media type.", examples=["text/csv"])
    size: int = Field(description="Its size in bytes.", examples=[129071])
    sha256: str | None = Field(description="The SHA-256 in hex, if one was given.")
    author: str | None = Field(description="Who created it; null once it has expired.", examples=["ann@acme.example"])
    created_at: str = Field(description="When it was created.", examples=["2026-09-21T14:13:20.000Z"])
    arrived_at: str | None = Field(description="When its bytes were first found complete.")
    expires_at: str | None = Field(
        description="When it is deleted: a recipients file after the days that the installation keeps one, what never "
        "arrived after a day; null: never (an asset), or it is gone, or in a list and not retrieved since it arrived."
    )
    warnings: list[str] = Field(description="Warnings to consider before sending.")
    inspection: InspectionBody | None = Field(description="For a recipients file that is ready: its layout.")

    @classmethod
    def from_record(cls, upload: Upload, sample: Sequence[Mapping[str, str]] | None = None) -> Self:
        gone = upload.status is UploadStatus.EXPIRED
        unsettled = upload.status is UploadStatus.READY and upload.arrived_at is None
        return cls(
            id=upload.id,
            kind=upload.kind,
            status=upload.status,
            filename=upload.filename or None,
            content_type=upload.content_type,
            size=upload.size,
            sha256=upload.sha256,
            author=upload.author or None,
            created_at=rfc3339(upload.created_at) or "",
            arrived_at=rfc3339(upload.arrived_at),
            expires_at=None if gone or unsettled else rfc3339(upload.due),
            warnings=list(upload.warnings),
            inspection=None if upload.inspection is None else InspectionBody.from_record(upload.inspection, sample),
        )
