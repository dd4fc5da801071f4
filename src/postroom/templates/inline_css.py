"""Copies the rules of `<style>` into the elements of an HTML template, once per version: many mail readers drop style sheets.

The markup is never written anew: an HTML parser would move `{% for %}` out of a table and escape `{% if a < b %}`. A copy without
template tags, with numbered elements, goes to css-inline, which only says which rules match which element. Their declarations are
put into the author's own start tags, before the existing `style`. Everything else stays as it was, also `<style>`, for `@media`
and `:hover`.

An element is left alone if its styles may depend on a recipient: template tags in its (or an outer element's) class, id or an
attribute that a selector uses, an element inside a macro, or a matching rule with template tags in its values. If elements cannot
be told apart, the template is returned unchanged. Either way the sheet still applies, and `Inlined.left` says why.

Elements are read with the end tags that authors may leave out (`<li>`, `<td>`, `<p>` …). Conditions, loops and values may change
which elements come out. A template in which a block opens an element without closing it, or whose elements nest or stay open
beyond the limits, is not processed (`Unreadable`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from css_inline import CSSInliner, InlineError

from postroom.errors import Invalid
from postroom.templates import markup
from postroom.templates.lexer import PLACE, Skeleton, Tag, TagKind, cleaned, take_apart
from postroom.templates.markup import HTML_PART
from postroom.templates.render import MAX_SOURCE
from postroom.templates.safety import is_capture
from postroom.templates.stylesheet import Sheet, Unreadable, cascade, read_sheet

MAX_DEPTH = 300
"""Nesting of elements, at most: the parser recurses, and overflows the process's stack somewhere above 10,000."""
MAX_UNCLOSED = 50
"""Elements such as `<b>` that are never closed, at most: the parser opens each again in every following paragraph."""
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
"""Elements whose end tag may be omitted, and the start tags that end them (HTML §13.1.2.4)."""
MAX_REOPENED = 200_000
"""Unclosed elements times all elements, at most."""
MAX_WORK = 1_000_000_000
"""Rules squared times elements, at most: two seconds if every rule matches every element. 1,000 rules and 1,000 elements."""
_NUMBER = "data-postroom-n"
_OUR_PROPERTY = re.compile(r"--r(\d+):")
_HEAD = frozenset({"head", "title", "meta", "link", "base", "style", "script"})
_FETCHED = frozenset({"link", "base"})


@dataclass(slots=True)
class Element:
    """A start tag."""

    piece: markup.Piece
    attributes: list[markup.Attribute]
    outer: int | None
    """The enclosing element. None: the outermost level."""
    captured: bool
    """Inside a macro or the like: it may be output somewhere else."""
    loose: bool
    """A template tag outputs something outside of any attribute: it may be an attribute."""
    branches: bool
    """Conditions or loops surround attributes."""

    @property
    def style(self) -> markup.Attribute | None:
        """The first `style` attribute: of a duplicate the first counts (HTML §13.2.5.33)."""
        return next((attribute for attribute in self.attributes if attribute.name == "style"), None)

    @property
    def inside(self) -> int:
        """The position at which its attributes begin."""
        return self.piece.start + 1 + len(self.piece.name)


@dataclass(slots=True)
class _Block:
    tag: Tag
    depth: int
    """Open elements where the block began."""
    lowest: int


@dataclass(slots=True)
class Elements:
    """The elements of a template, in order, and the state while they are read."""

    skeleton: Skeleton
    all: list[Element] = field(default_factory=list)
    open: list[tuple[str, int]] = field(default_factory=list)
    """Elements not yet closed: name and number."""
    named: Counter[str] = field(default_factory=Counter)
    """How many of those have a name."""
    blocks: list[_Block] = field(default_factory=list)
    moves: bool = False
    """A condition, a loop or unescaped output makes it uncertain which elements come out."""
    unclosed: int = 0
    """Elements that the end tag of another one closed."""


def read_elements(skeleton: Skeleton) -> Elements:
    """Read all elements. Raises `Unreadable`, and `Invalid` as `markup.check` does."""
    elements = Elements(skeleton)
    for piece in markup.pieces(skeleton, part=HTML_PART):
        _read_piece(elements, piece)
    return elements


