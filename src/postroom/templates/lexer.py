"""Splits a template into text and tags, so that text can be edited without harming a tag.

A `Skeleton` is the template's text with every tag replaced by NUL, its index, NUL. Tracking, the derived text part and MJML are
all edits of that one string. White-space control (`{%-`, `-%}`), comments and raw blocks are resolved here, once, so a tag is
complete in itself and text is only text. The syntax is Jinja's with its default delimiters; nothing is trimmed by default.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from operator import itemgetter
from typing import NamedTuple

from postroom.errors import Invalid

_BRACE = re.compile(r"\{(?=[{%#]|\Z)")
_OPENING = re.compile(r"\{[{%#]")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*([-+]?)%\}")
_END_RAW = re.compile(r"\{%([-+]?)\s*endraw\s*([-+]?)%\}")
_INSIDE = re.compile(
    r"""("(?:[^"\\]++|\\.?)*+(?:"|(\Z))|'(?:[^'\\]++|\\.?)*+(?:'|(\Z)))|[-+]?[}%]\}|[()\[\]{}]""",
    re.DOTALL,
)
"""An unclosed string matches up to the end: if it were skipped, each quote in it would be tried anew (quadratic time)."""
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), 127])
PLACE = re.compile("\x00(\\d+)\x00")
"""A tag's placeholder in a skeleton's text."""


class TagKind(StrEnum):
    """Whether a tag outputs a value (`{{ }}`) or is a statement (`{% %}`)."""

    OUTPUT = "output"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag. `body`: the text between its delimiters."""

    kind: TagKind
    body: str
    line: int
    """The line in the author's template, from 1."""
    lines: int = 0
    """Line ends inside it."""

    @property
    def word(self) -> str:
        """A block's first word: `if`, `for` …; empty for an output."""
        return self.body.split(None, 1)[0] if self.kind is TagKind.BLOCK and self.body else ""

    @property
    def source(self) -> str:
        """The tag with its delimiters, for MiniJinja."""
        return f"{{% {self.body} %}}" if self.kind is TagKind.BLOCK else f"{{{{ {self.body} }}}}"


class Origin(NamedTuple):
    """The origin of a stretch of a skeleton's text."""

    position: int
    """Offset in the skeleton's text."""
    source: int
    """Offset in the author's template."""
    line: int


@dataclass(slots=True)
class Skeleton:
    """A template split into text and tags. `text` may be edited freely as long as its placeholders stay intact."""

    text: str
    tags: list[Tag]
    origins: list[Origin] = field(default_factory=list, repr=False)
    """The origin of each stretch of `text`, in order; valid until `text` is edited."""

    def add(self, tag: Tag) -> str:
        """Add a tag. Returns its placeholder, to be put into `text`."""
        self.tags.append(tag)
        return f"\x00{len(self.tags) - 1}\x00"

    def pieces(self) -> Iterator[str | Tag]:
        """Text and tags in order, without empty text."""
        for position, part in enumerate(self.text.split("\x00")):
            if position % 2:
                yield self.tags[int(part)]
            elif part:
                yield part

    def source(self) -> str:
        """An equivalent template, for MiniJinja or for `take_apart`."""
        return "".join(verbatim(piece) if isinstance(piece, str) else piece.source for piece in self.pieces())

    def line_at(self, position: int) -> int:
        """The line in the author's template. In an edited text it is counted from the last tag before the position."""
        if self.origins:
            origin = self._origin(position)
            return origin.line + self.text.count("\n", origin.position, position)
        end = self.text.rfind("\x00", 0, position) + 1
        if not end:
            return self.text.count("\n", 0, position) + 1
        tag = self.tags[int(self.text[self.text.rfind("\x00", 0, end - 1) + 1 : end - 1])]
        return tag.line + tag.lines + self.text.count("\n", end, position)

    def source_at(self, position: int) -> int:
        """The offset in the author's (cleaned) template of a position in the unedited `text`."""
        origin = self._origin(position)
        return origin.source + position - origin.position

    def _origin(self, position: int) -> Origin:
        return self.origins[max(0, bisect_right(self.origins, position, key=itemgetter(0)) - 1)]

    def with_text(self, text: str) -> Skeleton:
        """A skeleton with another text and a copy of the tags."""
        return Skeleton(text, list(self.tags))


