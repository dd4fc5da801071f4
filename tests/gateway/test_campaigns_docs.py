"""docs/reference/campaigns.md says what there is: every route with its role, every column of an export."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi.routing import APIRoute

from postroom.gateway.routes.recipients import suppression_routes
from postroom.services.exports import COLUMNS
from postroom.services.suppression import SuppressionLists
from tests.gateway.campaign_office import office

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "campaigns.md").read_text("utf-8")


def test_every_route_is_documented_and_no_other(tmp_path: Path) -> None:
    with office(tmp_path) as desk:
        lists = SuppressionLists(desk.suppression, desk.tenants, desk.made.clock)
        routers = [*desk.routes(), suppression_routes(lists)]
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    there = {f"{method} {route.path}" for route in routes for method in route.methods or ()}
    assert set(re.findall(r"^\| `([A-Z]+ /v1/\S+)` \|", PAGE, re.MULTILINE)) == there


def test_every_column_of_an_export_is_named() -> None:
    assert ", ".join(f"`{name}`" for name in COLUMNS) in PAGE
