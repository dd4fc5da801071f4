"""API errors: every error becomes a problem document (RFC 9457) by one table, `_BY_ERROR`.

docs/reference/problems.md and `GET /problems/<word>` say the same as the table; a test compares them.

The text of a `Temporary`, `Corrupt` or unexpected error may name files and hosts. It is logged under the request's id; the
response carries a fixed sentence instead (`_FIXED_DETAILS`). Values that a caller sent are never repeated: one may be a password.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from postroom.errors import (
    Conflict,
    Denied,
    Invalid,
    InvalidAddress,
    MissingVariable,
    NotFound,
    Permanent,
    PostroomError,
    QuotaExceeded,
    RecipientSuppressed,
    StorageFull,
    Temporary,
    TooLarge,
    Unauthenticated,
    Unsupported,
    UnverifiedSender,
)
from postroom.telemetry.logs import event_logger

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = 2
_MAX_ERRORS = 50
"""Validation errors listed in one response."""
_log = event_logger(__name__)


class PreconditionFailed(Conflict):
    """`If-Match` names another version than the current one: the record was changed since the caller read it."""


class IdempotencyKeyReused(Conflict):
    """The `Idempotency-Key` was used before, for a request with other content."""


class IdempotencyInProgress(Conflict):
    """A request with the same `Idempotency-Key` has not ended yet."""

    retry_after_s = 2


class UnsupportedMediaType(Permanent):
    """The route does not read bodies of this media type."""


class UnknownParameter(Invalid):
    """The query string has parameters that the route does not take. `errors`: one entry a parameter, as in the response."""

    def __init__(self, unknown: Sequence[str], known: Iterable[str]) -> None:
        known = sorted(known)
        self.errors = [
            {
                "in": "query",
                "pointer": f"#/{_escaped(name)}"[:500],
                "detail": f"unknown parameter{did_you_mean(name, known) or _listed(known)}",
            }
            for name in unknown[:_MAX_ERRORS]
        ]
        super().__init__(_first_of(self.errors))


class TooManyRequests(Temporary):
    """A rate limit is exceeded. `fields`: the rate-limit header fields of the response."""

    def __init__(self, text: str, retry_after_s: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.fields = fields


class Overloaded(Temporary):
    """Too many requests are in progress: refused before anything was done."""

    retry_after_s = 1


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One row of the table."""

    word: str
    """The last part of the problem's `type`: `/problems/<word>`."""
    status: int
    title: str
    meaning: str
    """What it means and what a client should do."""


_FAILED = ProblemType(
    "failed", 500, "Internal error", "An unexpected error on the server. The log has it under the response's `request_id`."
)
_INVALID = ProblemType("invalid", 422, "Invalid request", "The request is not valid. `errors`, if present, lists each place.")
_MALFORMED = ProblemType("malformed", 400, "Malformed request", "The request cannot be parsed.")
_NO_ROUTE = ProblemType("no-such-address", 404, "No such route", "There is no route with this path: see `/openapi.json`.")

