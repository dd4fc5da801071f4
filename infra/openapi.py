"""The application's own OpenAPI document, as API Gateway reads it: the API is built from what the application says it is.

API Gateway takes OpenAPI 3.0 with JSON Schema draft 4 and no more; the application speaks 3.1. What cannot be said in the older
words is left out, so that API Gateway refuses no call that the application would take: no schema is stricter here than there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from postroom.entrypoints.application import frame
from postroom.entrypoints.services import SERVICES
from postroom.gateway.app import create_app
from postroom.settings import Settings
from postroom.wiring import open_postroom

FUNCTION_OF: Final = {
    "templates": "template-api",
    "uploads": "upload-api",
    "email": "email-api",
    "status": "status-api",
    "callbacks": "callback-api",
    "access": "access-api",
    "tracking": "tracking",
}
"""By the service's name."""
AUTHORIZER: Final = "caller"
OPEN: Final = {"/t/{hit+}": ("get", "head"), "/u/{link+}": ("get", "head", "post")}
"""Of recipients, who sign in nowhere: the function `tracking`."""
_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
_KEPT: Final = frozenset(
    {
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "format",
    }
)
_FORMATS: Final = frozenset({"int32", "int64", "float", "double"})
"""Others API Gateway either does not know or reads more strictly than we do."""


def description(integration: Callable[[str], Mapping[str, Any]], authorizer: Mapping[str, Any], *, title: str) -> dict[str, Any]:
    """`integration`: of a function, by its name."""
    documents = dict(_documents())
    paths: dict[str, Any] = {}
    for service, document in documents.items():
        target = integration(FUNCTION_OF[service])
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method in _METHODS:
                    paths.setdefault(path, {})[method] = _operation(operation, target, document)
    for path, methods in OPEN.items():
        described = {**_answers(), "parameters": _path_parameters(path)}
        paths[path] = {
            method: {**described, "x-amazon-apigateway-integration": dict(integration("tracking"))} for method in methods
        }
    return {
        "openapi": "3.0.1",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {AUTHORIZER: dict(authorizer)}},
        "x-amazon-apigateway-request-validators": {"all": {"validateRequestBody": True, "validateRequestParameters": True}},
        "x-amazon-apigateway-request-validator": "all",
    }


def _documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """What each service says of itself; an installation that nobody else sees is opened for it."""
    with TemporaryDirectory() as directory, open_postroom(Settings(data=Path(directory))) as postroom:
        for service in SERVICES:
            if service != "tracking":
                yield service, create_app(frame(postroom), SERVICES[service](postroom)).openapi()


def _operation(operation: Mapping[str, Any], target: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    given = [_parameter(each) for each in operation.get("parameters", []) if each["in"] in {"path", "query"}]
    described: dict[str, Any] = {
        "operationId": operation["operationId"],
        "parameters": given,
        **_answers(),
        "x-amazon-apigateway-integration": dict(target),
    }
    if operation.get("security"):
        described["security"] = [{AUTHORIZER: []}]
    body = operation.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        schema = schema_of(body["application/json"]["schema"], document["components"]["schemas"])
        described["requestBody"] = {
            "required": bool(operation["requestBody"].get("required")),
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _answers() -> dict[str, Any]:
    return {"responses": {"default": {"description": "As the application's own document says."}}}


def _parameter(given: Mapping[str, Any]) -> dict[str, Any]:
    """API Gateway looks whether a parameter that is required is there, and at nothing else of it."""
    return {"name": given["name"], "in": given["in"], "required": bool(given.get("required")), "schema": {"type": "string"}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1].rstrip("+") for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def schema_of(given: Mapping[str, Any], named: Mapping[str, Any], *, depth: int = 0) -> dict[str, Any]:
    """A JSON Schema of draft 2020-12, in the words that draft 4 has too; never stricter."""
    if "$ref" in given:
        return {} if depth > 8 else schema_of(named[given["$ref"].rpartition("/")[2]], named, depth=depth + 1)
    if "anyOf" in given or "oneOf" in given or "allOf" in given or isinstance(given.get("type"), list):
        return {}
    said = {word: value for word, value in given.items() if word in _KEPT}
    if said.get("format") not in _FORMATS:
        said.pop("format", None)
    if "const" in given:
        said["enum"] = [given["const"]]
    if "items" in said:
        said["items"] = schema_of(said["items"], named, depth=depth + 1)
    if "properties" in said:
        said["properties"] = {name: schema_of(each, named, depth=depth + 1) for name, each in said["properties"].items()}
    if given.get("additionalProperties") is False:
        said["additionalProperties"] = False
    return said
