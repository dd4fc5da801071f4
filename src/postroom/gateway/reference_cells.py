"""What a JSON schema says, in the cells of a table: for gateway.reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

Json = Mapping[str, Any]

_RANGES = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " of them"),
    ("minProperties", "maxProperties", " members"),
)


def table(heads: Sequence[str], rows: Sequence[str]) -> str:
    """`rows`: cells with `|` between them."""
    lines = [f"| {line} |" for line in (" | ".join(heads), *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def named(name: str, needed: bool) -> str:
    """Bold where it is always there."""
    return f"**`{name}`**" if needed else f"`{name}`"


def described(parameter: Json) -> str:
    """Two cells: of what kind it is, and what it means."""
    return f"{kind(parameter['schema'])} | {cell(parameter.get('description', ''))}"


def kind(schema: Json) -> str:
    """Of a value, in a few words; a shape is linked."""
    several = schema.get("anyOf") or schema.get("oneOf")
    if "$ref" in schema:
        return _linked(target(schema)) + _default(schema)
    if several:
        return " or ".join(kind(each) for each in several) + _default(schema)
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum") or [schema["const"]]) + _default(schema)
    ranges = [_range(schema.get(low), schema.get(high)) + unit for low, high, unit in _RANGES if low in schema or high in schema]
    return ", ".join([_word(schema), *ranges]) + _default(schema)


def target(schema: Json) -> str:
    """The name of the shape that it refers to."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def is_shown(shape: str) -> bool:
    """Whether it is explained: pages are told where they are answered."""
    return not shape.startswith("Page_")


def cell(text: str) -> str:
    """Text on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def anchor(heading: str) -> str:
    """Of a heading, as GitHub makes it."""
    return "".join(each for each in heading.lower() if each.isalnum() or each in "_- ").replace(" ", "-")


def _word(schema: Json) -> str:
    word, values = str(schema.get("type", "anything")), schema.get("additionalProperties")
    if word == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if word == "object" and isinstance(values, Mapping):
        return f"object of {kind(values)}"
    return str(schema.get("format", word))


def _range(least: float | None, most: float | None) -> str:
    if most is None:
        return f"from {least:,.10g}"
    if least is None:
        return f"up to {most:,.10g}"
    return f"{most:,.10g}" if least == most else f"{least:,.10g} to {most:,.10g}"


def _default(schema: Json) -> str:
    value = schema.get("default")
    if value in (None, "", [], {}):
        return ""
    return f"; `{value if isinstance(value, str) else orjson.dumps(value).decode()}` when not given"


def _linked(shape: str) -> str:
    inner = shape.removeprefix("Page_").removesuffix("_")
    return f"{'' if is_shown(shape) else 'a page of '}[{inner}](#{anchor(inner)})"