_BY_ERROR: tuple[tuple[type[Exception], ProblemType], ...] = (
    (TooLarge, ProblemType("too-large", 413, "Too large", "A documented size limit is exceeded; `detail` names it.")),
    (RequestValidationError, _INVALID),
    (
        InvalidAddress,
        ProblemType("invalid-address", 422, "Invalid email address", "An email address is not valid; `detail` says why."),
    ),
    (
        MissingVariable,
        ProblemType(
            "missing-variable",
            422,
            "Missing variable",
            "The request does not set a variable that the template needs.",
        ),
    ),
    (
        RecipientSuppressed,
        ProblemType(
            "recipient-suppressed", 422, "Recipient suppressed", "The recipient is on the suppression list; nothing was sent."
        ),
    ),
    (
        UnknownParameter,
        ProblemType(
            "unknown-parameter", 422, "Unknown parameter", "The query string has a parameter that this route does not take."
        ),
    ),
    (Invalid, _INVALID),
    (
        Unauthenticated,
        ProblemType("not-signed-in", 401, "Unauthenticated", "There is no token or API key, or it is wrong, revoked or expired."),
    ),
    (
        UnverifiedSender,
        ProblemType(
            "unverified-sender",
            403,
            "Unverified sender",
            "The `from` address or its domain is not a verified sender of the tenant: add and verify it under `/v1/senders`.",
        ),
    ),
    (Denied, ProblemType("not-allowed", 403, "Forbidden", "The caller's role, key scopes or tenant do not allow this.")),
    (NotFound, ProblemType("not-found", 404, "Not found", "The record does not exist, or belongs to another tenant.")),
    (
        PreconditionFailed,
        ProblemType(
            "changed-since",
            412,
            "Precondition failed",
            "The record was changed since you read it (`If-Match`): read it again.",
        ),
    ),
    (
        IdempotencyKeyReused,
        ProblemType(
            "idempotency-key-reused",
            409,
            "Idempotency key reused",
            "The key was used for a request with other content or by another caller. Use a new key for every new request.",
        ),
    ),
    (
        IdempotencyInProgress,
        ProblemType(
            "idempotency-in-progress",
            409,
            "Request in progress",
            "The first request with this key has not ended. Repeat it with the same key after `Retry-After`.",
        ),
    ),
    (
        QuotaExceeded,
        ProblemType(
            "quota-exceeded",
            409,
            "Quota exceeded",
            "The tenant has as many of these records as it may have.",
        ),
    ),
    (Conflict, ProblemType("conflict", 409, "Conflict", "The record is in a state that does not allow this.")),
    (
        UnsupportedMediaType,
        ProblemType(
            "unsupported-media-type", 415, "Unsupported media type", "This route does not read bodies of this `Content-Type`."
        ),
    ),
    (
        Unsupported,
        ProblemType("not-supported", 422, "Not supported", "This installation does not support this request."),
    ),
    (
        TooManyRequests,
        ProblemType("too-many-requests", 429, "Too many requests", "A rate limit is exceeded. Repeat after `Retry-After`."),
    ),
    (
        Overloaded,
        ProblemType("overloaded", 503, "Overloaded", "Too much is in progress; nothing was done. Repeat after `Retry-After`."),
    ),
    (
        StorageFull,
        ProblemType(
            "storage-full", 503, "Storage full", "The disk is full or read-only; nothing was changed. Tell the operator."
        ),
    ),
    (
        Temporary,
        ProblemType(
            "unavailable",
            503,
            "Unavailable",
            "A store or service did not respond in time. Repeat after `Retry-After`, a POST with the same `Idempotency-Key`: "
            "it may have been carried out.",
        ),
    ),
)
"""The first row that matches counts, so subclasses come before their parents."""
_BY_STATUS: dict[int, ProblemType] = {
    400: _MALFORMED,
    403: next(kind for error, kind in _BY_ERROR if error is Denied),
    404: _NO_ROUTE,
    405: ProblemType("method-not-allowed", 405, "Method not allowed", "The path exists, but not with this method: see `Allow`."),
    408: ProblemType("too-slow", 408, "Request timeout", "The body did not arrive in time. Repeat the request."),
    409: next(kind for error, kind in _BY_ERROR if error is Conflict),
    422: _INVALID,
    503: _BY_ERROR[-1][1],
}
for _, _kind in _BY_ERROR:
    _BY_STATUS.setdefault(_kind.status, _kind)
PROBLEM_TYPES: tuple[ProblemType, ...] = tuple(
    sorted(
        {kind.word: kind for kind in (*(row[1] for row in _BY_ERROR), *_BY_STATUS.values(), _FAILED)}.values(),
        key=lambda kind: kind.status,
    )
)
"""All problem types, by status."""

_FIXED_DETAILS = {
    "failed": "an unexpected error on the server; the log has it under the request_id",
    "unavailable": "a store or service did not respond; the request itself may be fine: try again",
    "storage-full": "there is no room to store anything; nothing was changed",
}
"""By word: sent instead of the error's own text, which is logged."""


