"""Faults of a request: the place is a pointer into what was sent, the sentence is for who sent it, and no value is repeated."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from postroom.gateway.access import Viewer
from postroom.gateway.app import create_app
from postroom.gateway.audit import reads
from postroom.gateway.pipeline import Route
from postroom.gateway.state import GatewayConfig
from tests.fakes.clock import ManualClock
from tests.gateway.frame_kit import EDITOR, Things, ask, door
from tests.gateway.kit import Believer


class Sort(StrEnum):
    LIST = "list"
    PICTURE = "picture"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListOf(Strict):
    kind: Literal[Sort.LIST]
    size: int = Field(ge=1)


class Picture(Strict):
    kind: Literal[Sort.PICTURE]
    tags: list[Annotated[str, Field(max_length=3)]] = Field(default=[], max_length=2)


class Parcel(Strict):
    name: str = Field(pattern="^[a-z]+$")
    inside: Annotated[ListOf | Picture, Field(discriminator="kind")]
    label: Picture | None = None
    note: str = Field(default="a", min_length=1)


def faults(body: Any, query: str = "") -> list[tuple[str, str, str]]:
    """`in`, pointer and sentence of each, in an answer of a door that takes parcels."""
    router = APIRouter(prefix="/v1/parcels", tags=["parcels"], route_class=Route)

    @router.post("")
    @reads
    def take(body: Parcel, who: Viewer, much: Annotated[int, Query(ge=1)] = 1) -> None:
        """Take one."""

    app = create_app(GatewayConfig(authenticator=Believer(), clock=ManualClock()), [router])
    answer = ask(app, "POST", f"/v1/parcels{query}", json=body, headers=EDITOR)
    assert answer.status == 422
    return [(one["in"], one["pointer"], one["detail"]) for one in answer.json["errors"]]


GOOD = {"name": "a", "inside": {"kind": "list", "size": 1}}


@pytest.mark.parametrize(
    ("body", "pointer", "sentence"),
    [
        ([], "#", "this must be an object"),
        ({**GOOD, "nmae": "a"}, "#/nmae", "unknown member; did you mean 'name'?"),
        ({"inside": GOOD["inside"]}, "#/name", "this is required"),
        ({**GOOD, "name": 7}, "#/name", "this must be text"),
        ({**GOOD, "name": "A"}, "#/name", "this must match ^[a-z]+$"),
        ({**GOOD, "inside": {"kind": "list"}}, "#/inside/size", "this is required"),
        ({**GOOD, "inside": {"kind": "list", "size": "many"}}, "#/inside/size", "this must be a whole number"),
        ({**GOOD, "inside": {"kind": "list", "size": 0}}, "#/inside/size", "this must be greater than or equal to 1"),
        ({**GOOD, "inside": {"kind": "list", "size": 1, "tags": []}}, "#/inside/tags", "unknown member"),
        ({**GOOD, "inside": {"kind": "song"}}, "#/inside/kind", "this must be 'list' or 'picture'"),
        ({**GOOD, "inside": {}}, "#/inside/kind", "this is required"),
        (
            {**GOOD, "inside": {"kind": "picture", "tags": ["a", "long"]}},
            "#/inside/tags/1",
            "this must have at most 3 characters",
        ),
        ({**GOOD, "inside": {"kind": "picture", "tags": ["a"] * 3}}, "#/inside/tags", "this must have at most 2 members"),
        ({**GOOD, "label": {"kind": "picture", "tags": "a"}}, "#/label/tags", "this must be an array"),
        ({**GOOD, "note": ""}, "#/note", "this must not be empty"),
        ({**GOOD, "label": "a"}, "#/label", "this must be an object"),
    ],
)
def test_a_fault_is_placed_in_what_was_sent_and_said_plainly(body: object, pointer: str, sentence: str) -> None:
    assert faults(body) == [("body", pointer, sentence)]


def test_a_fault_outside_of_the_body_keeps_its_place() -> None:
    assert faults(GOOD, "?much=lots") == [("query", "#/much", "this must be a whole number")]


def test_an_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    assert faults(GOOD, "?mcuh=1") == [("query", "#/mcuh", "unknown parameter; did you mean 'much'?")]
    assert faults(GOOD, "?color=1&much=1&size") == [
        ("query", "#/color", "unknown parameter; this route takes much"),
        ("query", "#/size", "unknown parameter; this route takes much"),
    ]


def test_who_is_unknown_learns_nothing_about_parameters() -> None:
    answer = ask(door(Things()), "GET", "/v1/things/a?mcuh=1")
    assert answer.json["type"] != "/problems/unknown-parameter"


def test_a_wrong_method_is_told_where_the_right_ones_stand() -> None:
    answer = ask(door(Things()), "DELETE", "/v1/things/a")
    assert (answer.json["detail"], answer.fields["allow"]) == (
        "this path does not take this method: see the header field Allow",
        "GET, PUT",
    )
