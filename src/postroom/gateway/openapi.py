"""The OpenAPI 3.1 document: what routes declare, and what the gateway adds to each of them.

The gateway adds problems (by what an operation takes: credentials, a path, a body, `If-Match`), the header fields of every
response and the `Idempotency-Key`, so that no route has to declare them and none can forget.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from postroom.gateway.errors import MEDIA_TYPE, PROBLEM_TYPES
from postroom.gateway.pipeline import Route
from postroom.gateway.state import GatewayConfig

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
            "description": "The problem type, stable: decide by it. The installation explains it at this path.",
            "examples": ["/problems/not-found"],
        },
        "title": {"type": "string", "description": "The problem type in words.", "examples": ["Not found"]},
        "status": {"type": "integer", "description": "The HTTP status.", "examples": [404]},
        "detail": {
            "type": "string",
            "description": "What is wrong in this case, for people.",
            "examples": ["there is no template of that id"],
        },
        "request_id": {"type": "string", "description": "The request's id in the log; also in `X-Request-Id`."},
        "errors": {
            "type": "array",
            "description": "The places that are not valid.",
            "items": {
                "type": "object",
                "required": ["in", "pointer", "detail"],
                "properties": {
                    "in": {"type": "string", "description": "`body`, `query`, `path` or `header`.", "examples": ["body"]},
                    "pointer": {
                        "type": "string",
                        "description": "A JSON pointer (RFC 6901) in it.",
                        "examples": ["#/schedule/at"],
                    },
                    "detail": {"type": "string", "description": "What is wrong with it.", "examples": ["Field required"]},
                },
            },
        },
        "findings": {
            "type": "array",
            "description": "For a refused template: its errors and warnings, as in `POST /v1/templates/validate`.",
            "items": {"type": "object"},
        },
    },
}

IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes the request repeatable for 24 hours: the same key and content return the same response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]{1,255}$"},
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}


def _field(description: str, example: str) -> Json:
    return {"description": description, "schema": {"type": "string"}, "example": example}


FIELDS: Json = {
    "X-Request-Id": _field("The request's id in the log; yours, if you sent one.", "k3v5p7xq2m4n6r8t"),
    "RateLimit": _field("The nearest limit: requests left, seconds until it is full.", '"caller";r=999;t=1'),
    "RateLimit-Policy": _field("The limits: requests, and the seconds in which they refill.", '"caller";q=1000;w=1'),
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}, "example": 2},
    "ETag": _field("The version of the record.", '"3"'),
    "Idempotent-Replayed": _field("`true`: the stored response of an earlier request with the same `Idempotency-Key`.", "true"),
    "WWW-Authenticate": _field("The authentication scheme.", 'Bearer realm="postroom"'),
}


def _responses() -> Json:
    responses: Json = {}
    for kind in PROBLEM_TYPES:
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


def security_schemes(config: GatewayConfig) -> Json:
    """The security schemes: `bearer`, and where access tokens come from."""
    issuer = (config.issuer or config.url).rstrip("/")
    return {
        "openid": {
            "type": "openIdConnect",
            "description": "The issuer of access tokens; they are sent as `bearer`.",
            "openIdConnectUrl": f"{issuer}/.well-known/openid-configuration",
        }
    }


_TITLE = "Postroom"
_DESCRIPTION = """An email platform that you host: templates, recipients, campaigns, transactional messages and their status.

Every error is a problem (RFC 9457). Lists come in pages (`limit`, `cursor`). Times are RFC 3339 in UTC. A POST that creates or
sends takes an `Idempotency-Key`. No text may hold the character U+0000. Clients must ignore members they do not know."""
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})


def openapi_document(app: FastAPI, config: GatewayConfig) -> Json:
    """The document; the same object each time."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app, config)
    return app.openapi_schema


