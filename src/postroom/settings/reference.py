"""docs/reference/settings.md, made from the settings themselves."""

from __future__ import annotations

from postroom.settings.kinds import KINDS
from postroom.settings.reading import FILE_NAME


def reference() -> str:
    """The page."""
    lines = [
        "# Settings",
        "",
        "A setting is read from the environment (`POSTROOM_DATA`), else from `postroom.toml` in the working directory (`data`),",
        "else it has its default; the command line's own options win over all. An unknown or bad setting stops the start with a",
        "clear line. A duration is a number with `s`, `m`, `h` or `d` (`90s`, `48h`); a bare number is seconds.",
        "",
        "This page is made from `src/postroom/settings/kinds.py` by `make docs`.",
    ]
    for name, kind in KINDS.items():
        lines += ["", f"## POSTROOM_{name.upper()}", "", kind.doc, ""]
        lines += [f"- in `{FILE_NAME}`: `{name}`", f"- allowed: {kind.allowed}", f"- default: {kind.default}"]
    return "\n".join(lines) + "\n"
