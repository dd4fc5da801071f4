"""Faults that functions are to meet, scripted: at which of its calls to AWS a function is killed, or has an error for an answer.

They happen inside of the functions' processes (inside/sitecustomize.py), each once in all processes of its function together. So a
test says of every step between which two of its writes it ends, and afterwards which of that has come to pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

INSIDE = Path(__file__).with_name("inside")


class Fault(NamedTuple):
    """One."""

    call: int
    """Before or after this call to AWS of a process, counted from 1."""
    how: str
    """`kill`: SIGKILL before it; `kill_after`; `lose`: it is done, and its answer lost; `fail`: it is not done; `raise`: an error
    that nobody expects."""


class Plan:
    """By function, without the stage's prefix."""

    def __init__(self, faults: Mapping[str, Sequence[Fault]]) -> None:
        self.faults = faults
        self._folder = Path()

    def variables(self, folder: Path) -> dict[str, str]:
        """For the environment of the functions."""
        self._folder = folder / "faults"
        self._folder.mkdir()
        (self._folder / "plan.json").write_text(json.dumps(self.faults))
        return {"FAULTS": str(self._folder)}

    def missed(self) -> list[str]:
        """Those that did not come to pass."""
        return [
            f"{function} {fault.how} {fault.call}"
            for function, faults in self.faults.items()
            for number, fault in enumerate(faults)
            if not (self._folder / f"{function}.{number}").exists()
        ]
