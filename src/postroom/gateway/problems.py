"""Errors as HTTP answers (RFC 9457), from one table: docs/reference/problems.md and `/problems/<word>` say the same.

What a `Temporary`, `Corrupt` or unforeseen error says is for whoever runs the installation: it may name files and hosts. It is
logged with the id of the request; the answer only says that it was not the caller's fault.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from starlette.exceptions import HTTPException

from postroom.errors import (
    Conflict,
    Denied,
    Invalid,
    NotFound,
    PostroomError,
    StorageFull,
    Temporary,
    TooLarge,
    Unauthenticated,
    Unsupported,
)
from postroom.gateway.refusals import CircuitOpen, InProgress, KeyReused, Overloaded, PreconditionFailed, TooMany, WrongMedia
from postroom.gateway.validation import faults_of

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    word: str
    """The last part of the problem's `type`: `/problems/<word>`."""
    status: int
    title: str
    meaning: str
    """What it means and what to do, for whoever writes a client."""


_FAILED = Kind("failed", 500, "Failed", "A mistake of ours. The log has it under the answer's `request_id`.")
_INVALID = Kind("invalid", 422, "Invalid", "The request is wrong as it is. `errors` says where, when it is more than a sentence.")
_MALFORMED = Kind("malformed", 400, "Malformed", "The request cannot be read at all.")
_NO_ROUTE = Kind("no-such-address", 404, "Not found", "Nothing answers at this path: see `/openapi.json`.")

_BY_ERROR: tuple[tuple[type[Exception], Kind], ...] = (
    (TooLarge, Kind("too-large", 413, "Too large", "A documented limit is passed; the text names it.")),
    (RequestValidationError, _INVALID),
    (Invalid, _INVALID),
    (
        Unauthenticated,
        Kind("not-signed-in", 401, "Not signed in", "No token or key, or one that is wrong, revoked or expired. Get a new one."),
    ),
    (Denied, Kind("not-allowed", 403, "Not allowed", "The caller is known, and may not do this. A higher role may be needed.")),
    (NotFound, Kind("not-found", 404, "Not found", "There is no such thing, or it is another tenant's.")),
    (
        PreconditionFailed,
        Kind("changed-since", 412, "Changed since", "Somebody else changed it since you read it: read again, then decide."),
    ),
    (
        KeyReused,
        Kind(
            "idempotency-key-reused",
            409,
            "Idempotency key reused",
            "The key belongs to a call with another content or caller. Use a new key for every new call.",
        ),
    ),
    (
        InProgress,
        Kind(
            "idempotency-in-progress",
            409,
            "Still in progress",
            "The first call with this key has not ended. Repeat it with the same key after `Retry-After`.",
        ),
    ),
    (Conflict, Kind("conflict", 409, "Conflict", "What it is about is in a state that does not allow this.")),
    (
        WrongMedia,
        Kind("unsupported-media-type", 415, "Unsupported media type", "The body's `Content-Type` is not one that is read here."),
    ),
    (Unsupported, Kind("not-supported", 422, "Not supported", "The request is understood, and this installation cannot do it.")),
    (
        TooMany,
        Kind("too-many-requests", 429, "Too many requests", "Slow down; `Retry-After` says when there is room again."),
    ),
    (
        Overloaded,
        Kind("overloaded", 503, "Overloaded", "Too much is in progress; nothing was done. Repeat after `Retry-After`."),
    ),
    (
        StorageFull,
        Kind("storage-full", 503, "Storage full", "There is no room to store anything; nothing was changed. Tell the operator."),
    ),
    (
        Temporary,
        Kind(
            "unavailable",
            503,
            "Try again",
            "Something behind the door does not answer, or not in time. Repeat after `Retry-After`, a POST with its "
            "`Idempotency-Key`: it may have been done.",
        ),
    ),
)
_BY_STATUS: dict[int, Kind] = {
    400: _MALFORMED,
    404: _NO_ROUTE,
    405: Kind("method-not-allowed", 405, "Method not allowed", "The path exists, not with this method: see `Allow`."),
    408: Kind("too-slow", 408, "Too slow", "The body did not come in time. Repeat it on a better line."),
}
for _, _kind in _BY_ERROR:
    _BY_STATUS.setdefault(_kind.status, _kind)
