"""Derives the text part from the HTML *template*, once per campaign, with its template tags: each recipient costs one rendering.

Links become `text (address)`, lists get dashes or numbers, cells of a row are put side by side; styles, scripts, hidden
preheaders and comments are dropped. Template tags between elements stay, so loops and conditions still work; a tag inside a start
tag is dropped with it, except in the address of a link. Line ends that two neighbours need are made once, before a tag, so that
every branch of a condition begins on its own line.
"""

from __future__ import annotations

import re
from collections import Counter

from postroom.templates import markup
from postroom.templates.lexer import PLACE, Skeleton, TagKind
from postroom.templates.safety import is_capture

_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "blockquote", "pre", "dl", "hr", "figure"})
_LINES = frozenset(
    {"div", "tr", "li", "br", "section", "article", "header", "footer", "main", "nav", "center", "address", "dt", "dd", "form"}
    | {"figcaption", "caption", "thead", "tbody", "tfoot", "body"}
)
_NO_TEXT = frozenset({"table", "thead", "tbody", "tfoot", "tr", "ul", "ol", "dl"})
"""White space directly inside these elements has no meaning."""
_DROPPED = frozenset({"head", "style", "script", "title", "template", "noscript", "svg", "object", "xml"})
_VOID = frozenset(["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"])
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all|max-height\s*:\s*0(?!\.?\d)", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\n\r\f\xa0]+")
_FILLERS = dict.fromkeys([0xAD, 0x34F, 0x200B, 0xFEFF])
_MAX_NESTED = 20
"""Nesting of links and lists that is processed, at most: each level costs as much as its content."""
_RULE = "-" * 40


def derive_text(html: Skeleton) -> Skeleton:
    """The text template of an HTML template, with the same tags. Raises `Invalid` with the line of anything never closed."""
    reader = _Reader(html)
    reader.walk()
    return html.with_text(reader.finished())


