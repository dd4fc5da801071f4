"""The parts of the OpenAPI document that every operation shares: the shape of a problem, answers, header fields, security."""

from __future__ import annotations

from typing import Any

from postroom.gateway.frame import Frame
from postroom.gateway.problems import KINDS, MEDIA_TYPE

Json = dict[str, Any]

PROBLEM: Json = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Which kind of problem, stable: programs decide by it. It leads to an explanation.",
            "examples": ["/problems/not-found"],
        },
        "title": {"type": "string", "description": "The kind in a few words.", "examples": ["Not found"]},
        "status": {"type": "integer", "description": "The HTTP status.", "examples": [404]},
        "detail": {
            "type": "string",
            "description": "This case, in a sentence for people.",
            "examples": ["there is no template of that id"],
        },
        "request_id": {"type": "string", "description": "Under which our log has it; also in `X-Request-Id`."},
        "errors": {
            "type": "array",
            "description": "Place by place, what is not valid in the request.",
            "items": {
                "type": "object",
                "required": ["in", "pointer", "detail"],
                "properties": {
                    "in": {"type": "string", "description": "`body`, `query`, `path` or `header`.", "examples": ["body"]},
                    "pointer": {
                        "type": "string",
                        "description": "JSON pointer (RFC 6901) from there.",
                        "examples": ["#/schedule/at"],
                    },
                    "detail": {"type": "string", "description": "What is wrong with it.", "examples": ["Field required"]},
                },
            },
        },
        "findings": {
            "type": "array",
            "description": "Of a template that is refused: its errors and warnings, as `POST /v1/templates/validate` tells them.",
            "items": {"type": "object"},
        },
    },
}

IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the call repeatable for 24 hours: the same key and content give the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]{1,255}$"},
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}


def _field(description: str, example: str) -> Json:
    return {"description": description, "schema": {"type": "string"}, "example": example}


FIELDS: Json = {
    "X-Request-Id": _field("The request's id, as in our log; yours, if you sent one.", "k3v5p7xq2m4n6r8t"),
    "RateLimit": _field("Of the nearest limit: calls left, seconds until it is whole.", '"caller";r=999;t=1'),
    "RateLimit-Policy": _field("The limits: calls, and the seconds in which they grow again.", '"caller";q=1000;w=1'),
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}, "example": 2},
    "ETag": _field("The version of what is answered.", '"3"'),
    "Idempotent-Replayed": _field("`true`: an answer given before, to the same `Idempotency-Key`.", "true"),
    "WWW-Authenticate": _field("How to sign in.", 'Bearer realm="postroom"'),
}


def _responses() -> Json:
    responses: Json = {}
    for kind in KINDS:
        shown = responses.setdefault(str(kind.status), {"titles": [], "meanings": []})
        if kind.title not in shown["titles"]:
            shown["titles"].append(kind.title)
        shown["meanings"].append(f"`/problems/{kind.word}`: {kind.meaning}")
    return {status: _response(status, shown["meanings"]) for status, shown in responses.items()}


def _response(status: str, meanings: list[str]) -> Json:
    fields = ["X-Request-Id"]
    fields += ["Retry-After"] if status in {"429", "503"} else []
    fields += ["RateLimit", "RateLimit-Policy"] if status == "429" else []
    fields += ["WWW-Authenticate"] if status == "401" else []
    return {
        "description": "\n\n".join(meanings),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in fields},
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


RESPONSES: Json = _responses()
"""By status."""


def security_schemes(frame: Frame) -> Json:
    """Besides `bearer`: where access tokens come from."""
    issuer = (frame.issuer or frame.url).rstrip("/")
    return {
        "openid": {
            "type": "openIdConnect",
            "description": "Where access tokens come from; they are sent as `bearer`.",
            "openIdConnectUrl": f"{issuer}/.well-known/openid-configuration",
        }
    }
