"""Lists come in pages: `limit` and `cursor` in, `items` and `cursor` out (null: that was all).

A cursor is opaque, and of one list: the document gives it a format of its own, and any other text is answered with 422, or
with a page that begins somewhere. It names a place, never an owner: a tenant with another's cursor still sees its own records.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most; a page may hold fewer before the end.")]
Cursor = Annotated[
    str | None,
    Query(
        max_length=2_000,
        description="Where to go on: the `cursor` of the page before.",
        json_schema_extra={"format": "cursor"},
    ),
]


class Page(BaseModel, Generic[Item]):
    """Part of a list."""

    items: list[Item]
    cursor: str | None = Field(description="Asks for the next page; null: that was all.")
