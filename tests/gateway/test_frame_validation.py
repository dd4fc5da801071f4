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
        ({**GOOD, "nmae": "a"}, "#/nmae", "there is no such member here"),
        ({"inside": GOOD["inside"]}, "#/name", "this is needed"),
        ({**GOOD, "name": 7}, "#/name", "this must be text"),
        ({**GOOD, "name": "A"}, "#/name", "this must match ^[a-z]+$"),
        ({**GOOD, "inside": {"kind": "list"}}, "#/inside/size", "this is needed"),
        ({**GOOD, "inside": {"kind": "list", "size": "many"}}, "#/inside/size", "this must be a whole number"),
        ({**GOOD, "inside": {"kind": "list", "size": 0}}, "#/inside/size", "this must be greater than or equal to 1"),
        ({**GOOD, "inside": {"kind": "list", "size": 1, "tags": []}}, "#/inside/tags", "there is no such member here"),
        ({**GOOD, "inside": {"kind": "song"}}, "#/inside/kind", "this must be 'list' or 'picture'"),
        ({**GOOD, "inside": {}}, "#/inside/kind", "this is needed"),
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


def test_a_wrong_method_is_told_where_the_right_ones_stand() -> None:
    answer = ask(door(Things()), "DELETE", "/v1/things/a")
    assert (answer.json["detail"], answer.fields["allow"]) == ("this path takes other methods: see the field Allow", "GET, PUT")