KINDS: tuple[Kind, ...] = tuple(
    sorted(
        {kind.word: kind for kind in (*(row[1] for row in _BY_ERROR), *_BY_STATUS.values(), _FAILED)}.values(),
        key=lambda k: k.status,
    )
)
"""All of them, by status."""

_OURS = {
    "failed": "this is a mistake of ours; the request_id leads to it in the log",
    "unavailable": "something behind the door did not answer, which says nothing about the request; try again",
    "storage-full": "there is no room to store anything; nothing was changed",
}


def kind_of(error: Exception) -> Kind:
    """Its row; `failed` for what nobody foresaw."""
    if isinstance(error, HTTPException):
        return _BY_STATUS.get(error.status_code, _FAILED if error.status_code >= 500 else _MALFORMED)
    return next((kind for types, kind in _BY_ERROR if isinstance(error, types)), _FAILED)


async def answer(request: Request, error: Exception) -> Response:
    """The problem that an error is; logged when it is not the caller's."""
    return answer_now(request, error)


def answer_now(request: Request, error: Exception) -> Response:
    """See `answer`."""
    kind = kind_of(error)
    if kind.word in _OURS and not isinstance(error, CircuitOpen):
        _report(kind, error)
        detail = _OURS[kind.word]
    else:
        detail = _detail(error)
    errors = faults_of(error) if isinstance(error, RequestValidationError) else ()
    findings = getattr(error, "findings", ()) if isinstance(error, Invalid) else ()
    fields = _fields(request, error, kind)
    return problem(kind, detail, request_id=request_id(request), errors=errors, findings=findings, fields=fields)


def problem(
    kind: Kind,
    detail: str,
    *,
    request_id: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    findings: Sequence[Mapping[str, object]] = (),
    fields: Mapping[str, str] | None = None,
) -> Response:
    """The answer itself."""
    body: dict[str, Any] = {
        "type": f"/problems/{kind.word}",
        "title": kind.title,
        "status": kind.status,
        "detail": _clean(detail),
    }
    if request_id:
        body["request_id"] = request_id
    if errors:
        body["errors"] = [{name: _clean(text) for name, text in fault.items()} for fault in errors]
    if findings:
        body["findings"] = findings
    return Response(orjson.dumps(body), kind.status, dict(fields or {}), MEDIA_TYPE)


def request_id(request: Request) -> str:
    """The id under which the log knows this request; empty outside the frame."""
    known: str = request.scope.get("state", {}).get("request_id", "")
    return known


def _detail(error: Exception) -> str:
    if isinstance(error, RequestValidationError):
        faults = faults_of(error)
        first = f"{faults[0]['pointer']}: {faults[0]['detail']}" if faults else "the request is not valid"
        return first if len(faults) < 2 else f"{first} (and {len(faults) - 1} more)"
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return "this path takes other methods: see the field Allow"
        return "nothing answers at this path: see /openapi.json" if error.detail == "Not Found" else str(error.detail)
    return str(error)


def _fields(request: Request, error: Exception, kind: Kind) -> dict[str, str]:
    fields = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if kind.status == 401:
        given = ', error="invalid_token"' if "authorization" in request.headers else ""
        fields.setdefault("WWW-Authenticate", f'Bearer realm="postroom"{given}')
    seconds = getattr(error, "retry_after_s", _RETRY_AFTER_S if kind.status in {429, 503} else None)
    if seconds is not None:
        fields.setdefault("Retry-After", str(seconds))
    return fields


def _report(kind: Kind, error: Exception) -> None:
    if isinstance(error, ResponseValidationError):  # its text holds the answer, which may be about people
        places = [(each.get("type"), each.get("loc")) for each in error.errors()[:5]]
        _log.error("a request failed: its answer is not what the route declares: %s", places)
    elif kind is _FAILED and not isinstance(error, PostroomError | HTTPException):
        _log.error("a request failed", exc_info=error)
    else:
        _log.warning("a request ended as %s: %s: %s", kind.word, type(error).__name__, error)


def _clean(text: str) -> str:
    """Without lone surrogates, which no JSON on the wire may hold."""
    return text.encode("utf-8", "replace").decode()
