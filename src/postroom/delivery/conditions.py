"""Lets a condition ask about a value that a row does not have: `{% if plan == "club" %}` is simply false then.

MiniJinja's strict mode, which finds a missing value where it is put out, also refuses to compare one. So in conditions, and
nowhere else, a column's name reads as empty text where the row has none; `is defined` still tells the truth.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from postroom.delivery.lexer import Tag

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<number>\d[\w.]*)|(?P<name>[^\W\d]\w*)|(?P<sign>==|[^\s])""", re.DOTALL
)
_TELLING = frozenset({"defined", "undefined", "none"})


def forgiving(tag: Tag, columns: Collection[str]) -> str:
    """The tag's source, with the columns in its condition made safe to ask about."""
    tokens = list(_TOKEN.finditer(tag.body))
    texts = [token[0] for token in tokens]
    asking = tag.word in ("if", "elif")
    out, position = [], 0
    for index, token in enumerate(tokens):
        if token["name"] in ("if", "else"):
            asking = token[0] == "if"
        elif asking and token["name"] in columns and _is_value(texts, index):
            out += [tag.body[position : token.start()], f'({token[0]}|default(""))']
            position = token.end()
    body = "".join(out) + tag.body[position:]
    return Tag(tag.kind, body, tag.line).source


def _is_value(texts: list[str], index: int) -> bool:
    """Not an attribute, a filter, a test, an argument's name, and not what `is defined` asks about."""
    before = texts[index - 1] if index else ""
    after = [*texts[index + 1 : index + 4], "", "", ""]
    if before in (".", "|", "is") or (before == "not" and index > 1 and texts[index - 2] == "is") or after[0] == "=":
        return False
    return not (after[0] == "is" and (after[1] in _TELLING or (after[1] == "not" and after[2] in _TELLING)))
