"""What is wrong with a request, place by place: `in` (body, query, path, header), a JSON pointer (RFC 6901), a sentence.

Pydantic finds the faults; it words them for who writes Python, and its places have marks of its own in them (which member of a
union was tried). Here they become places in what was sent, and sentences for who sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError

_MOST = 50
"""Faults shown: a request with thousands is not answered with as many."""
_SENTENCES = {
    "missing": "this is needed",
    "extra_forbidden": "there is no such member here",
    "union_tag_not_found": "this is needed",
    "union_tag_invalid": "this must be {expected_tags}",
    "string_pattern_mismatch": "this must match {pattern}",
    "string_too_short": "this must have at least {min_length} characters",
    "string_too_long": "this must have at most {max_length} characters",
    "too_short": "this must have at least {min_length} members",
    "too_long": "this must have at most {max_length} members",
    "string_type": "this must be text",
    "list_type": "this must be an array",
    "int_type": "this must be a whole number",
    "int_parsing": "this must be a whole number",
    "int_from_float": "this must be a whole number",
    "float_type": "this must be a number",
    "float_parsing": "this must be a number",
    "bool_type": "this must be true or false",
    "bool_parsing": "this must be true or false",
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "this must be an object"),
}
"""By pydantic's kind of error, filled from its context; others keep pydantic's words."""


def faults_of(error: RequestValidationError) -> list[dict[str, str]]:
    """What pydantic found; never the value itself, which may be a secret."""
    return [_fault(one, error.body) for one in error.errors()[:_MOST]]


def _fault(one: Mapping[str, Any], body: object) -> dict[str, str]:
    place: Sequence[str | int] = one.get("loc", ())
    where, inside = (str(place[0]) if place else "body"), list(place[1:])
    if where == "body":
        inside = list(_within(inside, body))
    if str(one.get("type", "")).startswith("union_tag"):
        inside.append(str(one["ctx"]["discriminator"]).strip("'"))
    pointer = "#" + "".join("/" + _escaped(str(part)) for part in inside)
    return {"in": where, "pointer": pointer[:500], "detail": _sentence(one)}


def _within(place: Sequence[str | int], body: Any) -> Iterator[str | int]:
    """The parts of a place that are steps in the body; of a member that is not there, its name."""
    for at, part in enumerate(place):
        if _is_step(part, body):
            body = body[part]
        elif not isinstance(body, Mapping) or at < len(place) - 1:
            continue
        yield part


def _is_step(part: str | int, body: object) -> bool:
    if isinstance(body, Mapping):
        return part in body
    return isinstance(body, list) and isinstance(part, int) and part < len(body)


def _sentence(one: Mapping[str, Any]) -> str:
    known, context = _SENTENCES.get(str(one.get("type"))), dict(one.get("ctx", {}))
    if context.get("min_length") == 1:
        return "this must not be empty"
    if known is None:
        text = str(one.get("msg", "not valid")).removeprefix("Value error, ")
        return re.sub("^Input should be ", "this must be ", text)
    if "expected_tags" in context:  # members of an enum come as Python shows them: <Kind.ASSET: 'asset'>
        context["expected_tags"] = " or ".join(re.findall(r"'[^']*'", context["expected_tags"]))
    return known.format_map(context)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
