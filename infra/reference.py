"""Makes docs/reference/aws-stack.md (`python -m infra.reference`): stack.md, with what the description itself says."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from infra import stage as sizes
from infra.functions import ALL, API, BACKGROUND, DOOR, STEPS, Function
from infra.stage import PRODUCTION, Stage

_TEXT = Path(__file__).with_name("stack.md")


def page() -> str:
    """The page."""
    told = {"settings": _settings(), "functions": _functions()}
    return _TEXT.read_text("utf-8").format(**{name: "\n".join(lines).rstrip() for name, lines in told.items()})


def _settings() -> Iterator[str]:
    yield "## What can be chosen\n"
    yield "`postroom deploy --stage STAGE --set name=value`; what is not set:\n"
    yield "| name | a stage | `prod` | |\n|---|---|---|---|"
    said, usual, large = _said(), Stage(), Stage.of({"stage": PRODUCTION}.get)
    for field in fields(Stage):
        if field.name not in {"stage", "bundle"}:
            yield f"| `{field.name}` | {_shown(usual, field.name)} | {_shown(large, field.name)} | {said.get(field.name, '')} |"


def _said() -> dict[str, str]:
    """What stands below each field."""
    (found,) = (node for node in ast.parse(inspect.getsource(sizes)).body if isinstance(node, ast.ClassDef))
    return {
        str(getattr(field.target, "id", "")): " ".join(str(text.value.value).split())
        for field, text in zip(found.body, found.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _shown(stage: Stage, name: str) -> str:
    value = getattr(stage, name)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else "none"


def _functions() -> Iterator[str]:
    kinds = (("Behind the API", API), ("In front of it", DOOR), ("Of state machines", STEPS), ("In the background", BACKGROUND))
    assert sum(len(functions) for _, functions in kinds) == len(ALL)
    for title, functions in kinds:
        yield f"### {title}\n"
        yield "| function | seconds, at most | may |\n|---|---|---|"
        yield from map(_row, functions)
        yield ""


def _row(function: Function) -> str:
    rights = "<br>".join(str(permission) for permission in function.permissions)
    return f"| `{function.name}` | {function.timeout_s} | {rights} |"


if __name__ == "__main__":
    sys.stdout.write(page())
