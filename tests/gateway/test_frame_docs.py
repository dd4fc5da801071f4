"""The page of conventions says the numbers that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.gateway import passage, rates
from postroom.gateway.breaker import BreakerOptions
from postroom.gateway.headers import EXPOSED
from postroom.gateway.idempotency import KEPT_MS
from postroom.gateway.limits import Limits

PAGE = " ".join((Path(__file__).parents[2] / "docs/reference/http.md").read_text("utf-8").split())


@pytest.mark.parametrize(
    "said",
    [
        f"{Limits().body // 1_000_000} MB",
        f"must come within {Limits().body_s:g} seconds",
        f"not answered after {Limits().handle_s:g} seconds",
        f"More than {Limits().in_progress:,} requests",
        f"({Limits().of_a_tenant:,} of one tenant, {Limits().strangers} of callers without credentials)",
        f"{Limits().handlers} calls that wait",
        f"within {KEPT_MS // 3_600_000} hours",
        f"up to {passage._LONGEST_WAIT_S:g} seconds",
        f"and {rates._LEAST_BURST} always may",
        f"After {'five' if BreakerOptions().failures == 5 else '?'} failures",
        f"after {BreakerOptions().wait_s:g} seconds, then {BreakerOptions().wait_s * 2:g}, up to {BreakerOptions().longest_s:g}",
    ],
)
def test_a_number(said: str) -> None:
    assert said in PAGE


def test_the_fields_that_scripts_may_read_are_explained() -> None:
    assert [name for name in EXPOSED if f"{name}" not in PAGE and name != "Location"] == []
