"""The reference of the API is made from the door's own document, which explains everything that it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.entrypoints.api_reference import reference
from postroom.entrypoints.application import application
from postroom.settings import Settings
from postroom.wiring import open_app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    with open_app(Settings(data=tmp_path_factory.mktemp("door"))) as postroom:
        return application(postroom).openapi()


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_page_is_made_from_the_door(document: Json) -> None:
    """`make docs` makes it; on every machine the same."""
    page = PAGE.read_text("utf-8")
    assert page == reference()
    assert all(f"\n### {call}\n" in page for call, _ in operations(document))


def test_every_parameter_and_member_is_explained(document: Json) -> None:
    """A member that refers to a shape may leave it to that."""
    shapes = document["components"]["schemas"]
    named = [(call, each["name"], each) for call, operation in operations(document) for each in operation.get("parameters", ())]
    named += [(name, member, one) for name, shape in shapes.items() for member, one in shape.get("properties", {}).items()]
    silent = [(where, name) for where, name, one in named if not one.get("description") and "$ref" not in one]
    assert [(where, name) for where, name in silent if not where.startswith("Page_")] == []
    assert [name for name, shape in shapes.items() if not shape.get("description") and not name.startswith("Page_")] == []


def test_every_operation_has_a_summary_of_its_own(document: Json) -> None:
    summaries = [operation["summary"] for _, operation in operations(document)]
    assert all(len(summary.split()) > 1 for summary in summaries)
    assert len(summaries) == len(set(summaries))


def test_every_body_has_an_example(document: Json) -> None:
    """One that can be tried: of every shape that is sent."""
    sent = {each for _, operation in operations(document) for each in references(operation.get("requestBody", {}))}
    assert sent
    assert [name for name in sent if not document["components"]["schemas"][name].get("examples")] == []


def references(value: object) -> Iterator[str]:
    """Names of shapes."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)
