"""Reads which elements an HTML template has, and how sure that is: conditions, loops and values may change what comes out.

Ends that authors leave away are known (`<li>`, `<td>`, `<p>` …). A template where a block opens an element and does not close
it, or whose elements nest or stay open beyond all measure, is not read at all (`Unreadable`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from postroom.delivery import markup
from postroom.delivery.growth import is_capture
from postroom.delivery.lexer import PLACE, Skeleton, Tag, TagKind
from postroom.delivery.stylesheet import Unreadable
from postroom.delivery.tracking import PART

MAX_DEPTH = 300
"""Elements in elements: the parser recurses, and overflows the stack of the process somewhere above ten thousand."""
MAX_UNCLOSED = 50
"""Elements such as `<b>` that are never closed: the parser opens each again in every paragraph that follows."""

_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"})
_VERBATIM = frozenset({"script", "style", "textarea", "title"})
_ENDED_BY_THE_NEXT = {
    "li": frozenset({"li"}),
    "td": frozenset({"td", "th"}),
    "th": frozenset({"td", "th"}),
    "tr": frozenset({"td", "th", "tr"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "p": frozenset({"p"}),
}
"""Their end tags may be left away (HTML §13.1.2.4)."""


@dataclass(slots=True)
class Element:
    """A start tag."""

    piece: markup.Piece
    attributes: list[markup.Attribute]
    outer: int | None
    """The element it stands in."""
    captured: bool
    """Inside a macro or the like: it may come out somewhere else."""
    loose: bool
    """What a template tag puts out stands in it outside of any attribute: it may be one."""
    branches: bool
    """Conditions or loops stand in it around attributes."""

    @property
    def style(self) -> markup.Attribute | None:
        """Of an attribute given twice, the first counts (HTML §13.2.5.33)."""
        return next((attribute for attribute in self.attributes if attribute.name == "style"), None)

    @property
    def inside(self) -> int:
        """Where its attributes begin."""
        return self.piece.start + 1 + len(self.piece.name)


@dataclass(slots=True)
class _Block:
    tag: Tag
    depth: int
    """Of elements, where it began."""
    lowest: int


@dataclass(slots=True)
class Elements:
    """Of a template, in order."""

    skeleton: Skeleton
    all: list[Element] = field(default_factory=list)
    open: list[tuple[str, int]] = field(default_factory=list)
    """While it is read: those not yet closed, each with its number."""
    named: Counter[str] = field(default_factory=Counter)
    """Of those, how many have a name."""
    blocks: list[_Block] = field(default_factory=list)
    moves: bool = False
    """A condition, a loop or unescaped output: which elements come out is not certain."""
    unclosed: int = 0
    """Those that another's end closed."""


def read_elements(skeleton: Skeleton) -> Elements:
    """All of them. `Unreadable`; `Invalid` as `markup.check`."""
    elements = Elements(skeleton)
    for piece in markup.pieces(skeleton, part=PART):
        _read(elements, piece)
    return elements


def _read(elements: Elements, piece: markup.Piece) -> None:
    text = elements.skeleton.text
    if piece.kind is markup.Kind.START:
        _balanced(elements, piece)
        _start(elements, piece)
    elif piece.kind is markup.Kind.END:
        _end(elements, piece.name)
    elif not (elements.open and elements.open[-1][0] == "style"):
        for place in PLACE.finditer(text, piece.start, piece.end):
            _tag(elements, elements.skeleton.tags[int(place[1])], place.start())


def _start(elements: Elements, piece: markup.Piece) -> None:
    ended = _ENDED_BY_THE_NEXT.get(piece.name, frozenset())
    while elements.open and elements.open[-1][0] in ended:
        _pop(elements)
    found = markup.attributes(elements.skeleton.text, piece)
    between = {tag.kind for tag in _between(elements, piece, found)}
    elements.all.append(
        Element(
            piece,
            found,
            outer=elements.open[-1][1] if elements.open else None,
            captured=any(is_capture(block.tag) for block in elements.blocks),
            loose=TagKind.OUTPUT in between,
            branches=TagKind.BLOCK in between,
        )
    )
    if piece.name == "style" and elements.blocks:
        raise Unreadable("conditions or loops stand around them", piece.start)
    if piece.name in _VERBATIM and markup.is_alone(elements.skeleton.text, piece):
        raise Unreadable(f"<{piece.name}/> ends nowhere for a browser", piece.start)
    if piece.name not in _VOID:
        elements.open.append((piece.name, len(elements.all) - 1))
        elements.named[piece.name] += 1
        if len(elements.open) > MAX_DEPTH:
            raise Unreadable(f"elements are nested more than {MAX_DEPTH} deep", piece.start)


def _between(elements: Elements, piece: markup.Piece, attributes: list[markup.Attribute]) -> Iterator[Tag]:
    """The template tags of a start tag that stand outside of its attributes' values."""
    for place in PLACE.finditer(elements.skeleton.text, piece.start, piece.end):
        found = bisect_right(attributes, place.start(), key=attrgetter("start")) - 1
        if found < 0 or place.start() >= attributes[found].end:
            yield elements.skeleton.tags[int(place[1])]


def _end(elements: Elements, name: str) -> None:
    """Close the element and what is still open in it; an end without a beginning is ignored, as browsers do."""
    if not elements.named[name]:
        return
    while elements.open[-1][0] != name:
        elements.unclosed += elements.open[-1][0] not in _ENDED_BY_THE_NEXT
        _pop(elements)
    if elements.unclosed > MAX_UNCLOSED:
        raise Unreadable(f"more than {MAX_UNCLOSED} elements are never closed")
    _pop(elements)


def _pop(elements: Elements) -> None:
    elements.named[elements.open.pop()[0]] -= 1
    if elements.blocks:
        elements.blocks[-1].lowest = min(elements.blocks[-1].lowest, len(elements.open))


def _tag(elements: Elements, tag: Tag, position: int) -> None:
    """A template tag between elements: what stands in a block must open and close its own elements."""
    if tag.kind is TagKind.OUTPUT:
        elements.moves = elements.moves or "safe" in tag.body or "(" in tag.body
    elif tag.word.startswith("end") or tag.word in ("else", "elif"):
        block = elements.blocks[-1] if elements.blocks else None
        if block is None or len(elements.open) != block.depth or block.lowest < block.depth:
            raise Unreadable(f"an element is opened or closed on one side of {tag.source} only", position)
        if tag.word.startswith("end"):
            elements.blocks.pop()
    elif tag.word in ("if", "for", "with", "autoescape") or is_capture(tag):
        elements.moves = True
        elements.blocks.append(_Block(tag, len(elements.open), len(elements.open)))


def _balanced(elements: Elements, piece: markup.Piece) -> None:
    """Blocks inside a start tag must end there."""
    numbers = PLACE.findall(elements.skeleton.text, piece.start, piece.end)
    depth = 0
    for tag in (elements.skeleton.tags[int(number)] for number in numbers):
        if tag.kind is TagKind.BLOCK and (tag.word in ("if", "for", "with", "autoescape") or is_capture(tag)):
            depth += 1
        elif tag.word.startswith("end"):
            depth -= 1
        if depth < 0:
            break
    if depth:
        raise Unreadable(f"a condition or loop begins or ends in the middle of the tag <{piece.name}>", piece.start)
