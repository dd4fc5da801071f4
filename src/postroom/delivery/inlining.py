"""Moves styles from `<style>` into the elements of an HTML template, once a version: many mail readers drop style sheets.

The markup is never written anew: an HTML parser would hoist `{% for %}` out of a table and escape `{% if a < b %}`. A copy
without template tags, each element numbered, goes to css-inline, which only tells which rules match which element; what they
declare is put into the author's own start tags, before what stands in `style` already. All else stays as it was, `<style>` too,
for `@media` and `:hover`.

An element is left alone where its styles may depend on a recipient: tags in its (or an outer element's) class, id or an
attribute that a selector asks about, inside a macro, or a matching rule with tags in its values. Where elements cannot be told
apart at all, everything stays as it is. Either way the sheet still holds, and `Inlined.left` says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from css_inline import CSSInliner, InlineError

from postroom.delivery import markup
from postroom.delivery.elements import Elements, read_elements
from postroom.delivery.lexer import PLACE, Skeleton, TagKind, cleaned, take_apart
from postroom.delivery.stylesheet import Sheet, Unreadable, cascade, read_sheet
from postroom.delivery.templates import MAX_SOURCE
from postroom.delivery.tracking import PART
from postroom.errors import Invalid

MAX_REOPENED = 200_000
"""Of these, times all elements."""
MAX_WORK = 1_000_000_000
"""Rules squared times elements: two seconds where every rule matches every element. 1,000 rules and 1,000 elements."""

_NUMBER = "data-postroom-n"
_OUR_PROPERTY = re.compile(r"--r(\d+):")
_HEAD = frozenset({"head", "title", "meta", "link", "base", "style", "script"})
_FETCHED = frozenset({"link", "base"})


class Left(NamedTuple):
    """What was not inlined, and why; `position` in the template's text."""

    position: int
    why: str


class Inlined(NamedTuple):
    """The template, and what stayed in its style sheets."""

    html: str
    left: tuple[Left, ...]


def inline(source: str) -> Inlined:
    """The HTML template with its styles in its elements. `Invalid` as `lexer.take_apart` and `markup.check`."""
    skeleton = take_apart(cleaned(source), part=PART)
    try:
        sheet = _sheet(skeleton)
        if not sheet.rules:
            return Inlined(source, ())
        elements = read_elements(skeleton)
        styles, left = _styles(elements, sheet, _certain(elements, sheet))
        text = _written(elements, styles)
    except Unreadable as problem:
        position = _first_style(skeleton) if problem.position is None else problem.position
        return Inlined(source, (Left(position, f"the style sheets stay as they are: {problem}"),))
    if sheet.overruled and styles:
        names = ", ".join(sheet.overruled[:5])
        why = f"in @media, {names} without !important loses to the styles in the elements"
        left = (*left, Left(_first_style(skeleton), why))
    return Inlined(skeleton.with_text(text).source(), left)


def _first_style(skeleton: Skeleton) -> int:
    return max(0, skeleton.text.lower().find("<style"))


def _sheet(skeleton: Skeleton) -> Sheet:
    """What all `<style>` say together, but those for other media."""
    css: list[str] = []
    style: markup.Piece | None = None
    for piece in markup.pieces(skeleton, part=PART):
        if style and piece.kind is markup.Kind.TEXT and _is_shown(skeleton, style):
            css.append(skeleton.text[piece.start : piece.end])
            if any(skeleton.tags[int(number)].kind is TagKind.BLOCK for number in PLACE.findall(css[-1])):
                raise Unreadable("conditions or loops stand in them", style.start)
        style = piece if piece.kind is markup.Kind.START and piece.name == "style" else None
    return read_sheet("\n".join(css))


def _is_shown(skeleton: Skeleton, style: markup.Piece) -> bool:
    values = {attribute.name: attribute.value.strip().lower() for attribute in markup.attributes(skeleton.text, style)}
    return values.get("media", "") in ("", "all", "screen")


# which rules match which elements


def _certain(elements: Elements, sheet: Sheet) -> list[bool]:
    """Of each element, whether the copy shows everything that a selector can ask about."""
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


def _styles(elements: Elements, sheet: Sheet, certain: list[bool]) -> tuple[dict[int, str], tuple[Left, ...]]:
    """Of each element that gets any, the styles."""
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
    return styles, (Left(first.start, why),)


def _matches(elements: Elements, sheet: Sheet) -> Iterator[tuple[int, list[int]]]:
    """By css-inline: each rule declares nothing but a property with its number."""
    if len(sheet.rules) ** 2 * len(elements.all) > MAX_WORK or elements.unclosed * len(elements.all) > MAX_REOPENED:
        raise Unreadable("there are too many rules and elements, or elements that are never closed")
    css = "".join(f"{rule.selector}{{--r{at}:1}}\n" for at, rule in enumerate(sheet.rules))
    inliner = CSSInliner(load_remote_stylesheets=False, inline_style_tags=False, extra_css=css)
    try:
        result = inliner.inline(_copy(elements))
        answered = list(markup.pieces(Skeleton(result, []), part=PART))
    except (InlineError, Invalid) as problem:
        raise Unreadable(f"it cannot be read: {str(problem)[:200]}") from problem
    seen: set[int] = set()
    for piece in answered:
        values = {a.name: a.value for a in markup.attributes(result, piece)} if piece.kind is markup.Kind.START else {}
        number = int(values.get(_NUMBER, "-1"))
        if number >= 0 and number not in seen:
            seen.add(number)
            yield number, [int(at) for at in _OUR_PROPERTY.findall(values.get("style", ""))]


def _copy(elements: Elements) -> str:
    """The template without tags, comments, sheets and styles; its elements numbered."""
    out, number, text = ["<!doctype html>"], 0, elements.skeleton.text
    for piece in markup.pieces(elements.skeleton, part=PART):
        if piece.kind is markup.Kind.START:
            if piece.name not in _FETCHED:
                out.append(_numbered(elements, number))
            number += 1
        elif piece.kind is markup.Kind.END or (piece.kind is markup.Kind.TEXT and not out[-1].startswith(("<style", "<script"))):
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
    """The author's own declarations last: they win, as they did. Some old mail readers do not know `&quot;` in a style."""
    style = style if "'" in style else style.replace('"', "'")
    style = style.replace("&", "&amp;").replace('"', "&quot;")
    own = own.strip().replace('"', "&quot;")
    return f'style="{style}; {own}"' if own else f'style="{style}"'
