"""Makes docs/reference/settings.md from the catalogue: `python -m postroom.settings.reference`."""

from __future__ import annotations

import sys

from postroom.settings import FILE_NAME, SETTINGS
from postroom.settings.catalogue import GROUPS


def reference() -> str:
    """The page, in Markdown."""
    lines = [
        "# Settings",
        "",
        f"{len(SETTINGS)} settings, by task. Most installations set one: [POSTROOM_MAIL](#postroom_mail).",
        "",
        "A setting comes from the environment (`POSTROOM_DATA`), else from `postroom.toml` in the working directory (`data`),",
        "else it has its default; command-line options win over all. An unknown setting or a bad value stops the start with a",
        "clear line. A duration is a number with `s`, `m`, `h` or `d` (`90s`, `48h`); a bare number is seconds.",
        "",
        "`postroom doctor` shows the values in force. This page is made from `src/postroom/settings/catalogue.py` by",
        "`make docs`.",
    ]
    for task, group in GROUPS.items():
        lines += ["", f"## {task}"]
        for name, setting in group.items():
            lines += ["", f"### POSTROOM_{name.upper()}", "", setting.doc, ""]
            lines += [f"- in `{FILE_NAME}`: `{name}`", f"- allowed: {setting.allowed}", f"- default: {setting.default}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