def _document(app: FastAPI, config: GatewayConfig) -> Json:
    document = get_openapi(
        title=_TITLE,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        servers=[{"url": config.url or "/"}],
    )
    for path, method, operation in _operations(document):
        _complete(operation, path, method)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            _add_traits(document["paths"][route.path_format], route)
    components: Json = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _name_members(schemas)
    components["schemas"] = {"Problem": PROBLEM, **schemas}
    components["responses"] = RESPONSES
    components["headers"] = FIELDS
    components["securitySchemes"] = components.get("securitySchemes", {}) | security_schemes(config)
    return document


def _name_members(schema: Any) -> None:
    """Adds `propertyNames`. Pydantic describes `dict[Name, Value]` by pattern properties, which allow other names too."""
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _name_members(each)
    if isinstance(schema, dict) and isinstance(schema.get("patternProperties"), dict):
        ((pattern, values),) = schema.pop("patternProperties").items()
        schema["propertyNames"] = {"pattern": pattern}
        schema["additionalProperties"] = values


def _operations(document: Json) -> list[tuple[str, str, Json]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in _METHODS
    ]


def _complete(operation: Json, path: str, method: str) -> None:
    responses: Json = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
    for status in _statuses(operation, path, method):
        responses.setdefault(status, {"$ref": f"#/components/responses/{status}"})
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
        parameter.setdefault("description", parameter["schema"].get("description", ""))
    takes_tag = any(parameter["name"].lower() == "if-none-match" for parameter in operation.get("parameters", ()))
    for status, response in responses.items():
        if "$ref" in response:
            continue
        fields = response.setdefault("headers", {})
        names = ["X-Request-Id", *(("RateLimit", "RateLimit-Policy") if path.startswith("/v1/") else ())]
        names += ["ETag"] if takes_tag and status in {"200", "304"} else []
        for name in names:
            fields.setdefault(name, {"$ref": f"#/components/headers/{name}"})
    if operation.get("security"):
        operation["security"] = [{"bearer": []}, {"openid": []}]


def _without_null(schema: Json) -> Json:
    """Removes `null` from an optional parameter: FastAPI adds it, but in a query it would be the text `null`."""
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if not kept:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**kept[0], **rest} if len(kept) == 1 else {**rest, "anyOf": kept}


def _statuses(operation: Json, path: str, method: str) -> list[str]:
    """The problem statuses that the pipeline, or any handler, may return."""
    parameters = operation.get("parameters", ())
    statuses = []
    if operation.get("security"):
        statuses += ["401", "403"]
    if path.startswith("/v1/"):
        statuses += ["422", "429", "503"]
    if "{" in path:
        statuses += ["404"]
    if method != "get" and path.startswith("/v1/"):
        statuses += ["404", "409"]
    if "requestBody" in operation:
        statuses += ["408", "413", "415", "422"]
    if any(parameter["name"].lower() == "if-match" for parameter in parameters):
        statuses += ["412"]
    return sorted(set(statuses))


def _add_traits(operations: Json, route: APIRoute) -> None:
    """Adds what FastAPI does not take from a route's declaration."""
    for method in route.methods or ():
        operation = operations[method.lower()]
        if route.summary is None:
            _summarise(operation)
        if isinstance(route, Route) and route.demands is not None:
            operation["x-role"] = route.demands
        if isinstance(route, Route) and route.keyed:
            _add_key(operation)


def _summarise(operation: Json) -> None:
    """Sets the summary to the first sentence of the handler's docstring."""
    first, *rest = re.split(r"\.(?:\s+|$)", operation.pop("description", ""), maxsplit=1)
    operation["summary"] = " ".join(first.split())
    if rest and rest[0]:
        operation["description"] = rest[0]


def _add_key(operation: Json) -> None:
    operation.setdefault("parameters", []).append(IDEMPOTENCY_KEY)
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            response["headers"]["Idempotent-Replayed"] = {"$ref": "#/components/headers/Idempotent-Replayed"}