def problem_type_of(error: Exception) -> ProblemType:
    """The problem type of an error; `failed` if no row matches."""
    if isinstance(error, HTTPException):
        return _BY_STATUS.get(error.status_code, _FAILED if error.status_code >= 500 else _MALFORMED)
    return next((kind for types, kind in _BY_ERROR if isinstance(error, types)), _FAILED)


async def handle_error(request: Request, error: Exception) -> Response:
    """`problem_response` as a FastAPI exception handler."""
    return problem_response(request, error)


def problem_response(request: Request, error: Exception) -> Response:
    """The problem document of an error. Logs errors that are not the caller's."""
    kind = problem_type_of(error)
    errors: Sequence[Mapping[str, str]] = getattr(error, "errors", ()) if isinstance(error, UnknownParameter) else ()
    if isinstance(error, RequestValidationError):
        body_field = getattr(request.scope.get("route"), "body_field", None)
        errors = validation_errors(error, body_field and body_field.field_info.annotation)
        detail = _first_of(errors) if errors else "the request is not valid"
    elif kind.word in _FIXED_DETAILS:
        _log_failure(kind, error)
        detail = _FIXED_DETAILS[kind.word]
    else:
        detail = _detail(error)
    body: dict[str, Any] = {
        "type": f"/problems/{kind.word}",
        "title": kind.title,
        "status": kind.status,
        "detail": _without_surrogates(detail),
    }
    if identifier := request_id(request):
        body["request_id"] = identifier
    if errors:
        body["errors"] = [{name: _without_surrogates(text) for name, text in each.items()} for each in errors]
    if isinstance(error, Invalid) and (findings := getattr(error, "findings", ())):
        body["findings"] = findings
    return Response(orjson.dumps(body), kind.status, _header_fields(request, error, kind), MEDIA_TYPE)


