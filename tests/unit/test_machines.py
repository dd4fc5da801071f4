"""The state machines (infra/machines) as Amazon States Language has them: the emulator takes anything, AWS does not.

https://states-language.net, JSONPath; and what the two do not have in common: only what both know may be used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MACHINES = Path(__file__).resolve().parents[2] / "infra" / "machines"
NAMES = ("import", "send", "stream", "work")
_COMMON = {"Type", "Comment", "InputPath", "OutputPath", "Next", "End"}
_CAUGHT = {"Retry", "Catch", "ResultPath", "ResultSelector", "Parameters"}
KNOWN = {
    "Task": _COMMON | _CAUGHT | {"Resource", "TimeoutSeconds"},
    "Map": _COMMON
    | _CAUGHT
    | {"Label", "MaxConcurrency", "ToleratedFailurePercentage", "ItemReader", "ItemSelector", "ItemProcessor"},
    "Choice": _COMMON | {"Choices", "Default"},
    "Wait": _COMMON | {"TimestampPath", "Seconds"},
    "Pass": _COMMON | {"Result", "ResultPath", "Parameters"},
    "Succeed": {"Type", "Comment", "InputPath", "OutputPath"},
    "Fail": {"Type", "Comment", "Error", "Cause", "ErrorPath", "CausePath"},
}
"""ItemBatcher, ResultWriter, MaxConcurrencyPath and JSONata are not here: the emulator ignores them."""
_PATH = re.compile(r"\$\$?(\.[A-Za-z][A-Za-z0-9_]*)*")

State = dict[str, Any]


def machine(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((MACHINES / f"{name}.asl.json").read_text())
    return read


def levels(part: dict[str, Any]) -> Iterator[tuple[str, dict[str, State]]]:
    """The machine, and those of its maps: where each starts, and its states."""
    yield part["StartAt"], part["States"]
    for state in part["States"].values():
        if "ItemProcessor" in state:
            yield from levels(state["ItemProcessor"])


def goes_to(state: State) -> list[str]:
    """Every state that may come next."""
    following = [state[each] for each in ("Next", "Default") if each in state]
    return following + [each["Next"] for kind in ("Choices", "Catch") for each in state.get(kind, [])]


def each_state(name: str) -> Iterator[tuple[str, State]]:
    for _, states in levels(machine(name)):
        yield from states.items()


def paths(part: Any) -> Iterator[str]:
    """Every reference into a state's input, or into what a step answered."""
    if isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, str) and (key.endswith((".$", "Path")) or key == "Variable"):
                yield value
            elif key not in {"ItemProcessor"}:
                yield from paths(value)
    elif isinstance(part, list):
        for value in part:
            yield from paths(value)


def test_there_are_no_others() -> None:
    assert {path.name for path in MACHINES.iterdir()} == {f"{name}.asl.json" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_state_is_reached_and_leads_somewhere(name: str) -> None:
    for start, states in levels(machine(name)):
        reached, new = set(), [start]
        while new:
            at = new.pop()
            assert at in states, f"{at} is nowhere"
            if at not in reached:
                reached.add(at)
                new += goes_to(states[at])
        assert reached == set(states)
        for state_name, state in states.items():
            ends = state.get("End", False) is True
            terminal = state["Type"] in {"Succeed", "Fail"}
            assert terminal or state["Type"] == "Choice" or ends != ("Next" in state), state_name
            assert state["Type"] != "Choice" or "Default" in state, (
                f"{state_name}: an answer that nobody knows would fail the run"
            )


@pytest.mark.parametrize("name", NAMES)
def test_only_what_both_know_is_used(name: str) -> None:
    for state_name, state in each_state(name):
        assert set(state) <= KNOWN[state["Type"]], state_name
        assert len(state_name) <= 80
        for path in paths(state):
            assert _PATH.fullmatch(path), f"{state_name}: {path}"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_one_of_a_kind_in_the_whole_machine(name: str) -> None:
    names = [state_name for state_name, _ in each_state(name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_tried_again_whatever_it_fails_with_and_has_an_end(name: str) -> None:
    """The emulator calls every error by one name of its own, so that nothing may hang on names."""
    for state_name, state in each_state(name):
        if state["Type"] == "Task":
            assert state["TimeoutSeconds"] <= 930, state_name
        for kind in ("Retry", "Catch"):
            for each in state.get(kind, []):
                assert each["ErrorEquals"] == ["States.ALL"], f"{state_name}: it stands alone, and last"
        if state["Type"] == "Task":
            (retry,) = state["Retry"]
            assert retry["MaxAttempts"] >= 3
            assert retry["BackoffRate"] >= 2
            assert retry["MaxDelaySeconds"] <= 60, "the emulator waits no longer than that"


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_of_a_step_takes_the_place_of_what_the_run_is_about(name: str) -> None:
    """`$` holds who and what for; answers stand beside it, and rows nowhere."""
    for _, states in levels(machine(name)):
        for state_name, state in states.items():
            if state["Type"] in {"Task", "Map"} and "Next" in state:
                assert state.get("ResultPath", "$") != "$", state_name
            if state["Type"] == "Map":
                assert state["ResultPath"] is None, "the answers of all items together may pass 256 KB"
            for caught in state.get("Catch", []):
                assert caught["ResultPath"] == "$.error", state_name


@pytest.mark.parametrize("name", NAMES)
def test_maps_read_their_list_from_the_bucket_and_run_a_bounded_number(name: str) -> None:
    for _, state in each_state(name):
        if state["Type"] == "Map":
            assert 1 <= state["MaxConcurrency"] <= 50
            assert state["ItemReader"]["Resource"] == "arn:aws:states:::s3:getObject"
            assert state["ItemReader"]["ReaderConfig"] == {"InputType": "JSON"}
            assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
