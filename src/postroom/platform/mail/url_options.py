"""The options of a mail provider's URL, `?name=value&…`: none is unknown, none stands twice, and each says what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from postroom.errors import Invalid

Readers = Mapping[str, tuple[str, Callable[[str], object]]]
"""Option → field of the configuration, and what reads its value; a `ValueError` of that says what it takes."""


def read_options(query: str, readers: Readers) -> dict[str, Any]:
    """By field. `Invalid`."""
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in readers:
            raise Invalid(f"the mail provider's URL has an unknown option {name!r}; known are {', '.join(readers)}")
        target, read = readers[name]
        if target in options:
            raise Invalid(f"the mail provider's URL gives {name} twice")
        try:
            options[target] = read(text)
        except ValueError as error:
            raise Invalid(f"the mail provider's URL has {name}={text!r}; it takes {error}") from error
    return options
