"""Compiles an MJML template to an HTML template, once per version: responsive markup that Outlook reads too.

Template tags survive because the compiler never sees them: each is replaced by a plain word, in attributes, in text and between
elements. A tag in a place the compiler drops would be lost silently, so that is an error. Nothing is fetched:
`mj-include` is refused, and no web font is linked that the template does not name with `mj-font`.
"""

from __future__ import annotations

import re

from mjml import mjml2html

from postroom.errors import Invalid, TooLarge
from postroom.templates import markup
from postroom.templates.lexer import PLACE, Skeleton
from postroom.templates.render import read_template

MJML_PART = "MJML template"
_MJML = re.compile(r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--(?:(?!-->).)*+-->\s*+)*+<mjml[\s>]", re.DOTALL)
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
_POSITION = re.compile(r" at position (\d+):\d+")
MAX_SOURCE = 300_000
"""Characters, at most: the compiler holds the interpreter's lock, so all threads of the process wait meanwhile."""
MAX_ELEMENTS = 5_000
"""Elements of MJML and of HTML in it, at most: some become a thousand characters each."""
MAX_DEPTH = 50
"""Nesting of elements, at most: the compiler recurses, and overflows the process's stack somewhere above 1,000."""


def is_mjml(source: str) -> bool:
    """Whether a template is MJML rather than HTML, by its first element."""
    return _MJML.match(source.removeprefix("\ufeff")) is not None


def compile_mjml(source: str) -> str:
    """Compile to HTML. Raises `Invalid` with the line of the error, and `TooLarge` before anything is compiled."""
    if len(source) > MAX_SOURCE:
        raise TooLarge(f"{MJML_PART}: {len(source)} characters; a template in MJML may have {MAX_SOURCE}.")
    skeleton = read_template(source, part=MJML_PART).skeleton
    word = _unused_word(skeleton.text)
    swapped = PLACE.sub(lambda place: f"{word}{place[1]}z", skeleton.text)
    _check(skeleton)
    try:
        html = mjml2html(swapped, fonts={})
    except ValueError as problem:
        where = _where(str(problem), swapped, skeleton, word)
        raise Invalid(f"{MJML_PART}{where}: {_cleaned(str(problem), word)}; compare it with the MJML reference.") from problem
    unknown = re.search(r"<(mj-[\w-]+)", html)
    if unknown:
        raise Invalid(f"{MJML_PART}, line {_line_of(skeleton, f'<{unknown[1]}')}: there is no element <{unknown[1]}>.")
    return _put_back(skeleton, html, word).source()


def _unused_word(text: str) -> str:
    """A prefix of words that do not occur in the template."""
    word = "zqtag"
    while word in text:
        word += "q"
    return word


def _places(swapped: str, word: str) -> str:
    """Replace the words by the tags' placeholders."""
    return re.sub(rf"{word}(\d+)z", "\x00\\1\x00", swapped)


def _put_back(skeleton: Skeleton, html: str, word: str) -> Skeleton:
    text = _places(html.replace("\x00", ""), word)
    there = {int(number) for number in PLACE.findall(text)}
    for number, tag in enumerate(skeleton.tags):
        if number not in there:
            raise Invalid(
                f"{MJML_PART}, line {tag.line}: MJML drops what stands in this place, and the tag {tag.source} with it."
            )
    return skeleton.with_text(text)


def _check(skeleton: Skeleton) -> None:
    """Raise an error with a line for anything the compiler would refuse without one: elements that do not match."""
    markup.bound(skeleton, part=MJML_PART)
    for outlook in (False, True):  # the compiler reads some of these comments, so what it recurses into is bounded either way
        _check_elements(skeleton, outlook=outlook)
    if not _MJML.match(skeleton.text):
        raise Invalid(f"{MJML_PART}, line 1: MJML begins with <mjml>.")


def _check_elements(skeleton: Skeleton, *, outlook: bool) -> None:
    opened: list[tuple[str, int]] = []
    depth = count = 0
    for piece in markup.pieces(skeleton, part=MJML_PART, outlook=outlook, xml=True):
        begins = piece.kind is markup.PieceKind.START
        count += begins
        if count > MAX_ELEMENTS:
            raise TooLarge(f"{MJML_PART}, line {skeleton.line_at(piece.start)}: more than {MAX_ELEMENTS} elements.")
        if not (begins or piece.kind is markup.PieceKind.END) or piece.name in _VOID:
            continue
        if piece.name == "mj-include":
            line = skeleton.line_at(piece.start)
            raise Invalid(f"{MJML_PART}, line {line}: <mj-include> is not available; put the content here.")
        if begins and markup.is_alone(skeleton.text, piece):
            continue
        depth = max(0, depth + (1 if begins else -1))
        if depth > MAX_DEPTH:
            raise Invalid(f"{MJML_PART}, line {skeleton.line_at(piece.start)}: elements nested more than {MAX_DEPTH} deep.")
        if piece.name.startswith("mj"):
            _match(skeleton, piece, opened)
    if opened:
        name, position = opened[-1]
        raise Invalid(f"{MJML_PART}, line {skeleton.line_at(position)}: <{name}> is never closed.")


def _match(skeleton: Skeleton, piece: markup.Piece, opened: list[tuple[str, int]]) -> None:
    """Open an MJML element, or close the open one."""
    if piece.kind is markup.PieceKind.START:
        opened.append((piece.name, piece.start))
    elif opened and opened[-1][0] == piece.name:
        opened.pop()
    else:
        still = f"<{opened[-1][0]}> of line {skeleton.line_at(opened[-1][1])} is still open" if opened else "nothing is open"
        raise Invalid(f"{MJML_PART}, line {skeleton.line_at(piece.start)}: </{piece.name}> closes nothing: {still}.")


def _where(problem: str, swapped: str, skeleton: Skeleton, word: str) -> str:
    """The line of an error, if the compiler gives a position (a byte range in its input)."""
    told = _POSITION.search(problem)
    if not told:
        return ""
    before = swapped.encode()[: int(told[1])].decode(errors="ignore")
    space = len(swapped) - len(swapped[len(before) :].lstrip()) - len(before)
    return f", line {skeleton.line_at(len(_places(before, word)) + space)}"


def _line_of(skeleton: Skeleton, text: str) -> int:
    return skeleton.line_at(max(0, skeleton.text.find(text)))


def _cleaned(problem: str, word: str) -> str:
    """The compiler's message without the placeholder words."""
    return re.sub(rf"{word}\d+z", "{{…}}", _POSITION.sub("", problem)).strip()[:200]
