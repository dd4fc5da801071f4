"""What API Gateway is told of the API: never stricter than the application, and all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema_rs import Draft4Validator

from infra.openapi import description, schema_of
from postroom.entrypoints.application import application
from postroom.settings import Settings
from postroom.wiring import open_app


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The application's own document."""
    with open_app(Settings(data=tmp_path_factory.mktemp("data"))) as postroom:
        document: dict[str, Any] = application(postroom).openapi()
    return document


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return description(lambda function: {"uri": function}, {}, title="postroom")


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(path, method) for path, item in document["paths"].items() for method in item}


def test_it_has_every_call_of_the_application_and_the_links_of_recipients(own: dict[str, Any], told: dict[str, Any]) -> None:
    missing = {path for path, _ in operations(own) - operations(told)}
    assert missing <= {"/v1/transfers/{token}"}, "what S3 does on AWS"
    more = {path for path, _ in operations(told) - operations(own)}
    assert {"/t/o/{token}", "/t/c/{token}"} <= more
    assert any(path.startswith("/u/") for path in more)


def test_whoever_must_sign_in_there_must_here(own: dict[str, Any], told: dict[str, Any]) -> None:
    for path, method in operations(own) & operations(told):
        there, here = own["paths"][path][method], told["paths"][path][method]
        assert bool(there.get("security")) == bool(here.get("security")), (path, method)


def test_every_example_of_the_documentation_passes(own: dict[str, Any], told: dict[str, Any]) -> None:
    named = own["components"]["schemas"]
    tried = 0
    for path, method in operations(own) & operations(told):
        body = own["paths"][path][method].get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        schema = told["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"]
        for example in examples(body["schema"], named):
            Draft4Validator(schema).validate(example)
            tried += 1
    assert tried > 10


def examples(schema: dict[str, Any], named: dict[str, Any]) -> list[Any]:
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    found: list[Any] = schema.get("examples", [])
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "string", "maxLength": 5, "pattern": "(?i)x", "examples": ["a"]}, {"type": "string", "maxLength": 5}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, {}),
        ({"const": "utc"}, {"enum": ["utc"]}),
        ({"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": ["string", "null"]}, {}),
    ],
)
def test_what_older_words_cannot_say_is_left_out(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert schema_of(given, {}) == expected


def test_a_schema_that_names_itself_ends() -> None:
    named = {"Tree": {"type": "object", "properties": {"left": {"$ref": "#/components/schemas/Tree"}}}}
    assert json.dumps(schema_of({"$ref": "#/components/schemas/Tree"}, named))
