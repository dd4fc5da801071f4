"""What is wrong with a request, place by place: `in` (body, query, path, header), a JSON pointer (RFC 6901), a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi.exceptions import RequestValidationError

_MOST = 50
"""Faults shown: a request with thousands is not answered with as many."""


def faults_of(error: RequestValidationError) -> list[dict[str, str]]:
    """What pydantic found; never the value itself, which may be a secret."""
    return [_fault(one.get("loc", ()), str(one.get("msg", "not valid"))) for one in error.errors()[:_MOST]]


def _fault(place: Sequence[str | int], detail: str) -> dict[str, str]:
    where = str(place[0]) if place else "body"
    pointer = "#" + "".join("/" + _escaped(str(part)) for part in place[1:])
    return {"in": where, "pointer": pointer[:500], "detail": detail.removeprefix("Value error, ")}


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