def _read_piece(elements: Elements, piece: markup.Piece) -> None:
    text = elements.skeleton.text
    if piece.kind is markup.PieceKind.START:
        _balanced(elements, piece)
        _start(elements, piece)
    elif piece.kind is markup.PieceKind.END:
        _end_element(elements, piece.name)
    elif not (elements.open and elements.open[-1][0] == "style"):
        for place in PLACE.finditer(text, piece.start, piece.end):
            _read_tag(elements, elements.skeleton.tags[int(place[1])], place.start())


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
    """The template tags of a start tag outside of its attributes' values."""
    for place in PLACE.finditer(elements.skeleton.text, piece.start, piece.end):
        found = bisect_right(attributes, place.start(), key=attrgetter("start")) - 1
        if found < 0 or place.start() >= attributes[found].end:
            yield elements.skeleton.tags[int(place[1])]


def _end_element(elements: Elements, name: str) -> None:
    """Close the element and all open elements in it. An end tag without a start is ignored, as browsers do."""
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


def _read_tag(elements: Elements, tag: Tag, position: int) -> None:
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


class NotInlined(NamedTuple):
    """A style that was not inlined, and why. `position` is in the template's text."""

    position: int
    why: str


class Inlined(NamedTuple):
    """The template, and the styles that stayed in its style sheets."""

    html: str
    left: tuple[NotInlined, ...]


def inline_css(source: str) -> Inlined:
    """Inline the styles of an HTML template. Raises `Invalid` as `lexer.take_apart` and `markup.check` do."""
    skeleton = take_apart(cleaned(source), part=HTML_PART)
    try:
        sheet = _style_sheet(skeleton)
        if not sheet.rules:
            return Inlined(source, ())
        elements = read_elements(skeleton)
        styles, left = _styles(elements, sheet, _certain(elements, sheet))
        text = _written(elements, styles)
    except Unreadable as problem:
        position = _first_style(skeleton) if problem.position is None else problem.position
        return Inlined(source, (NotInlined(position, f"the style sheets stay as they are: {problem}"),))
    if sheet.overruled and styles:
        names = ", ".join(sheet.overruled[:5])
        why = f"in @media, {names} without !important loses to the styles in the elements"
        left = (*left, NotInlined(_first_style(skeleton), why))
    return Inlined(skeleton.with_text(text).source(), left)


def _first_style(skeleton: Skeleton) -> int:
    return max(0, skeleton.text.lower().find("<style"))


def _style_sheet(skeleton: Skeleton) -> Sheet:
    """All `<style>` together, except those for other media."""
    css: list[str] = []
    style: markup.Piece | None = None
    for piece in markup.pieces(skeleton, part=HTML_PART):
        if style and piece.kind is markup.PieceKind.TEXT and _is_shown(skeleton, style):
            css.append(skeleton.text[piece.start : piece.end])
            if any(skeleton.tags[int(number)].kind is TagKind.BLOCK for number in PLACE.findall(css[-1])):
                raise Unreadable("conditions or loops stand in them", style.start)
        style = piece if piece.kind is markup.PieceKind.START and piece.name == "style" else None
    return read_sheet("\n".join(css))


def _is_shown(skeleton: Skeleton, style: markup.Piece) -> bool:
    values = {attribute.name: attribute.value.strip().lower() for attribute in markup.attributes(skeleton.text, style)}
    return values.get("media", "") in ("", "all", "screen")


# which rules match which elements


def _certain(elements: Elements, sheet: Sheet) -> list[bool]:
    """For each element, whether the copy contains everything that a selector can depend on."""
    certain: list[bool] = []
    for element in elements.all:
        asked = any(
            element.branches or "\x00" in attribute.value
            for attribute in element.attributes
            if attribute.name in sheet.attributes or (element.branches and attribute.name == "style")
        )
        outer = element.outer is None or certain[element.outer]
        certain.append(outer and not (element.captured or element.loose or asked))
    if sheet.looks_around and (elements.moves or not all(certain)):
        raise Unreadable("selectors such as :first-child, :nth-child, + or ~ depend on what conditions and loops put out")
    return certain


