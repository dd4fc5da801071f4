"""An import of ten million rows fits what AWS allows, as docs/reference/aws-limits.md tells it: arithmetic, no rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postroom.entrypoints.lambdas.workflow import Order
from postroom.ledger import scheduler_messages
from postroom.model.batch import batches_for
from postroom.model.campaign import CampaignRef
from postroom.model.upload import MAX_BYTES, UploadKind
from postroom.pipeline.splitter.plan import SIZES, UploadRange, batches_of, group_of, groups_for

ROWS = 10_000_000
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "aws-limits.md").read_text()
MACHINE: dict[str, Any] = json.loads((ROOT / "infra" / "machines" / "import.asl.json").read_text())
STATE_BYTES = 256 * 1024
FUNCTION_S = 15 * 60
SLOWEST_ROWS_A_SECOND = 250
"""A quarter of what a function of one vCPU stores."""
PARTITION_WRITES = 1_000
NEW_TABLE_WRITES = 4_000
EVENTS = 25_000

BATCHES = batches_for(ROWS)
GROUPS = groups_for(BATCHES)
RANGES = -(-ROWS // SIZES.range_rows)


def longest_range() -> UploadRange:
    size = MAX_BYTES[UploadKind.RECIPIENTS]
    return UploadRange(RANGES, size - SIZES.range_bytes, size, ROWS * 10, SIZES.range_rows)


def states(machine: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every state with its name and those beside it."""
    for name, state in machine["States"].items():
        yield name, state, machine["States"]
        if "ItemProcessor" in state:
            yield from states(state["ItemProcessor"])


def test_the_page_tells_these_figures() -> None:
    for figure in (f"{BATCHES:,}", f"| {RANGES} |", f"| {GROUPS} |", f"{SIZES.range_rows:,} rows", f"{SIZES.chunk_rows:,} rows"):
        assert figure in PAGE
    assert (BATCHES, RANGES, GROUPS) == (20_000, 200, 100)


def test_what_states_pass_is_small() -> None:
    """256 KB a state, 6 MB a function: lists stand in S3, and a map throws its answers away."""
    ref = CampaignRef("t" * 63, "c" * 16)
    order = Order("import", ref.campaign, 1_000, scheduler_messages.ref_input(ref), msgspec.to_builtins(longest_range()))
    assert len(msgspec.json.encode(order)) < 1_024
    assert len(msgspec.json.encode(longest_range())) < 120
    assert len(msgspec.json.encode([longest_range()] * RANGES)) < 20_000
    assert 3 * max(RANGES, GROUPS) < STATE_BYTES / 100  # `{}` and a comma, before they are thrown away
    for _, state, _ in states(MACHINE):
        if state["Type"] == "Map":
            assert state["ResultPath"] is None
            ends = [each for each in state["ItemProcessor"]["States"].values() if each.get("End")]
            assert [end["OutputPath"] for end in ends] == [None]


def test_the_history_of_the_execution_does_not_grow_with_rows() -> None:
    """A state makes five events at most, and three for each attempt; the children of a map have histories of their own."""
    attempts = 1 + max(retry["MaxAttempts"] for _, state, _ in states(MACHINE) for retry in state.get("Retry", ()))
    assert len(MACHINE["States"]) * (5 + 3 * attempts) < EVENTS / 10
    assert all(
        s["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED" for _, s, _ in states(MACHINE) if s["Type"] == "Map"
    )


def test_a_group_ends_in_time_on_a_slow_table_and_has_no_more_than_its_partitions_take() -> None:
    rows = SIZES.group_batches * 500
    assert rows / SLOWEST_ROWS_A_SECOND < FUNCTION_S / 2
    assert SIZES.chunk_rows / SLOWEST_ROWS_A_SECOND < 240  # what is left to the last chunk (lambdas/importing.py)
    assert NEW_TABLE_WRITES / SIZES.group_batches < PARTITION_WRITES / 10
    assert MACHINE["States"]["Groups"]["MaxConcurrency"] * 1_000 <= NEW_TABLE_WRITES


@pytest.mark.parametrize("rows", [1, 499, 501, 100_000, 100_001, 1_234_567, ROWS])
def test_groups_hold_every_batch_once_and_are_of_one_size(rows: int) -> None:
    batches = batches_for(rows)
    groups = groups_for(batches)
    sizes = Counter(group_of(batch, batches, groups) for batch in range(batches))
    assert set(sizes) == set(range(groups))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert max(sizes.values()) <= SIZES.group_batches
    for group in (0, groups // 2, groups - 1):
        assert [group_of(batch, batches, groups) for batch in batches_of(group, batches, groups)] == [group] * sizes[group]


def test_the_machine_is_whole() -> None:
    """Every state that is named is there, every task is tried again and caught, every name is there once, each task ends."""
    names = [name for name, _, _ in states(MACHINE)]
    assert len(names) == len(set(names))
    for name, state, beside in states(MACHINE):
        nexts = [
            state.get("Next"),
            state.get("Default"),
            *(each["Next"] for each in (*state.get("Catch", ()), *state.get("Choices", ()))),
        ]
        assert all(each in beside for each in nexts if each), name
        assert state["Type"] in {"Succeed", "Fail", "Choice"} or state.get("End") or "Next" in state, name
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] > 60, name
            assert [retry["ErrorEquals"] for retry in state["Retry"]] == [["States.ALL"]], name
            assert "Catch" in state or name == "End" or "Failed" in name, name
