"""Warns about valid templates that do not work for many recipients, in mail readers or because of spam filters.

Lines and columns are those of the author's HTML or MJML. A warning never refuses a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from postroom.model.template import Language, Severity, TemplateFinding
from postroom.templates import markup
from postroom.templates.lexer import PLACE
from postroom.templates.render import ParsedTemplate

GMAIL_CLIPS = 102 * 1024
"""Bytes of HTML above which Gmail hides the rest behind a link, the unsubscribe link and the pixel first."""
LONG_SUBJECT = 120
MAX_FINDINGS = 100
_IMAGES = frozenset({"img", "mj-image", "mj-carousel-image"})
_LINKS = frozenset({"a", "area", "mj-button", "mj-image", "mj-navbar-link", "mj-social-element"})
_BACKGROUNDS = ("background", "background-url")
_FORMS = frozenset({"form", "input", "select", "textarea", "button"})
_ACTIVE = frozenset({"script", "iframe", "object", "embed", "applet", "frame", "frameset", "video", "audio"})
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_SPACE = re.compile(r"[\x01-\x20]+")
Found = Iterator[TemplateFinding]


@dataclass(slots=True)
class _Reading:
    source: str
    part: str
    read: ParsedTemplate
    link: markup.Piece | None = None
    """The open `<a>`. None: there is none."""
    shown: bool = field(default=False)
    """Whether it contains something visible."""

    def at(self, position: int, code: str, message: str, hint: str = "") -> TemplateFinding:
        line, column = place(self.source, self.read.skeleton.source_at(position))
        return TemplateFinding(Severity.WARNING, code, self.part, message, hint, line, column)


def place(source: str, position: int) -> tuple[int, int]:
    """Line and column, from 1."""
    return source.count("\n", 0, position) + 1, position - source.rfind("\n", 0, position)


def review_body(source: str, read: ParsedTemplate, language: Language) -> Found:
    """Findings in the HTML or MJML body. `source`: the cleaned source, which was read without error."""
    reading = _Reading(source, language.value, read)
    text = read.skeleton.text
    for piece in markup.pieces(read.skeleton, part=read.part, xml=language is Language.MJML):
        if piece.kind is markup.PieceKind.START:
            yield from _start(reading, piece)
        elif piece.kind is markup.PieceKind.END:
            yield from _end(reading, piece)
        elif piece.kind is markup.PieceKind.TEXT and reading.link:
            shown = markup.unescaped(text[piece.start : piece.end])
            reading.shown = reading.shown or any(not part.isspace() for part in shown.split("\x00") if part)


def review_subject(read: ParsedTemplate) -> Found:
    """Findings in the subject."""
    text = PLACE.sub("", read.skeleton.text).strip()
    warning = partial(TemplateFinding, Severity.WARNING, part="subject")
    if not read.skeleton.text.strip():
        yield warning(code="missing-subject", message="there is no subject", hint="write one, or give one with every campaign")
    elif len(text) > LONG_SUBJECT:
        yield warning(
            code="long-subject",
            message=f"the subject has {len(text)} characters besides its values",
            hint="most readers show 40 to 80",
        )


def review_whole(part: str, size: int, *, unsubscribes: bool) -> Found:
    """Findings about the whole message. `size`: bytes of rendered HTML. `unsubscribes`: whether the unsubscribe URL is output
    anywhere in it."""
    warning = partial(TemplateFinding, Severity.WARNING, part=part)
    if not unsubscribes:
        yield warning(
            code="no-unsubscribe",
            message="the recipient finds no way out: unsubscribe_url is not used",
            hint='bulk mail needs one: {% if unsubscribe_url %}<a href="{{ unsubscribe_url }}">Unsubscribe</a>{% endif %}',
        )
    if size > GMAIL_CLIPS:
        yield warning(
            code="clipped",
            message=f"about {size:,} bytes of HTML: Gmail shows the first {GMAIL_CLIPS:,} and hides the rest",
            hint="make it shorter, or leave styles in <style> (inline_css: false)",
        )


def _start(reading: _Reading, piece: markup.Piece) -> Found:
    found = markup.attributes(reading.read.skeleton.text, piece)
    values = {attribute.name: markup.unescaped(attribute.value).strip() for attribute in reversed(found)}
    yield from _images(reading, piece, values)
    yield from _active(reading, piece, values)
    if piece.name in _LINKS and "href" in values:
        yield from _link(reading, piece, values["href"])
    if piece.name == "a" and "href" in values and not markup.is_alone(reading.read.skeleton.text, piece):
        reading.link, reading.shown = piece, bool(values.get("title") or values.get("aria-label"))


def _end(reading: _Reading, piece: markup.Piece) -> Found:
    if piece.name != "a" or not reading.link:
        return
    if not reading.shown:
        hint = "write its text, or the picture's alt"
        yield reading.at(reading.link.start, "link-without-text", "there is nothing to read in this link", hint)
    reading.link = None


def _images(reading: _Reading, piece: markup.Piece, values: dict[str, str]) -> Found:
    addresses = [values[name] for name in _BACKGROUNDS if name in values]
    if piece.name in _IMAGES:
        reading.shown = reading.shown or bool(values.get("alt"))
        addresses.append(values.get("src", ""))
        if "alt" not in values:
            hint = 'write alt="…" with what it shows, or alt="" where it only decorates'
            yield reading.at(piece.start, "image-without-alt", f"<{piece.name}> has no alternative text", hint)
    for address in addresses:
        scheme = _scheme(address)
        if scheme == "http":
            yield reading.at(
                piece.start, "insecure-image", f"{_shown(address)} is not https", "many readers do not load such a picture"
            )
        elif scheme == "" and address:
            yield _relative(reading, piece, address)


def _active(reading: _Reading, piece: markup.Piece, values: dict[str, str]) -> Found:
    handlers = [name for name in values if name.startswith("on")]
    if piece.name in _ACTIVE or handlers:
        what = f"{handlers[0]}=" if handlers else f"<{piece.name}>"
        yield reading.at(
            piece.start, "active-content", f"{what} does nothing in mail, and makes filters suspicious", "leave it out"
        )
    elif piece.name in _FORMS:
        yield reading.at(
            piece.start, "form", f"<{piece.name}> does not work in most mail readers", "link to a page with the form"
        )
    elif piece.name == "link" and values.get("rel", "").lower() == "stylesheet":
        yield reading.at(piece.start, "external-style", "mail readers do not load style sheets", "put it into <style>")


def _link(reading: _Reading, piece: markup.Piece, address: str) -> Found:
    scheme = _scheme(address)
    if address in ("", "#"):
        yield reading.at(piece.start, "placeholder-link", "this link leads nowhere yet", "write its address")
    elif scheme in ("javascript", "vbscript", "data"):
        yield reading.at(piece.start, "active-content", f"{scheme}: links do nothing in mail", "link to a page")
    elif scheme == "http":
        yield reading.at(piece.start, "insecure-link", f"{_shown(address)} is not https", "write https:// if the site has it")
    elif scheme == "" and not address.startswith("#"):
        yield _relative(reading, piece, address)


def _relative(reading: _Reading, piece: markup.Piece, address: str) -> TemplateFinding:
    hint = "write the whole address, with https://"
    return reading.at(
        piece.start, "relative-address", f"{_shown(address)} is relative: in mail there is no page it is relative to", hint
    )


def _scheme(address: str) -> str | None:
    """The URL's scheme in lower case. Empty: it has none. None: a template tag may output it."""
    fixed = _SPACE.sub("", address).partition("\x00")[0]
    if found := _SCHEME.match(fixed):
        return found[1].lower()
    return "" if fixed or "\x00" not in address else None


def _shown(address: str) -> str:
    return PLACE.sub("{{…}}", address)[:80]
