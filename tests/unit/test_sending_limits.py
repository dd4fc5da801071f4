"""Sending ten million messages fits what AWS allows, as docs/reference/aws-limits.md tells it: arithmetic, no messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postroom.entrypoints.lambdas.send_steps import CYCLES_PER_RUN, SHARD_S
from postroom.entrypoints.lambdas.workflow import Order
from postroom.ledger import scheduler_messages
from postroom.model.batch import batches_for
from postroom.model.campaign import CampaignRef
from postroom.pipeline.sender.dispatch import MAX_SHARD_BATCHES, RATE_PER_FUNCTION, functions_for, split_into_shards

ROWS = 10_000_000
RATE = 500.0
MOST = 50
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "aws-limits.md").read_text().partition("## Sending")[2]
SEND: dict[str, Any] = json.loads((ROOT / "infra" / "machines" / "send.asl.json").read_text())
STATE_BYTES = 256 * 1024
EVENTS = 25_000
EVENTS_A_ROUND = 5 + 2 + 4 + 2
"""A task (entered, scheduled, started, succeeded, left), a choice, a map (entered, started, succeeded, left), a wait."""


def test_the_page_tells_these_figures() -> None:
    functions = functions_for(RATE, MOST)
    rounds = ROWS / (RATE * SHARD_S)
    figures = [
        f"| functions side by side | {functions} |",
        f"| rounds | {-(-rounds // 1):.0f} |",
        f"{MAX_SHARD_BATCHES:,} batches at most",
        f"each {RATE_PER_FUNCTION:.0f} messages a second, {MOST} at most",
        f"| {SHARD_S:.0f} s, then",
        f"{EVENTS_A_ROUND} events a round, {CYCLES_PER_RUN} rounds, then a new run: {EVENTS_A_ROUND * CYCLES_PER_RUN:,}",
        f"| batches | {batches_for(ROWS):,} |",
    ]
    for figure in figures:
        assert figure in PAGE, figure


@pytest.mark.parametrize("rows", [1, 500, ROWS, 10 * ROWS])
@pytest.mark.parametrize("rate", [None, 1.0, RATE, 100_000.0])
def test_lists_and_items_fit(rows: int, rate: float | None) -> None:
    """However large the campaign: what does not fit waits for the next look."""
    functions = functions_for(rate, MOST)
    due = range(batches_for(rows))[: functions * MAX_SHARD_BATCHES]
    portions = list(split_into_shards(due, functions))
    assert 1 <= len(portions) <= MOST == SEND["States"]["Send"]["MaxConcurrency"]
    ref = CampaignRef("t" * 63, "c" * 16)
    order = Order("send", ref.campaign, 1_000, scheduler_messages.ref_input(ref), portions[0], len(portions))
    assert len(msgspec.json.encode(order)) < 14_000 < STATE_BYTES / 10
    assert len(msgspec.json.encode(portions)) < 600_000


def test_the_history_of_a_run_stays_far_below_its_limit() -> None:
    retries = SEND["States"]["Look"]["Retry"][0]["MaxAttempts"]
    assert CYCLES_PER_RUN * EVENTS_A_ROUND + 3 * retries < EVENTS / 2


def test_a_portion_is_left_in_time() -> None:
    """Whatever the function had before: a look takes it for a few minutes, and Lambda gives fifteen."""
    assert SHARD_S < 15 * 60 - 60


def test_the_answers_of_a_map_are_small_before_they_are_thrown_away() -> None:
    assert MOST * len('{"left":2000},') < STATE_BYTES / 100
