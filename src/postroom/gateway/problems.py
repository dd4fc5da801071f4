"""Errors as HTTP answers (RFC 9457), from one table."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse

from postroom.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    PostroomError,
    Temporary,
    TooLarge,
    Unauthenticated,
    Unsupported,
)

STATUS: tuple[tuple[type[PostroomError], int, str], ...] = (
    (TooLarge, 413, "Too large"),
    (Invalid, 422, "Invalid"),
    (Unauthenticated, 401, "Not signed in"),
    (Denied, 403, "Not allowed"),
    (NotFound, 404, "Not found"),
    (Conflict, 409, "Conflict"),
    (Unsupported, 422, "Not supported"),
    (Temporary, 503, "Try again"),
    (PostroomError, 500, "Failed"),
)


async def answer(_request: Request, error: Exception) -> JSONResponse:
    """The problem that an error is."""
    status, title = next((status, title) for kind, status, title in STATUS if isinstance(error, kind))
    body = {"type": "about:blank", "title": title, "status": status, "detail": str(error)}
    return JSONResponse(body, status, media_type="application/problem+json")
