"""Which rows of the table each function asked for, held against what its role may on AWS.

The emulator looks at actions and resources, and not at `dynamodb:LeadingKeys`. So every call of every function is written down as it
is made (inside/sitecustomize.py), and here each is judged as AWS would: by one statement that allows the action for all its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from tests.aws_e2e.deploying import Assembly
from tests.aws_e2e.world import PREFIX


class Asked(NamedTuple):
    """One kind of call, however often it was made."""

    function: str
    action: str
    rows: tuple[str, ...]
    """Partition keys."""


def asked(folder: Path) -> set[Asked]:
    """By all functions."""
    return {
        Asked(file.name.partition(".")[0], action, tuple(rows))
        for file in folder.iterdir()
        for action, rows in map(json.loads, file.read_text().splitlines())
    }


def refused(calls: set[Asked], templates: Assembly) -> list[Asked]:
    """Those that AWS would not allow."""
    allowed: dict[str, list[tuple[set[str], list[str]]]] = {}
    for stack in templates.stacks():
        for role, actions, patterns in _rows(templates.template(stack)):
            allowed.setdefault(role, []).append((actions, patterns))
    return sorted(call for call in calls if not _may(call, allowed.get(f"{PREFIX}-{call.function}", [])))


def _may(call: Asked, statements: list[tuple[set[str], list[str]]]) -> bool:
    return any(
        call.action in actions and all(any(fnmatchcase(row, pattern) for pattern in patterns) for row in call.rows)
        for actions, patterns in statements
    )


def _rows(template: dict[str, Any]) -> Iterator[tuple[str, set[str], list[str]]]:
    for resource in template["Resources"].values():
        for policy in resource.get("Properties", {}).get("Policies", []) if resource["Type"] == "AWS::IAM::Role" else []:
            for statement in policy["PolicyDocument"]["Statement"]:
                keys = statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys")
                if keys is not None and statement["Effect"] == "Allow":
                    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
                    yield (
                        str(resource["Properties"]["RoleName"]),
                        {action.removeprefix("dynamodb:") for action in actions},
                        keys if isinstance(keys, list) else [keys],
                    )