def cleaned(source: str) -> str:
    """CR and CRLF become LF; other control characters and a byte order mark are dropped."""
    return source.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL).removeprefix("\ufeff")


def take_apart(source: str, *, part: str) -> Skeleton:
    """Split a `cleaned` template. Raises `Invalid` with part, line and column if a tag is never closed."""
    skeleton = Skeleton("", [])
    pieces: list[str] = []
    position, trim, line, size = 0, False, 1, 0

    def keep(text: str, origin: int) -> None:
        nonlocal size
        last = skeleton.origins[-1] if skeleton.origins else Origin(0, 0, 1)
        skeleton.origins.append(Origin(size, origin, last.line + source.count("\n", last.source, origin)))
        pieces.append(text)
        size += len(text)

    while found := _OPENING.search(source, position):
        start = found.start()
        keep(*_text(source, position, start, trim_start=trim, trim_end=_sign(source, found.end()) == "-"))
        line += source.count("\n", position, start)
        raw = _RAW.match(source, start)
        if raw:
            text, origin, position, sign = _raw(source, raw, part=part, line=line)
            keep(text, origin)
        else:
            tag, position, sign = _tag(source, start, part=part, line=line)
            if tag:
                keep(skeleton.add(tag), start)
        trim = sign == "-"
        line += source.count("\n", start, position)
    keep(*_text(source, position, len(source), trim_start=trim, trim_end=False))
    skeleton.text = "".join(pieces)
    return skeleton


def verbatim(text: str) -> str:
    """The text escaped, so that MiniJinja reads no tag in it."""
    return _BRACE.sub('{{ "{" }}', text)


def place_of(source: str, position: int) -> str:
    """The position in words: `line 3, column 7`."""
    start = source.rfind("\n", 0, position) + 1
    return f"line {source.count(chr(10), 0, position) + 1}, column {position - start + 1}"


def _sign(source: str, position: int) -> str:
    return source[position] if source[position : position + 1] in ("-", "+") else ""


def _text(source: str, start: int, end: int, *, trim_start: bool, trim_end: bool) -> tuple[str, int]:
    """A stretch of text, trimmed, and its offset."""
    text = source[start:end]
    text = text.rstrip() if trim_end else text
    kept = text.lstrip() if trim_start else text
    return kept, start + len(text) - len(kept)


def _raw(source: str, raw: re.Match[str], *, part: str, line: int) -> tuple[str, int, int, str]:
    """The text of a raw block, where it begins, the position after the block, and its closing sign."""
    end = _END_RAW.search(source, raw.end())
    if not end:
        raise Invalid(f"{part}, line {line}: {{% raw %}} is never closed; add {{% endraw %}}.")
    text, origin = _text(source, raw.end(), end.start(), trim_start=raw[1] == "-", trim_end=end[1] == "-")
    return text, origin, end.end(), end[2]


def _tag(source: str, start: int, *, part: str, line: int) -> tuple[Tag | None, int, str]:
    """The tag that begins at `start` (None for a comment), the position after it, and its closing sign."""
    opening = source[start : start + 2]
    inside = start + 2 + len(_sign(source, start + 2))
    if opening == "{#":
        end = source.find("#}", start + 2)
        if end < 0:
            raise Invalid(f"{part}, {place_of(source, start)}: the comment is never closed; add #}}.")
        return None, end + 2, source[end - 1] if source[end - 1] in "-+" and end > start + 2 else ""
    wanted, depth, position = ("}}" if opening == "{{" else "%}"), 0, inside
    while token := _INSIDE.search(source, position):
        position = token.end()
        if token[2] is not None or token[3] is not None:
            raise Invalid(f"{part}, {place_of(source, token.start())}: the text {token[1][0]} in a tag is never closed.")
        if token[1]:
            continue
        if token[0].endswith(wanted) and not depth:
            kind = TagKind.OUTPUT if opening == "{{" else TagKind.BLOCK
            tag = Tag(kind, source[inside : token.start()].strip(), line, source.count("\n", start, token.end()))
            return tag, token.end(), _sign(token[0], 0)
        if len(token[0]) > 1:  # "}}" inside brackets closes one of them: look at its second brace again
            position = token.start() + 1
        depth = max(0, depth + (source[position - 1] in "([{") - (source[position - 1] in ")]}"))
    raise Invalid(f"{part}, {place_of(source, start)}: the tag {opening} is never closed; add {wanted}.")