def request_id(request: Request) -> str:
    """The id under which the log has this request; empty if no middleware set one."""
    known: str = request.scope.get("state", {}).get("request_id", "")
    return known


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'status'?` with the known name that is nearest to `name`; empty if none is near."""
    near = difflib.get_close_matches(name[:100], [each for each in known if each != name], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _listed(known: Sequence[str]) -> str:
    return f"; this route takes {', '.join(known)}" if known else "; this route takes none"


def _first_of(errors: Sequence[Mapping[str, str]]) -> str:
    first = f"{errors[0]['pointer']}: {errors[0]['detail']}"
    return first if len(errors) < 2 else f"{first} (and {len(errors) - 1} more)"


def _detail(error: Exception) -> str:
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return "this path does not take this method: see the header field Allow"
        return "there is no route with this path: see /openapi.json" if error.detail == "Not Found" else str(error.detail)
    return str(error)


def _header_fields(request: Request, error: Exception, kind: ProblemType) -> dict[str, str]:
    fields = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if kind.status == 401:
        given = ', error="invalid_token"' if "authorization" in request.headers else ""
        fields.setdefault("WWW-Authenticate", f'Bearer realm="postroom"{given}')
    seconds = getattr(error, "retry_after_s", _RETRY_AFTER_S if kind.status in {429, 503} else None)
    if seconds is not None:
        fields.setdefault("Retry-After", str(seconds))
    return fields


def _log_failure(kind: ProblemType, error: Exception) -> None:
    if isinstance(error, ResponseValidationError):  # its text holds the response, which may be about people
        places = [(each.get("type"), each.get("loc")) for each in error.errors()[:5]]
        _log.error("request.response_invalid", places=places)
    elif kind is _FAILED and not isinstance(error, PostroomError | HTTPException):
        _log.error("request.crashed", exc_info=error)
    else:
        _log.warning("request.failed", problem=kind.word, error=type(error).__name__, reason=str(error))


def _without_surrogates(text: str) -> str:
    """Lone surrogates replaced: UTF-8 cannot carry them."""
    return text.encode("utf-8", "replace").decode()


# Validation errors: pydantic's places and sentences, as places in the request and sentences for an API client.

_SENTENCES = {
    "missing": "this is required",
    "extra_forbidden": "unknown member",
    "union_tag_not_found": "this is required",
    "union_tag_invalid": "this must be {expected_tags}",
    "string_pattern_mismatch": "this must match {pattern}",
    "string_too_short": "this must have at least {min_length} characters",
    "string_too_long": "this must have at most {max_length} characters",
    "too_short": "this must have at least {min_length} members",
    "too_long": "this must have at most {max_length} members",
    "string_type": "this must be text",
    "list_type": "this must be an array",
    "int_type": "this must be a whole number",
    "int_parsing": "this must be a whole number",
    "int_from_float": "this must be a whole number",
    "float_type": "this must be a number",
    "float_parsing": "this must be a number",
    "bool_type": "this must be true or false",
    "bool_parsing": "this must be true or false",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "this must be an object"),
}
"""By pydantic's error type, filled from its context; other types keep pydantic's message."""


def validation_errors(error: RequestValidationError, body_type: object = None) -> list[dict[str, str]]:
    """Where the request is not valid: `in` (body, query, path, header), `pointer` (JSON pointer, RFC 6901) and `detail`.

    `body_type`: the annotation of the route's body, to suggest names for unknown members; None: no suggestions. Up to 50.
    """
    return [_error(one, error.body, body_type) for one in error.errors()[:_MAX_ERRORS]]


def _error(one: Mapping[str, Any], body: object, body_type: object) -> dict[str, str]:
    place: Sequence[str | int] = one.get("loc", ())
    where, inside = (str(place[0]) if place else "body"), list(place[1:])
    detail = _sentence(one)
    if where == "body":
        if one.get("type") == "extra_forbidden" and inside:
            detail += did_you_mean(str(inside[-1]), _member_names(body_type, inside[:-1]))
        inside = list(_within(inside, body))
    if str(one.get("type", "")).startswith("union_tag"):
        inside.append(str(one["ctx"]["discriminator"]).strip("'"))
    pointer = "#" + "".join("/" + _escaped(str(part)) for part in inside)
    return {"in": where, "pointer": pointer[:500], "detail": detail}


def _within(place: Sequence[str | int], body: Any) -> Iterator[str | int]:
    """The parts that are steps in the body, and a missing member's name. Pydantic adds which member of a union it tried."""
    for at, part in enumerate(place):
        if _is_step(part, body):
            body = body[part]
        elif not isinstance(body, Mapping) or at < len(place) - 1:
            continue
        yield part


def _is_step(part: str | int, body: object) -> bool:
    if isinstance(body, Mapping):
        return part in body
    return isinstance(body, list) and isinstance(part, int) and part < len(body)


def _member_names(annotation: object, place: Sequence[str | int]) -> set[str]:
    """The member names of the models at a place in a body of this type."""
    models = list(_models_in(annotation))
    for part in place:
        inner = [model.model_fields[name].annotation for model in models for name in _fields_named(model, part)]
        if inner:  # other parts are list positions, and marks of pydantic's for members of a union
            models = [model for each in inner for model in _models_in(each)]
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _fields_named(model: type[BaseModel], member: str | int) -> list[str]:
    return [name for name, field in model.model_fields.items() if (field.alias or name) == member]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)


def _sentence(one: Mapping[str, Any]) -> str:
    known, context = _SENTENCES.get(str(one.get("type"))), dict(one.get("ctx", {}))
    if context.get("min_length") == 1:
        return "this must not be empty"
    if known is None:
        text = str(one.get("msg", "not valid")).removeprefix("Value error, ")
        return re.sub("^Input should be ", "this must be ", text)
    if "expected_tags" in context:  # pydantic shows members of an enum as <UploadKind.ASSET: 'asset'>
        context["expected_tags"] = " or ".join(re.findall(r"'[^']*'", context["expected_tags"]))
    return known.format_map(context)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
