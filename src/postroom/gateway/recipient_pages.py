"""Pages for recipients of mail: one column, readable at 320 px, light or dark, in the reader's language.

No script, cookie or external resource: the style is inline, and the content security policy allows it by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Response
from fastapi.responses import HTMLResponse
from minijinja import Environment

_PAGES = Path(__file__).parent / "pages"
_DEFAULT = "en"
_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,40})?\s*(?:;\s*[qQ]=([01](?:\.[0-9]{0,3})?)\s*)?")
_MOST_RANGES = 30
_PLACE = re.compile(r"\{sender\}|\{topic\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientPage:
    """A page, as keys of words.toml."""

    title: str
    texts: Sequence[str]
    buttons: Sequence[tuple[str, str]] = ()
    """The form's choices: value and text key. The first is the primary one unless `is_done`."""
    note: str | None = None
    is_done: bool = False
    """The page confirms a change, and offers to undo it."""


GONE = RecipientPage(title="gone", texts=["gone_text"])
LATER = RecipientPage(title="later", texts=["later_text"])


def languages() -> Mapping[str, Mapping[str, str]]:
    """All texts by language."""
    return _words()


def language_of(accepted: str) -> str:
    """The best supported language for `Accept-Language` (RFC 9110 section 12.5.4). Default: English."""
    best, liked = _DEFAULT, 0.0
    for each in accepted[:1_000].split(",")[:_MOST_RANGES]:
        match = _RANGE.fullmatch(each)
        if match is None:
            continue
        name, quality = match[1].lower(), float(match[2] or 1)
        if name in _words() and quality > liked:
            best, liked = name, quality
    return best


def render_page(
    leaflet: RecipientPage,
    accepted: str,
    *,
    status: int = 200,
    sender: str = "",
    topic: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The page in the language that `accepted` asks for. `sender` empty: unknown."""
    language = language_of(accepted)
    words = _words()[language]

    values = {"{sender}": sender or words["sender"], "{topic}": topic}

    def say(name: str) -> str:
        return _PLACE.sub(lambda place: values[place[0]], words[name])

    text = _environment().render_template(
        "page.html",
        language=language,
        style=_style(),
        title=say(leaflet.title),
        texts=[say(name) for name in leaflet.texts],
        buttons=[(choice, say(name)) for choice, name in leaflet.buttons],
        note=leaflet.note and say(leaflet.note),
        status=leaflet.is_done,
    )
    return HTMLResponse(text, status, headers={**_page_headers(language), **(headers or {})})


def _page_headers(language: str) -> dict[str, str]:
    policy = f"default-src 'none'; style-src '{_style_digest()}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    return {
        "Content-Security-Policy": policy,
        "Content-Language": language,
        "Vary": "Accept-Language",
        "Cache-Control": "no-store",
        "X-Frame-Options": "DENY",
        "X-Robots-Tag": "noindex, nofollow",
    }


@cache
def _words() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(_page_file("words.toml"))


@cache
def _style() -> str:
    return _page_file("style.css")


@cache
def _style_digest() -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()


@cache
def _environment() -> Environment:
    return Environment(loader=_page_file)


def _page_file(name: str) -> str:
    return (_PAGES / name).read_text("utf-8")