class _Reader:
    """Walks the markup and writes the text."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._tags = skeleton.tags
        self._out: list[str] = []
        self._wanted = 0  # line ends
        self._made = 2  # line ends already there: none are wanted at the very beginning
        self._space = ""  # between words or cells, where text follows on the same line
        self._open: list[tuple[str, bool]] = []  # elements not yet closed, and whether they hide what is in them
        self._named: Counter[str] = Counter()  # of those, how many have a name
        self._hidden = 0
        self._captures = 0
        self._loops = 0
        self._lists: list[int | None] = []  # the last number of each open list; None: dashes
        self._links: list[tuple[str, int]] = []  # address, and where in `_out` its text begins
        self._verbatim = 0  # inside <pre>

    def finished(self) -> str:
        return "".join(self._out).rstrip() + "\n"

    def walk(self) -> None:
        text = self._skeleton.text
        for piece in markup.pieces(self._skeleton, part="HTML template"):
            if piece.kind is markup.PieceKind.START:
                found = markup.attributes(text, piece)
                # of an attribute given twice, in branches, the last counts
                self._start(piece.name, {name: markup.unescaped(value) for name, value, *_ in found})
                if markup.is_alone(text, piece):
                    self._end(piece.name)
            elif piece.kind is markup.PieceKind.END:
                self._end(piece.name)
            elif piece.kind is markup.PieceKind.TEXT:
                self._text(markup.unescaped(text[piece.start : piece.end]))
            else:
                self._comment(text[piece.start : piece.end])

    # what the markup is made of

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag not in _VOID:
            hides = tag in _DROPPED or "hidden" in attributes or _HIDDEN.search(attributes.get("style", "")) is not None
            self._open.append((tag, hides))
            self._named[tag] += 1
            self._hidden += hides
        if self._is_dropped():
            return
        self._break(tag)
        if tag in ("ul", "ol"):
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._bullet()
        elif tag == "a" and len(self._links) < _MAX_NESTED:
            self._links.append((attributes.get("href", "").strip(), len(self._out)))
        elif tag == "img":
            self._words(attributes.get("alt", ""))
        elif tag == "hr":
            self._write(_RULE)
            self._want(2)
        elif tag == "pre":
            self._verbatim += 1

    def _end(self, tag: str) -> None:
        if not self._named[tag]:
            return
        while self._open:
            name, hides = self._open.pop()
            self._named[name] -= 1
            if not self._is_dropped():
                self._close(name)
            self._hidden -= hides
            if name == tag:
                break

    def _text(self, data: str) -> None:
        parts = data.split("\x00")
        for position, part in enumerate(parts):
            if position % 2:
                self._tag(int(part))
            elif not self._is_dropped():
                self._words(part)

    def _comment(self, data: str) -> None:
        """Template tags may be in comments, so that an HTML editor leaves them alone."""
        for number in PLACE.findall(data):
            if self._tags[int(number)].kind is TagKind.BLOCK:
                self._tag(int(number))

    # what they do

    def _is_dropped(self) -> bool:
        """The content of a hidden element is dropped, unless it becomes a value that is used elsewhere (a macro in the head)."""
        return self._hidden > 0 and not self._captures

    def _tag(self, number: int) -> None:
        tag = self._tags[number]
        if tag.kind is TagKind.BLOCK:
            if not self._is_dropped():
                self._flush()
            self._out.append(f"\x00{number}\x00")
            self._captures += is_capture(tag) - (tag.word in ("endset", "endfilter", "endmacro"))
            self._loops += (tag.word == "for") - (tag.word == "endfor")
        elif not self._is_dropped():
            self._write(f"\x00{number}\x00")

    def _words(self, text: str) -> None:
        text = text.translate(_FILLERS)
        if self._verbatim:
            self._write(text)
            return
        collapsed = _SPACES.sub(" ", text)
        if collapsed == " " and self._open and self._open[-1][0] in _NO_TEXT:
            return
        self._space = self._space or (" " if collapsed.startswith(" ") else "")
        if words := collapsed.strip(" "):
            for position, part in enumerate(words.split("\x00")):  # an alternative text may hold tags
                self._write(f"\x00{part}\x00" if position % 2 else part)
            self._space = " " if collapsed.endswith(" ") else ""

    def _write(self, text: str) -> None:
        if text:
            self._flush()
            self._out.append(text)
            self._made = len(text) - len(text.rstrip("\n"))

    def _flush(self) -> None:
        if self._wanted > self._made:
            self._out.append("\n" * (self._wanted - self._made))
            self._made = self._wanted
        elif self._space and not self._made:
            self._out.append(self._space)
        self._wanted = 0
        self._space = ""

    def _want(self, line_ends: int) -> None:
        self._wanted = max(self._wanted, line_ends)
        self._space = ""

    def _break(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self._want(1 if tag in ("ul", "ol") and self._lists else 2)
        elif tag == "br":
            self._want(min(2, self._wanted + 1))
        elif tag in _LINES:
            self._want(1)

    def _bullet(self) -> None:
        indent = "  " * max(0, min(len(self._lists), _MAX_NESTED) - 1)
        number = self._lists[-1] if self._lists else None
        if number is not None and not self._loops:
            self._lists[-1] = number + 1
            self._write(f"{indent}{number + 1}. ")
        else:
            self._write(f"{indent}- ")

    def _close(self, tag: str) -> None:
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "pre":
            self._verbatim -= 1
        elif tag in ("td", "th") and not self._wanted:
            self._space = "  "
        elif tag == "a" and self._links:
            self._end_link(*self._links.pop())
        if tag != "br":
            self._break(tag)

    def _end_link(self, address: str, start: int) -> None:
        """`text (address)`; only the text if the address adds nothing, only the address if there is no text."""
        shown = "".join(self._out[start:]).strip()
        bare = address.removeprefix("tel:")
        if address.startswith("mailto:"):
            bare = address.removeprefix("mailto:").partition("?")[0]
        if not address or address.startswith(("#", "javascript:")) or bare == shown:
            return
        if address.rstrip("/") in (f"https://{shown}", f"http://{shown}"):
            return
        self._space = " " if shown else ""
        self._write(f"({bare})" if shown else bare)
