"""The page of conventions says the numbers that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.gateway import pipeline, rate_limits
from postroom.gateway.idempotency import KEPT_MS
from postroom.gateway.limits import RequestLimits
from postroom.gateway.middleware import EXPOSED_HEADERS

PAGE = " ".join((Path(__file__).parents[2] / "docs/reference/http.md").read_text("utf-8").split())


@pytest.mark.parametrize(
    "said",
    [
        f"{RequestLimits().body // 1_000_000} MB",
        f"must come within {RequestLimits().body_s:g} seconds",
        f"not answered after {RequestLimits().handle_s:g} seconds",
        f"More than {RequestLimits().in_progress:,} requests",
        f"({RequestLimits().per_tenant:,} of one tenant, {RequestLimits().unauthenticated} of callers without credentials)",
        f"{RequestLimits().handlers} calls that wait",
        f"within {KEPT_MS // 3_600_000} hours",
        f"up to {pipeline._LONGEST_WAIT_S:g} seconds",
        f"and {rate_limits._LEAST_BURST} always may",
    ],
)
def test_a_number(said: str) -> None:
    assert said in PAGE


def test_the_fields_that_scripts_may_read_are_explained() -> None:
    assert [name for name in EXPOSED_HEADERS if f"{name}" not in PAGE and name != "Location"] == []
