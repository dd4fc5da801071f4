"""Templates, read as what will be there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Resource(NamedTuple):
    """One of one stack."""

    stack: str
    id: str
    type: str
    properties: dict[str, Any]
    whole: dict[str, Any]


class Statement(NamedTuple):
    """What a role may do, or may not."""

    role: str
    effect: str
    actions: list[str]
    resources: list[str]
    condition: dict[str, Any]


class Templates:
    """What a synthesis wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(folder.glob("*.template.json"))
        self.resources = [
            Resource(file.name.partition(".")[0], id_, each["Type"], each.get("Properties", {}), each)
            for file in self.files
            for id_, each in json.loads(file.read_text("utf-8"))["Resources"].items()
        ]

    def of(self, kind: str) -> list[Resource]:
        """All of a kind, `AWS::…`; never none."""
        found = [each for each in self.resources if each.type == kind]
        assert found, f"no {kind} at all"
        return found

    def statements(self) -> Iterator[Statement]:
        """Of every role of ours."""
        for role in self.of("AWS::IAM::Role"):
            for policy in role.properties.get("Policies", []):
                for each in policy["PolicyDocument"]["Statement"]:
                    actions, resources = _list(each["Action"]), [text(one) for one in _list(each["Resource"])]
                    name = str(role.properties.get("RoleName", role.id))
                    yield Statement(name, each["Effect"], actions, resources, each.get("Condition", {}))


def text(value: Any) -> str:
    """A value as far as it is known before a deployment; `<…>` for what is not."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(map(text, parts))
    return "<" + ".".join(str(part) for part in _list(next(iter(value.values())))) + ">"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