def _styles(elements: Elements, sheet: Sheet, certain: list[bool]) -> tuple[dict[int, str], tuple[NotInlined, ...]]:
    """The styles of each element that gets any."""
    styles: dict[int, str] = {}
    unsure: list[int] = []
    size = len(elements.skeleton.text)
    for number, matched in _matches(elements, sheet):
        element = elements.all[number]
        rules = [(at, sheet.rules[at]) for at in matched]
        if element.piece.name in _HEAD or not rules:
            continue
        if certain[number] and not any(rule.personal for _, rule in rules):
            own = element.style
            styles[number] = cascade(rules, markup.unescaped(own.value) if own else "")
            size += len(styles[number])
            if size > MAX_SOURCE:
                raise Unreadable(f"the result would have more than {MAX_SOURCE} characters")
        else:
            unsure.append(number)
    if not unsure:
        return styles, ()
    first = elements.all[min(unsure)].piece
    why = f"the styles of <{first.name}> depend on template tags" + (
        f", and those of {len(unsure) - 1} more elements" if len(unsure) > 1 else ""
    )
    return styles, (NotInlined(first.start, why),)


def _matches(elements: Elements, sheet: Sheet) -> Iterator[tuple[int, list[int]]]:
    """The rules that match each element, found by css-inline: each rule declares one property with its number."""
    if len(sheet.rules) ** 2 * len(elements.all) > MAX_WORK or elements.unclosed * len(elements.all) > MAX_REOPENED:
        raise Unreadable("there are too many rules and elements, or elements that are never closed")
    css = "".join(f"{rule.selector}{{--r{at}:1}}\n" for at, rule in enumerate(sheet.rules))
    inliner = CSSInliner(load_remote_stylesheets=False, inline_style_tags=False, extra_css=css)
    try:
        result = inliner.inline(_copy(elements))
        answered = list(markup.pieces(Skeleton(result, []), part=HTML_PART))
    except (InlineError, Invalid) as problem:
        raise Unreadable(f"it cannot be read: {str(problem)[:200]}") from problem
    seen: set[int] = set()
    for piece in answered:
        values = {a.name: a.value for a in markup.attributes(result, piece)} if piece.kind is markup.PieceKind.START else {}
        number = int(values.get(_NUMBER, "-1"))
        if number >= 0 and number not in seen:
            seen.add(number)
            yield number, [int(at) for at in _OUR_PROPERTY.findall(values.get("style", ""))]


def _copy(elements: Elements) -> str:
    """The template without tags, comments, sheets and styles; its elements numbered."""
    out, number, text = ["<!doctype html>"], 0, elements.skeleton.text
    for piece in markup.pieces(elements.skeleton, part=HTML_PART):
        if piece.kind is markup.PieceKind.START:
            if piece.name not in _FETCHED:
                out.append(_numbered(elements, number))
            number += 1
        elif piece.kind is markup.PieceKind.END or (
            piece.kind is markup.PieceKind.TEXT and not out[-1].startswith(("<style", "<script"))
        ):
            out.append(PLACE.sub("x", text[piece.start : piece.end]))
    return "".join(out)


def _numbered(elements: Elements, number: int) -> str:
    element, text = elements.all[number], elements.skeleton.text
    rest, copied = "", element.inside
    for attribute in element.attributes:
        if attribute.name == "style":
            rest += text[copied : attribute.start]
            copied = attribute.end
    rest += text[copied : element.piece.end]
    return f'<{element.piece.name} {_NUMBER}="{number}"{PLACE.sub("x", rest)}'


# writing them down


def _written(elements: Elements, styles: dict[int, str]) -> str:
    text, out, copied = elements.skeleton.text, list[str](), 0
    for number in sorted(number for number in styles if styles[number]):
        element = elements.all[number]
        own = element.style
        start, end = (own.start, own.end) if own else (element.inside, element.inside)
        out += text[copied:start], "" if own else " ", _attribute(styles[number], own.value if own else "")
        copied = end
    return "".join(out) + text[copied:]


def _attribute(style: str, own: str) -> str:
    """The author's own declarations come last and win, as before. Some old mail readers do not know `&quot;` in a style."""
    style = style if "'" in style else style.replace('"', "'")
    style = style.replace("&", "&amp;").replace('"', "&quot;")
    own = own.strip().replace('"', "&quot;")
    return f'style="{style}; {own}"' if own else f'style="{style}"'
