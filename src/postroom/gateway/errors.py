"""Errors that only the door knows: they speak of the call, not of what it was about. gateway.problems turns them into answers.

What is wrong with a request, place by place: `in` (body, query, path, header), a JSON pointer (RFC 6901), a sentence.

Pydantic finds the faults; it words them for who writes Python, and its places have marks of its own in them (which member of a
union was tried). Here they become places in what was sent, and sentences for who sent it.

Errors as HTTP answers (RFC 9457), from one table: docs/reference/problems.md and `/problems/<word>` say the same.

What a `Temporary`, `Corrupt` or unforeseen error says is for whoever runs the installation: it may name files and hosts. It is
logged with the id of the request; the answer only says that it was not the caller's fault.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
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
    Permanent,
    PostroomError,
    StorageFull,
    Temporary,
    TooLarge,
    Unauthenticated,
    Unsupported,
)


class PreconditionFailed(Conflict):
    """`If-Match` names another version than the newest: somebody else changed the record since it was read."""


class IdempotencyKeyReused(Conflict):
    """The `Idempotency-Key` belongs to a call with another content."""


class IdempotencyInProgress(Conflict):
    """A call with the same `Idempotency-Key` has not ended yet."""

    retry_after_s = 2


class UnsupportedMediaType(Permanent):
    """The body is of a media type that this route does not read."""


class TooManyRequests(Temporary):
    """More calls than are allowed; `fields` are the answer's rate-limit fields."""

    def __init__(self, text: str, retry_after_s: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.fields = fields


class Overloaded(Temporary):
    """Too much is in progress: refused before anything was done."""

    retry_after_s = 1


_MOST = 50


"""Faults shown: a request with thousands is not answered with as many."""


_SENTENCES = {
    "missing": "this is needed",
    "extra_forbidden": "there is no such member here",
    "union_tag_not_found": "this is needed",
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


"""By pydantic's kind of error, filled from its context; others keep pydantic's words."""


def validation_errors(error: RequestValidationError) -> list[dict[str, str]]:
    """What pydantic found; never the value itself, which may be a secret."""
    return [_fault(one, error.body) for one in error.errors()[:_MOST]]


def _fault(one: Mapping[str, Any], body: object) -> dict[str, str]:
    place: Sequence[str | int] = one.get("loc", ())
    where, inside = (str(place[0]) if place else "body"), list(place[1:])
    if where == "body":
        inside = list(_within(inside, body))
    if str(one.get("type", "")).startswith("union_tag"):
        inside.append(str(one["ctx"]["discriminator"]).strip("'"))
    pointer = "#" + "".join("/" + _escaped(str(part)) for part in inside)
    return {"in": where, "pointer": pointer[:500], "detail": _sentence(one)}


def _within(place: Sequence[str | int], body: Any) -> Iterator[str | int]:
    """The parts of a place that are steps in the body; of a member that is not there, its name."""
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


def _sentence(one: Mapping[str, Any]) -> str:
    known, context = _SENTENCES.get(str(one.get("type"))), dict(one.get("ctx", {}))
    if context.get("min_length") == 1:
        return "this must not be empty"
    if known is None:
        text = str(one.get("msg", "not valid")).removeprefix("Value error, ")
        return re.sub("^Input should be ", "this must be ", text)
    if "expected_tags" in context:  # members of an enum come as Python shows them: <Kind.ASSET: 'asset'>
        context["expected_tags"] = " or ".join(re.findall(r"'[^']*'", context["expected_tags"]))
    return known.format_map(context)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


MEDIA_TYPE = "application/problem+json"


_RETRY_AFTER_S = 2


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One row of the table."""

    word: str
    """The last part of the problem's `type`: `/problems/<word>`."""
    status: int
    title: str
    meaning: str
    """What it means and what to do, for whoever writes a client."""


_FAILED = ProblemType("failed", 500, "Failed", "A mistake of ours. The log has it under the answer's `request_id`.")


_INVALID = ProblemType(
    "invalid", 422, "Invalid", "The request is wrong as it is. `errors` says where, when it is more than a sentence."
)


_MALFORMED = ProblemType("malformed", 400, "Malformed", "The request cannot be read at all.")


_NO_ROUTE = ProblemType("no-such-address", 404, "Not found", "Nothing answers at this path: see `/openapi.json`.")


_BY_ERROR: tuple[tuple[type[Exception], ProblemType], ...] = (
    (TooLarge, ProblemType("too-large", 413, "Too large", "A documented limit is passed; the text names it.")),
    (RequestValidationError, _INVALID),
    (Invalid, _INVALID),
    (
        Unauthenticated,
        ProblemType(
            "not-signed-in", 401, "Not signed in", "No token or key, or one that is wrong, revoked or expired. Get a new one."
        ),
    ),
    (
        Denied,
        ProblemType("not-allowed", 403, "Not allowed", "The caller is known, and may not do this. A higher role may be needed."),
    ),
    (NotFound, ProblemType("not-found", 404, "Not found", "There is no such thing, or it is another tenant's.")),
    (
        PreconditionFailed,
        ProblemType(
            "changed-since", 412, "Changed since", "Somebody else changed it since you read it: read again, then decide."
        ),
    ),
    (
        IdempotencyKeyReused,
        ProblemType(
            "idempotency-key-reused",
            409,
            "Idempotency key reused",
            "The key belongs to a call with another content or caller. Use a new key for every new call.",
        ),
    ),
    (
        IdempotencyInProgress,
        ProblemType(
            "idempotency-in-progress",
            409,
            "Still in progress",
            "The first call with this key has not ended. Repeat it with the same key after `Retry-After`.",
        ),
    ),
    (Conflict, ProblemType("conflict", 409, "Conflict", "What it is about is in a state that does not allow this.")),
    (
        UnsupportedMediaType,
        ProblemType(
            "unsupported-media-type", 415, "Unsupported media type", "The body's `Content-Type` is not one that is read here."
        ),
    ),
    (
        Unsupported,
        ProblemType("not-supported", 422, "Not supported", "The request is understood, and this installation cannot do it."),
    ),
    (
        TooManyRequests,
        ProblemType("too-many-requests", 429, "Too many requests", "Slow down; `Retry-After` says when there is room again."),
    ),
    (
        Overloaded,
        ProblemType("overloaded", 503, "Overloaded", "Too much is in progress; nothing was done. Repeat after `Retry-After`."),
    ),
    (
        StorageFull,
        ProblemType(
            "storage-full", 503, "Storage full", "There is no room to store anything; nothing was changed. Tell the operator."
        ),
    ),
    (
        Temporary,
        ProblemType(
            "unavailable",
            503,
            "Try again",
            "Something behind the door does not answer, or not in time. Repeat after `Retry-After`, a POST with its "
            "`Idempotency-Key`: it may have been done.",
        ),
    ),
)


_BY_STATUS: dict[int, ProblemType] = {
    400: _MALFORMED,
    404: _NO_ROUTE,
    405: ProblemType("method-not-allowed", 405, "Method not allowed", "The path exists, not with this method: see `Allow`."),
    408: ProblemType("too-slow", 408, "Too slow", "The body did not come in time. Repeat it on a better line."),
}


for _, _kind in _BY_ERROR:
    _BY_STATUS.setdefault(_kind.status, _kind)


PROBLEM_TYPES: tuple[ProblemType, ...] = tuple(
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


def problem_type_of(error: Exception) -> ProblemType:
    """Its row; `failed` for what nobody foresaw."""
    if isinstance(error, HTTPException):
        return _BY_STATUS.get(error.status_code, _FAILED if error.status_code >= 500 else _MALFORMED)
    return next((kind for types, kind in _BY_ERROR if isinstance(error, types)), _FAILED)


async def handle_error(request: Request, error: Exception) -> Response:
    """The problem that an error is; logged when it is not the caller's."""
    return problem_response(request, error)


def problem_response(request: Request, error: Exception) -> Response:
    """See `answer`."""
    kind = problem_type_of(error)
    if kind.word in _OURS:
        _report(kind, error)
        detail = _OURS[kind.word]
    else:
        detail = _detail(error)
    errors = validation_errors(error) if isinstance(error, RequestValidationError) else ()
    findings = getattr(error, "findings", ()) if isinstance(error, Invalid) else ()
    fields = _header_fields(request, error, kind)
    return problem(kind, detail, request_id=request_id(request), errors=errors, findings=findings, fields=fields)


def problem(
    kind: ProblemType,
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
        faults = validation_errors(error)
        first = f"{faults[0]['pointer']}: {faults[0]['detail']}" if faults else "the request is not valid"
        return first if len(faults) < 2 else f"{first} (and {len(faults) - 1} more)"
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return "this path takes other methods: see the field Allow"
        return "nothing answers at this path: see /openapi.json" if error.detail == "Not Found" else str(error.detail)
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


def _report(kind: ProblemType, error: Exception) -> None:
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
