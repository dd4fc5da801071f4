"""Which function answers what: every route of the API has one, and API Gateway can tell them apart."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from postroom.entrypoints.application import application
from postroom.entrypoints.lambdas.routes import FUNCTIONS, document, documents, function_of, table
from postroom.settings import Settings
from postroom.wiring import open_app
from tests.lambdas.rest_kit import ROOT


@pytest.mark.parametrize(
    ("method", "path", "function"),
    [
        ("GET", "/v1/templates/{template_id}", "template-api"),
        ("POST", "/v1/templates/{template_id}/test", "email-api"),
        ("POST", "/v1/uploads", "upload-api"),
        ("POST", "/v1/campaigns", "email-api"),
        ("GET", "/v1/campaigns/{campaign_id}/status", "status-api"),
        ("GET", "/v1/campaigns/{campaign_id}/export.csv", "status-api"),
        ("GET", "/v1/callbacks", "callback-api"),
        ("POST", "/v1/keys", "access-api"),
        ("GET", "/t/c/{token}", "tracking"),
        ("POST", "/u/{token}", "tracking"),
        ("GET", "/openapi.json", "status-api"),
        ("GET", "/v1/nothing", None),
    ],
)
def test_a_call_has_its_function(method: str, path: str, function: str | None) -> None:
    assert function_of(path, method) == function


def test_every_route_under_v1_has_one(tmp_path: Path) -> None:
    with open_app(Settings(data=tmp_path)) as postroom:
        app = application(postroom)
    routes = {
        (route.path_format, method)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path.startswith("/v1/")
        for method in route.methods or ()
    }
    assert routes == {(one.path, one.method) for one in table() if one.path.startswith("/v1/")}


def test_only_what_needs_no_credentials_is_open() -> None:
    assert {one.path for one in table() if one.is_open and one.path.startswith("/v1/")} == set()


def test_a_place_in_paths_has_one_name() -> None:
    """API Gateway allows one variable among siblings."""
    names: dict[str, set[str]] = defaultdict(set)
    for one in table():
        parts = one.path.split("/")
        for at, part in enumerate(parts):
            if part.startswith("{"):
                names["/".join(parts[:at])].add(part)
    assert {before: found for before, found in names.items() if len(found) > 1} == {}


def test_each_functions_document_holds_its_own_operations_and_together_they_are_the_whole() -> None:
    own = documents()
    assert own.keys() == set(FUNCTIONS.values())
    operations = sorted(
        told["operationId"] for each in own.values() for methods in each["paths"].values() for told in methods.values()
    )
    assert operations == sorted(told["operationId"] for methods in document()["paths"].values() for told in methods.values())


def test_the_page_tells_each_function() -> None:
    page = (ROOT / "docs" / "reference" / "aws-functions.md").read_text("utf-8")
    assert [name for name in FUNCTIONS.values() if f"`{name}`" not in page] == []
