"""Compiles an MJML template to an HTML template, once a version: responsive markup that Outlook reads too.

Template tags survive because the compiler never sees them: each stands as a plain word while it works, in attributes, in text and
between elements. A tag in a place the compiler drops would be lost in silence, so that is an error. Nothing is fetched:
`mj-include` is refused, and no web font is linked that the template does not name with `mj-font`.
"""

from __future__ import annotations

import re

from mjml import mjml2html

from postroom.delivery.lexer import PLACE, Skeleton
from postroom.delivery.templates import read
from postroom.errors import Invalid

PART = "MJML template"

_ELEMENT = re.compile(r"""<!--.*?-->|<(?P<end>/?)(?P<name>mj[\w-]*)(?:[^<>"']|"[^"]*"|'[^']*')*?(?P<alone>/?)>""", re.DOTALL)
_MJML = re.compile(r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<mjml[\s>]", re.DOTALL)


def is_mjml(source: str) -> bool:
    """Whether a template is MJML rather than HTML: by its first element."""
    return _MJML.match(source.removeprefix("\ufeff")) is not None


def compile_mjml(source: str) -> str:
    """The HTML template. `Invalid` with the line of what is wrong."""
    skeleton = read(source, part=PART).skeleton
    word = _unused_word(skeleton.text)
    swapped = PLACE.sub(lambda place: f"{word}{place[1]}z", skeleton.text)
    _check(skeleton)
    try:
        html = mjml2html(swapped, fonts={})
    except ValueError as problem:
        raise Invalid(f"{PART}: {_cleaned(str(problem), word)}; compare it with the MJML reference.") from problem
    unknown = re.search(r"<(mj-[\w-]+)", html)
    if unknown:
        raise Invalid(f"{PART}, line {_line_of(skeleton, f'<{unknown[1]}')}: there is no element <{unknown[1]}>.")
    return _put_back(skeleton, html, word).source()


def _unused_word(text: str) -> str:
    """The beginning of words that do not occur in the template."""
    word = "zqtag"
    while word in text:
        word += "q"
    return word


def _put_back(skeleton: Skeleton, html: str, word: str) -> Skeleton:
    text = re.sub(rf"{word}(\d+)z", "\x00\\1\x00", html.replace("\x00", ""))
    there = {int(number) for number in PLACE.findall(text)}
    for number, tag in enumerate(skeleton.tags):
        if number not in there:
            raise Invalid(f"{PART}, line {tag.line}: MJML drops what stands in this place, and the tag {tag.source} with it.")
    return skeleton.with_text(text)


def _check(skeleton: Skeleton) -> None:
    """What the compiler would refuse without saying where: elements that do not match."""
    opened: list[tuple[str, int]] = []
    for element in _ELEMENT.finditer(skeleton.text):
        name = element["name"]
        if name is None or element["alone"]:
            continue
        line = _line_at(skeleton, element.start())
        if name == "mj-include":
            raise Invalid(f"{PART}, line {line}: <mj-include> is not available; put the content here.")
        if not element["end"]:
            opened.append((name, line))
        elif not opened or opened[-1][0] != name:
            still = f"<{opened[-1][0]}> of line {opened[-1][1]} is still open" if opened else "nothing is open"
            raise Invalid(f"{PART}, line {line}: </{name}> closes nothing: {still}.")
        else:
            opened.pop()
    if opened:
        raise Invalid(f"{PART}, line {opened[-1][1]}: <{opened[-1][0]}> is never closed.")
    if not _MJML.match(skeleton.text):
        raise Invalid(f"{PART}, line 1: MJML begins with <mjml>.")


def _line_of(skeleton: Skeleton, text: str) -> int:
    return _line_at(skeleton, max(0, skeleton.text.find(text)))


def _line_at(skeleton: Skeleton, position: int) -> int:
    """The line in the author's template: from the last tag before `position`, because tags and comments may have had lines."""
    before = skeleton.text[:position]
    last = None
    for last in PLACE.finditer(before):  # noqa: B007
        pass
    if last is None:
        return before.count("\n") + 1
    tag = skeleton.tags[int(last[1])]
    return tag.line + tag.lines + before.count("\n", last.end())


def _cleaned(problem: str, word: str) -> str:
    """The compiler's words, without ours."""
    return re.sub(rf"{word}\d+z", "{{…}}", problem).strip()[:200]
