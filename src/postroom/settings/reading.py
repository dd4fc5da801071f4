"""Reading what is set, from `postroom.toml` or as text: an unknown name, or a value that cannot be used, is told in one line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from postroom.errors import Invalid
from postroom.settings.kinds import KINDS
from postroom.settings.parsing import Refused

PREFIX = "POSTROOM_"
FILE_NAME = "postroom.toml"
_PASSWORD = re.compile(r"(?<=//)([^:/@]*):.*(?=@)")


def from_file(path: Path) -> dict[str, Any]:
    """What the file sets, by name. `Invalid`: for one that cannot be read as well."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path} cannot be read: {error}") from error
    values = {}
    for key, given in document.items():
        name = known(key, f"{key} in {path}")
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise Invalid(f"{name} in {path} is {given!r}; allowed: {KINDS[name].allowed}")
        values[name] = read(name, str(given), f"{name} in {path}")
    if "data" in values:
        values["data"] = path.parent / values["data"]
    return values


def known(name: str, where: str, prefix: str = "", spelled: Callable[[str], str] = str) -> str:
    """The name, if there is a setting of it. `Invalid` offers the nearest one, spelled as in the same place."""
    if name in KINDS:
        return name
    near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{spelled(near[0])}?" if near else "settings: " + ", ".join(prefix + spelled(k) for k in KINDS)
    raise Invalid(f"{where} is not a setting; {hint}")


def read(name: str, text: str, where: str) -> Any:
    """The value that a text means. `Invalid` says where it stands, and what is allowed there; never a password."""
    kind = KINDS[name]
    if not text.strip():
        raise Invalid(f"{where} is empty; remove it, or set it to: {kind.allowed}")
    try:
        return kind.parse(text)
    except ValueError as error:
        reason = f" ({error})" if isinstance(error, Refused) else ""
        shown = "not usable" if name == "master_key" else f"{without_password(text)!r}"
        raise Invalid(f"{where} is {shown}{reason}; allowed: {kind.allowed}") from error


def without_password(url: str) -> str:
    """A provider URL that may be shown."""
    return _PASSWORD.sub(r"\1:***", url)
