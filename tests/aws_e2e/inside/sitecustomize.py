"""Read by Python as it starts, in a function's process: makes the faults that are planned for the function (tests/aws_e2e/faults.py)."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any


class _Planned:
    """What is planned for one function."""

    def __init__(self, folder: Path, name: str, faults: list[tuple[int, str]]) -> None:
        self._folder, self._name, self._faults = folder, name, faults
        self._calls = 0

    def due(self) -> str | None:
        """What happens at this call; each happens once, in whichever process comes to it first."""
        self._calls += 1
        for number, (call, how) in enumerate(self._faults):
            if call == self._calls:
                with suppress(FileExistsError):
                    os.close(os.open(self._folder / f"{self._name}.{number}", os.O_CREAT | os.O_EXCL))
                    return how
        return None


def _arm(folder: Path, function: str) -> None:
    planned = json.loads((folder / "plan.json").read_text())
    names = [name for name in planned if function.endswith(f"-{name}")]
    if names:
        name = max(names, key=len)
        _patch(_Planned(folder, name, planned[name]))


def _patch(planned: _Planned) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

    make: Any = BaseClient._make_api_call  # type: ignore[attr-defined]

    def made(client: Any, operation: str, parameters: Any) -> Any:
        how = planned.due()
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "fail":
            raise ConnectTimeoutError(endpoint_url="planned")
        elif how == "raise":
            raise RuntimeError("planned")
        answer = make(client, operation, parameters)
        if how == "kill_after":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "lose":
            raise ReadTimeoutError(endpoint_url="planned")
        return answer

    BaseClient._make_api_call = made  # type: ignore[attr-defined]


if "FAULTS" in os.environ and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    _arm(Path(os.environ["FAULTS"]), os.environ["AWS_LAMBDA_FUNCTION_NAME"])
