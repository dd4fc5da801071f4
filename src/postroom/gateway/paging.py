"""Lists: pages of JSON (`limit` and `cursor` in; `items` and `cursor` out, null at the end), and CSV downloads.

A cursor is opaque and belongs to one list. Any other text is answered with 422, or with a page that starts elsewhere. It names a
position, never an owner: with another tenant's cursor a tenant still sees only its own records.

CSV is streamed by this process or, if responses are small (AWS Lambda), answered with a redirect to a signed URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Annotated, Generic, TypeVar

from fastapi import Query, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

from postroom.services.exports import ExportFiles

Item = TypeVar("Item")
Limit = Annotated[
    int, Query(ge=1, le=1_000, description="The number of items a page may have. A page may have fewer before the end.")
]

Cursor = Annotated[
    str | None,
    Query(
        max_length=2_000,
        description="The `cursor` of the previous page.",
        json_schema_extra={"format": "cursor"},
    ),
]


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null: this is the last page.")


Download = Callable[[str, Iterator[bytes], str], Response]
"""Tenant, parts and file name. Errors of the first parts are raised."""
_BLOCK = 65_536
_TYPE = "text/csv"


class CsvAnswer(StreamingResponse):
    """CSV in UTF-8, as an attachment."""

    media_type = _TYPE


CSV: dict[int | str, dict[str, object]] = {
    200: {
        "description": "UTF-8 with a header (RFC 4180). Cells that a spreadsheet would take for a formula have a `'` in front.",
        "content": {_TYPE: {"schema": {"type": "string"}}},
    },
    307: {
        "description": "On AWS: the file is at `Location`, for ten minutes.",
        "headers": {"Location": {"description": "The signed URL of the download.", "schema": {"type": "string"}}},
    },
}


def streamed(tenant: str, parts: Iterator[bytes], filename: str) -> Response:
    """Stream the parts. The first ones are read before the response begins, so that errors can still be reported."""
    blocks = _in_blocks(parts)
    first = next(blocks, b"")
    disposition = f'attachment; filename="{filename}"'
    return CsvAnswer(chain([first], blocks), headers={"Content-Disposition": disposition})


def redirected(files: ExportFiles) -> Download:
    """Write to the object store first, then redirect there."""

    def answer(tenant: str, parts: Iterator[bytes], filename: str) -> Response:
        return RedirectResponse(files.written(tenant, parts, filename, content_type=_TYPE).url, 307)

    return answer


def _in_blocks(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Joined to larger blocks: one switch of threads per block, not per line."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
