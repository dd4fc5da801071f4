"""Entity tags (RFC 9110, 8.8 and 13): 304 for unchanged records, 412 for conflicting changes.

    etag = etag_of(record.version)
    if matches(if_none_match, etag): return not_modified(etag)    # GET
    demand(if_match, etag)                                        # PUT, PATCH: before anything is changed

The write must expect the same version that `demand` saw (a conditional write): another change may come between the two.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Response

from postroom.gateway.errors import PreconditionFailed

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        max_length=1_000,
        description="An `ETag` you have: 304 if it is still current.",
        examples=['"3"'],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1_000,
        description="The `ETag` you read: 412 if the record was changed since.",
        examples=['"3"'],
    ),
]


def etag_of(version: int | str) -> str:
    """A strong tag. `version` must change with every change of the record and consist of letters, digits and `-`."""
    return f'"{version}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this version (weak comparison)."""
    return if_none_match is not None and (if_none_match.strip() == "*" or etag in map(_strong, if_none_match.split(",")))


def demand(if_match: str | None, etag: str) -> None:
    """Raises `PreconditionFailed` unless the caller read this version (strong comparison). No check without the field."""
    if if_match is None or if_match.strip() == "*":
        return
    if etag not in (tag.strip() for tag in if_match.split(",")):
        raise PreconditionFailed(f"it was changed since you read it: its ETag is {etag}; read it again")


def not_modified(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": etag})


def _strong(tag: str) -> str:
    return tag.strip().removeprefix("W/")
