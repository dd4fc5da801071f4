"""The application's own OpenAPI document, as API Gateway reads it: the API is built from what the application says it is.

API Gateway takes OpenAPI 3.0 with JSON Schema draft 4 and no more; the application speaks 3.1. What cannot be said in the older
words is left out, so that API Gateway refuses no call that the application would take: no schema is stricter here than there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from postroom.entrypoints.lambdas import routes

AUTHORIZER: Final = "caller"
BINARY: Final = ["*/*"]
"""Else the pixel, which is a GIF, would arrive as its base64."""
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
    document = routes.document()
    paths: dict[str, Any] = {}
    for served in routes.table():
        method = served.method.lower()
        told = document["paths"].get(served.path, {}).get(method, {})  # recipients' links are in no document
        described = _operation(told, document, path=served.path, is_open=served.is_open)
        described["x-amazon-apigateway-integration"] = dict(integration(served.function))
        paths.setdefault(served.path, {})[method] = described
    return {
        "openapi": "3.0.1",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {AUTHORIZER: dict(authorizer)}},
        "x-amazon-apigateway-request-validators": {"all": {"validateRequestBody": True, "validateRequestParameters": True}},
        "x-amazon-apigateway-request-validator": "all",
        "x-amazon-apigateway-binary-media-types": BINARY,
    }


def _operation(told: Mapping[str, Any], document: Mapping[str, Any], *, path: str, is_open: bool) -> dict[str, Any]:
    given = [_parameter(each) for each in told.get("parameters", []) if each["in"] in {"path", "query"}]
    described: dict[str, Any] = {
        "parameters": given or _path_parameters(path),
        "responses": {"default": {"description": "As the application's own document says."}},
    }
    if not is_open:
        described["security"] = [{AUTHORIZER: []}]
    body = told.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        schema = schema_of(body["application/json"]["schema"], document["components"]["schemas"])
        described["requestBody"] = {
            "required": bool(told["requestBody"].get("required")),
            "content": {"application/json": {"schema": schema}},
        }
    return described


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
