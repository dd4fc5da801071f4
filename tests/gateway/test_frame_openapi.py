"""The OpenAPI document says what the frame does to every operation, and the application keeps to it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import settings

from postroom.gateway.rate_limits import ApiRates
from tests.gateway.frame_kit import EDITOR, Things, ask, door

Json = dict[str, Any]
FAST = ApiRates(tenant=1e6, principal=1e6, address=1e6)

schema = schemathesis.openapi.from_asgi("/openapi.json", door(Things(), rates=FAST))
schema.config.generation.update(allow_x00=False)
schema.config.checks.positive_data_acceptance.expected_statuses = ["2xx", "304", "404", "412"]


@schema.parametrize()
@settings(max_examples=25, deadline=None)
def test_the_application_keeps_to_its_document(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(headers=EDITOR)


@pytest.fixture(scope="module")
def document() -> Json:
    app = door(Things(), url="https://door.example")
    found: Json = ask(app, "GET", "/openapi.json").json
    return found


def operation(document: Json, method: str, path: str) -> Json:
    found: Json = document["paths"][path][method]
    return found


def test_it_is_openapi_3_1_of_this_door(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "https://door.example"}]


def test_it_is_cheap_to_ask_for_again() -> None:
    app = door(Things())
    first = ask(app, "GET", "/openapi.json")
    again = ask(app, "GET", "/openapi.json", headers={"If-None-Match": first.fields["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/v1/things", "201 401 403 404 408 409 413 415 422 429 503"),
        ("get", "/v1/things/{thing}", "200 304 401 403 404 422 429 503"),
        ("put", "/v1/things/{thing}", "200 401 403 404 408 409 412 413 415 422 429 503"),
    ],
)
def test_an_operation_lists_every_status_it_may_answer_with(document: Json, method: str, path: str, statuses: str) -> None:
    assert sorted(operation(document, method, path)["responses"]) == statuses.split()


def test_every_problem_has_the_shape_of_one(document: Json) -> None:
    for status, response in document["components"]["responses"].items():
        assert list(response["content"]) == ["application/problem+json"], status
    assert "HTTPValidationError" not in str(document)


def test_references_lead_somewhere(document: Json) -> None:
    def walk(value: object) -> None:
        if isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str):
                found: Any = document
                for part in reference.removeprefix("#/").split("/"):
                    found = found[part]
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(document)


def test_what_creates_takes_an_idempotency_key_and_what_reads_does_not(document: Json) -> None:
    def takes_key(method: str, path: str) -> bool:
        return any(each["name"] == "Idempotency-Key" for each in operation(document, method, path).get("parameters", ()))

    assert takes_key("post", "/v1/things")
    assert not takes_key("post", "/v1/things/preview")
    assert not takes_key("put", "/v1/things/{thing}")


def test_security_names_the_bearer_and_where_tokens_come_from(document: Json) -> None:
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["openid"]["openIdConnectUrl"] == "https://door.example/.well-known/openid-configuration"
    assert {"bearer": []} in operation(document, "post", "/v1/things")["security"]
