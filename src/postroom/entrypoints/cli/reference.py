"""Makes docs/reference/command-line.md from the commands themselves (`make docs`); a test compares the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer.main

from postroom.entrypoints.cli import app

_INTRODUCTION = """\
# The command line

Data goes to standard output, progress and remarks to standard error. On a terminal lists are tables; elsewhere they are lines
with a tab between cells, without a heading. `--json` prints one JSON value on one line.

| exit code | |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | bad input: nothing was done, unless the command says so |
| 3 | finished, but some accepted recipients were not sent |

Settings ([settings.md](settings.md)) apply to every command. This page is made from the commands by `make docs`.
"""


def commands(group: Any, words: str = "postroom") -> Iterator[tuple[str, Any]]:
    """Every command that is shown, by the words that call it. (Typer has had click's classes and its own: hence `Any`.)"""
    if not hasattr(group, "commands"):
        yield words, group
        return
    for name, command in group.commands.items():
        if not command.hidden:
            yield from commands(command, f"{words} {name}")


def reference() -> str:
    """The page."""
    sections = [_INTRODUCTION]
    for words, command in commands(typer.main.get_command(app)):
        rows = [_row(parameter) for parameter in command.params if parameter.name != "help" and not parameter.hidden]
        table = "| | |\n|---|---|\n" + "".join(rows) if rows else ""
        usage = " ".join([words, *(_placeholder(p) for p in command.params if p.param_type_name == "argument")])
        sections.append(f"## {words}\n\n    {usage}\n\n{' '.join(command.help.split())}\n\n{table}")
    return "\n".join(section.rstrip() + "\n" for section in sections)


def _row(parameter: Any) -> str:
    named = parameter.param_type_name == "argument"
    what = _placeholder(parameter) if named else ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
    return f"| {what.replace('|', chr(92) + '|')} | {_help(parameter).replace('|', chr(92) + '|')} |\n"


def _placeholder(argument: Any) -> str:
    word = argument.name.rstrip("_").upper()
    return word if argument.required else f"[{word}]"


def _help(parameter: Any) -> str:
    default = parameter.default
    text = " ".join((parameter.help or "").split())
    if isinstance(default, Enum):
        return f"{text} One of {', '.join(f'`{choice.value}`' for choice in type(default))}; `{default.value}` when not given."
    if default is None or default is False or default == "" or callable(default) or isinstance(default, list | tuple):
        return text
    return f"{text} `{default}` when not given."


if __name__ == "__main__":
    sys.stdout.write(reference())
