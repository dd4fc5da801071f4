"""docs/reference/api.md, made from the OpenAPI document alone (`make docs`).

One section a route: role, parameters, bodies, responses, an example. Each schema is explained once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """A table; `rows` are cells joined by `|`."""
    lines = [f"| {line} |" for line in (" | ".join(heads), *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def named(name: str, needed: bool) -> str:
    """Bold if required."""
    return f"**`{name}`**" if needed else f"`{name}`"


def described(parameter: Json) -> str:
    """Two cells: type and meaning."""
    return f"{kind(parameter['schema'])} | {cell(parameter.get('description', ''))}"


def kind(schema: Json) -> str:
    """The type of a value in a few words; schemas are linked."""
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
    """The name of the referenced schema."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def is_shown(shape: str) -> bool:
    """Whether the schema is explained; pages of lists are described with their route."""
    return not shape.startswith("Page_")


def cell(text: str) -> str:
    """Text on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
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


_INTRODUCTION = """\
# The HTTP API: calls

What holds for all of them is in [http.md](http.md), roles are explained in [access.md](access.md), problems in
[problems.md](problems.md). This page is made from the OpenAPI document, which every installation serves at `/openapi.json`, by
`make docs`.

The role is the least that may make the request; each includes those before it: viewer, editor, sender, admin. An *operator* also
manages the installation. A record of another tenant is answered as missing (404), whatever the role.
"""


def page(document: Json) -> str:
    """The page as Markdown."""
    operations = list(_operations(document))
    shapes = document["components"]["schemas"]
    sections = [_INTRODUCTION, _overview(operations)]
    for tag in dict.fromkeys(operation["tags"][0] for _, operation in operations):
        sections.append(f"## {tag}\n")
        sections += [_section(shapes, call, operation) for call, operation in operations if operation["tags"][0] == tag]
    sections.append("## Shapes\n\nSchemas of requests and responses. **Bold**: always present.\n")
    sections += [_shape(shapes, name) for name in sorted(shapes) if is_shown(name)]
    return "\n".join(sections)


def _operations(document: Json) -> Iterator[tuple[str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _overview(operations: Sequence[tuple[str, Json]]) -> str:
    rows = [f"[`{call}`](#{anchor(call)}) | {_role(one)} | {cell(one['summary'])}" for call, one in operations]
    return table(["call", "role", ""], rows) + "\n"


def _section(shapes: Json, call: str, operation: Json) -> str:
    parts = [f"### {call}", operation["summary"] + ".", operation.get("description", ""), f"Role: {_role(operation)}."]
    parts += [_parameters(operation), _body(operation), _answers(operation), _example(shapes, call, operation)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _role(operation: Json) -> str:
    return f"`{operation['x-role']}`" if "x-role" in operation else "none"


def _parameters(operation: Json) -> str:
    listed = operation.get("parameters", ())
    rows = [f"{named(each['name'], each.get('required', False))} | {each['in']} | {described(each)}" for each in listed]
    return table(["parameter", "in", "", ""], rows) if rows else ""


def _body(operation: Json) -> str:
    request = operation.get("requestBody", {})
    said = [f"`{media}`, {kind(one['schema'])}" for media, one in request.get("content", {}).items()]
    return f"Body: {' or '.join(said)}. {request.get('description', '')}".rstrip() if said else ""


def _answers(operation: Json) -> str:
    responses: dict[str, Json] = dict(sorted(operation["responses"].items()))
    lines = [f"- {status}{_answer(each)}" for status, each in responses.items() if "$ref" not in each]
    problems = [status for status, each in responses.items() if "$ref" in each]
    return "\n".join([*lines, f"- a problem: {', '.join(problems)}"] if problems else lines)


def _answer(response: Json) -> str:
    """The content of a response."""
    content = [kind(one["schema"]) for one in response.get("content", {}).values() if one.get("schema")]
    about = "" if response["description"] == "Successful Response" else response["description"].removesuffix(".")
    return "".join(f": {each}" for each in (*content, about) if each)


def _example(shapes: Json, call: str, operation: Json) -> str:
    method, path = call.split(" ")
    for each in operation.get("parameters", ()):
        path = path.replace("{" + each["name"] + "}", _sample(each))
    body = _sample_body(shapes, operation)
    words = [] if method == "GET" else [f"-X {method}"]
    words += ['-H "Authorization: Bearer $TOKEN"'] if "x-role" in operation else []
    words += [f"-H 'Content-Type: {media}'" for media in operation.get("requestBody", {}).get("content", ())]
    words += [f"--data-raw '{body}'"] if body else []
    return "\n".join(["```sh", " ".join(["curl", *words, f'"$URL{path}{_query(operation)}"']), "```"])


def _sample(parameter: Json) -> str:
    examples = parameter["schema"].get("examples") or [parameter["name"].upper()]
    return str(examples[0])


def _query(operation: Json) -> str:
    """Required query parameters."""
    asked = [each for each in operation.get("parameters", ()) if each["in"] == "query" and each.get("required")]
    return "".join(f"{'&' if at else '?'}{each['name']}={_sample(each)}" for at, each in enumerate(asked))


def _sample_body(shapes: Json, operation: Json) -> str:
    """An example body on one line, for a shell; empty if there is none."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        first = (content["schema"].get("oneOf") or content["schema"].get("anyOf") or [content["schema"]])[0]
        sample = content.get("example") or shapes[target(first)]["examples"][0]
        text = (
            sample.replace("\n", "'$'\\n''") if isinstance(sample, str) else orjson.dumps(sample).decode().replace("'", "'\\''")
        )
        return str(text)
    return ""


def _shape(shapes: Json, name: str) -> str:
    shape = shapes[name]
    head = f"### {name}\n\n{' '.join(shape.get('description', '').split())}\n"
    if "properties" not in shape:
        return head + f"\n{kind(shape)}\n"
    needed = shape.get("required", ())
    rows = [f"{named(member, member in needed)} | {_member(shapes, one)}" for member, one in shape["properties"].items()]
    return head + "\n" + table(["", "", ""], rows) + "\n"


def _member(shapes: Json, member: Json) -> str:
    """An example member; falls back to the referenced schema, whose facts pydantic leaves out."""
    about = member.get("description") or shapes.get(target(member), {}).get("description", "")
    return described({"schema": member, "description": about})
