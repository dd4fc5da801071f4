"""Read by Python as it starts, in a function's process: makes the faults that are planned for the function (tests/aws_e2e/faults.py),
and writes down which rows of the table it asks for (tests/aws_e2e/asked.py)."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from importlib import import_module
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


def _planned(folder: Path, function: str) -> _Planned:
    planned = json.loads((folder / "plan.json").read_text())
    names = [name for name in planned if function.endswith(f"-{name}")]
    name = max(names, key=len, default="")
    return _Planned(folder, name, planned.get(name, []))


def _patch(planned: _Planned | None, rows: Any) -> None:
    from botocore.client import BaseClient
    from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

    make: Any = BaseClient._make_api_call  # type: ignore[attr-defined]

    def made(client: Any, operation: str, parameters: Any) -> Any:
        rows.note(operation, parameters)
        how = planned.due() if planned else None
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


if "ASKED" in os.environ and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    called = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
    _patch(
        _planned(Path(os.environ["FAULTS"]), called) if "FAULTS" in os.environ else None,
        import_module("rows").Rows(Path(os.environ["ASKED"]), called.split("-", 2)[2]),  # beside this file
    )
