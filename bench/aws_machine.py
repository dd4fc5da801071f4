"""Runs a state machine of the stack (infra/machines) step by step in this process, and counts what Step Functions bills.

Every state that is entered is a transition, in each item of a distributed map too; a map's item is one more when it begins. As
much of the language as these machines use; nothing fails here, so Retry and Catch are not looked at.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

MACHINES = Path(__file__).resolve().parents[1] / "infra" / "machines"
Function = Callable[[Any], Any]


@dataclass
class Machine:
    """One. `functions` by their placeholder (`${Sender}`); `listed` reads a list by its key."""

    definition: Mapping[str, Any]
    functions: Mapping[str, Function]
    listed: Callable[[str], list[Any]]
    entered: Counter[str] = field(default_factory=Counter)
    items: int = 0

    @classmethod
    def named(cls, name: str, functions: Mapping[str, Function], listed: Callable[[str], list[Any]]) -> Machine:
        return cls(json.loads((MACHINES / f"{name}.asl.json").read_text("utf-8")), functions, listed)

    @property
    def transitions(self) -> int:
        return self.entered.total() + self.items

    def run(self, given: Any) -> Any:
        """Until it ends well; an `AssertionError` where it does not."""
        return self._run(self.definition, given)

    def _run(self, machine: Mapping[str, Any], given: Any) -> Any:
        name: str | None = machine["StartAt"]
        while name is not None:
            state = machine["States"][name]
            self.entered[name] += 1
            name, given = self._step(state, given)
        return given

    def _step(self, state: Mapping[str, Any], given: Any) -> tuple[str | None, Any]:
        following: str | None = state.get("Next")
        match state["Type"]:
            case "Choice":
                taken = (choice["Next"] for choice in state["Choices"] if _fits(choice, given))
                return next(taken, state.get("Default")), given
            case "Task":
                function = self.functions[state["Parameters"]["FunctionName"]]
                return following, _placed(state, given, {"Payload": function(_filled(state["Parameters"], given)["Payload"])})
            case "Map":
                return following, _placed(state, given, self._map(state, given))
            case "Wait":
                if "TimestampPath" in state:
                    due = datetime.fromisoformat(_at(state["TimestampPath"], given)).timestamp()
                    time.sleep(max(0.0, due - time.time()))
                return following, given
            case "Pass":
                return following, {} if "OutputPath" in state else given
            case kind:
                assert kind == "Succeed", f"{kind}: {state}"
                return None, given

    def _map(self, state: Mapping[str, Any], given: Any) -> list[Any]:
        items = self.listed(_filled(state["ItemReader"]["Parameters"], given)["Key"])
        self.items += len(items)
        return [self._run(state["ItemProcessor"], _filled(state["ItemSelector"], given, item)) for item in items]


def _fits(choice: Mapping[str, Any], given: Any) -> bool:
    return bool(_at(choice["Variable"], given) == choice["StringEquals"])


def _placed(state: Mapping[str, Any], given: Any, result: Any) -> Any:
    if "ResultSelector" in state:
        result = _filled(state["ResultSelector"], result)
    path = state.get("ResultPath", "$")
    if path is None:
        return given
    return result if path == "$" else {**given, path.removeprefix("$."): result}


def _filled(template: Mapping[str, Any], given: Any, item: Any = None) -> dict[str, Any]:
    return {
        name.removesuffix(".$"): (item if value == "$$.Map.Item.Value" else _at(value, given)) if name.endswith(".$") else value
        for name, value in template.items()
    }


def _at(path: str, given: Any) -> Any:
    for name in filter(None, path.removeprefix("$").split(".")):
        given = given[name]
    return given
