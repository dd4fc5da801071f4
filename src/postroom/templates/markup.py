"""Reads the HTML of a template: text, start tags, end tags and comments, in one pass of linear time.

Anything never closed (a tag, a quote, a comment, `<script>`) is refused with its line: a mail reader would swallow the rest of
the message, and searching for the end anew at each such place would take quadratic time. The rules are those of the HTML
standard's tokenizer (13.2.5), except `/>`, which closes an element as in XHTML. Template tags are placeholders
(templates.lexer).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from postroom.errors import Invalid, TooLarge
from postroom.templates.lexer import Skeleton

MAX_MARKS = 50_000
"""`<` characters in a template, at most: each costs some microseconds in every pass over it."""
_TAG = re.compile(r"""</?([a-zA-Z][^\s/>\x00"'<]*+)(?:[^>=]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))?+)*+(>?)""")
_ATTRIBUTE = re.compile(
    r"""\x00\d+\x00|(?P<name>[^\s/>=\x00"']++)"""
    r"""(?:\s*+=\s*+(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?P<bare>[^\s>"'][^\s>]*+)))?+"""
)
_ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE | re.ASCII) for name in ("script", "style", "textarea", "title")}
"""Elements whose content is plain text, and the pattern that ends it."""
_ENDLESS_NUMBER = re.compile(r"&#\d{1000,};?")
HTML_PART = "HTML template"


class PieceKind(Enum):
    """The kind of a piece of markup."""

    TEXT = 1
    START = 2
    END = 3
    COMMENT = 4
    """Also a declaration, such as `<!doctype html>` or `<![endif]>`."""


class Piece(NamedTuple):
    """The markup from `start` to before `end` of the text."""

    kind: PieceKind
    start: int
    end: int
    name: str = ""
    """The element's name in lower case; empty for text and comments."""


class Attribute(NamedTuple):
    """An attribute, not yet unescaped; `start` and `end` are positions in the text."""

    name: str
    value: str
    start: int
    end: int


def pieces(skeleton: Skeleton, *, part: str, outlook: bool = False, xml: bool = False) -> Iterator[Piece]:
    """The markup in order, without gaps. Raises `Invalid` with part and line for anything never closed.

    `outlook`: also read inside `<!--[if …]>` comments. `xml`: also read inside `<script>` and similar elements.
    """
    text = skeleton.text
    begin = position = 0
    while (start := text.find("<", position)) >= 0:
        if outlook and text.startswith("<!--[if", start):
            position = start + 4
            continue
        piece = _piece(skeleton, start, part)
        if piece is None:
            position = start + 1
            continue
        if begin < start:
            yield Piece(PieceKind.TEXT, begin, start)
        yield piece
        begin = position = piece.end
        if not xml and piece.kind is PieceKind.START and piece.name in _ENDS and not is_alone(text, piece):
            end = _ENDS[piece.name].search(text, begin)
            if not end:
                raise _never_closed(skeleton, start, part, f"<{piece.name}>", f"</{piece.name}>")
            position = end.start()
    if begin < len(text):
        yield Piece(PieceKind.TEXT, begin, len(text))


def check(skeleton: Skeleton, *, part: str) -> None:
    """Raise `Invalid` for anything `pieces` would refuse; before that, `TooLarge` as `bound` does."""
    bound(skeleton, part=part)
    for outlook in (False, True):
        for _ in pieces(skeleton, part=part, outlook=outlook):
            pass


def bound(skeleton: Skeleton, *, part: str) -> None:
    """Raise `TooLarge` if reading it would take too long."""
    if (marks := skeleton.text.count("<")) > MAX_MARKS:
        raise TooLarge(f"{part}: {marks} times <, as tags or as text; a template may have {MAX_MARKS}.")


def attributes(text: str, piece: Piece) -> list[Attribute]:
    """The attributes of a start tag."""
    found = []
    for match in _ATTRIBUTE.finditer(text, piece.start + 1 + len(piece.name), piece.end - 1):
        if name := match["name"]:
            value = match["double"] or match["single"] or match["bare"] or ""
            found.append(Attribute(name.lower(), value, match.start(), match.end()))
    return found


def is_alone(text: str, piece: Piece) -> bool:
    """Whether a start tag ends with `/>`. A slash that belongs to the last attribute's value does not count."""
    if text[piece.end - 2] != "/":
        return False
    found = attributes(text, piece)
    return not found or found[-1].end < piece.end - 1


def unescaped(text: str) -> str:
    """Resolve character references. One with a number of 1,000 digits or more becomes a replacement character."""
    return html.unescape(_ENDLESS_NUMBER.sub("\ufffd", text))


def _piece(skeleton: Skeleton, start: int, part: str) -> Piece | None:
    """The markup that begins with this `<`. None: it is an ordinary character."""
    text = skeleton.text
    if tag := _TAG.match(text, start):
        if not tag[2]:
            raise _never_closed(
                skeleton, start, part, f"the tag {text[start : tag.end(1)][:40]}", "> or the quote before it, or write &lt;"
            )
        return Piece(PieceKind.END if text[start + 1] == "/" else PieceKind.START, start, tag.end(), tag[1].lower())
    if text.startswith("<!--", start):
        end = text.find("-->", start + 2)  # <!--> is a whole comment
        if end < 0:
            raise _never_closed(skeleton, start, part, "the comment", "-->")
        return Piece(PieceKind.COMMENT, start, end + 3)
    if text[start + 1 : start + 2] in ("!", "?", "/"):
        end = text.find(">", start)
        if end < 0:
            raise _never_closed(skeleton, start, part, text[start : start + 2], ">, or write &lt;")
        return Piece(PieceKind.COMMENT, start, end + 1)
    return None


def _never_closed(skeleton: Skeleton, position: int, part: str, what: str, wanted: str) -> Invalid:
    return Invalid(f"{part}, line {skeleton.line_at(position)}: {what} is never closed; add {wanted}.")
