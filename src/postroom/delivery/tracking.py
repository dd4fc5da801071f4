"""Links, the open pixel and the unsubscribe address: every URL in a message that leads back to Postroom is made here.

A fixed link becomes an index into the campaign's link table: `…/t/c/<recipient's token>.<index>`. A link with template tags in
its address is rendered first and then sealed whole, for this recipient only (model.tokens): neither can be made to
lead elsewhere. Addresses that are not http or https stay as they are, and so do links inside `{% filter %}`, links to Postroom,
and the text part. Without a public URL nothing is tracked.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from operator import itemgetter
from typing import Any
from urllib.parse import urlsplit

from postroom.errors import Invalid
from postroom.model.campaign import CampaignRef
from postroom.model.tokens import TokenSealer
from postroom.templates import markup
from postroom.templates.lexer import PLACE, Skeleton, Tag, TagKind
from postroom.templates.markup import HTML_PART
from postroom.templates.render import TOKEN_NAME, safe
from postroom.templates.safety import is_capture

MAX_LINKS = 10_000
_FILTER = "_personal_link"
_LINKING = frozenset({"a", "area", "v:roundrect", "v:rect"})
_WEB = re.compile(r"https?://[^\s]+", re.IGNORECASE)
_OUR_NAMES = re.compile(r"unsubscribe_url(?![\w])")
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)


def check_public_url(public_url: str) -> str:
    """The URL without its final slash. Raises `Invalid` unless it is an http(s) URL without query."""
    parts = urlsplit(public_url)
    good = parts.scheme in ("http", "https") and parts.netloc and not parts.query and not parts.fragment
    if not good or not re.fullmatch(r"[!-~]{1,300}", public_url) or re.search(r"""["'<>\\=&]""", public_url):
        raise Invalid(f"POSTROOM_PUBLIC_URL must look like https://mail.example.com, not '{public_url[:100]}'.")
    return public_url.rstrip("/")


def unsubscribe_url(public_url: str, sealer: TokenSealer, core: str) -> str:
    """The unsubscribe URL (GET asks, POST unsubscribes: RFC 8058). `core`: what differs by recipient, or a placeholder."""
    before, after = sealer.unsubscribe_frame
    return f"{public_url}/u/{before}{core}{after}"


def links_key(ref: CampaignRef) -> str:
    """Key of a campaign's link table: a JSON array of URLs that a tracked link's index selects from."""
    return f"{ref.tenant}/campaigns/{ref.campaign}/links.json"


def track(template: Skeleton, public_url: str, *, opens: bool, clicks: bool) -> tuple[Skeleton, tuple[str, ...]]:
    """The HTML template with tracked links and the pixel, and the campaign's link table."""
    tracked = template.with_text(template.text)
    links: dict[str, int] = {}
    if clicks:
        _Links(tracked, public_url, links).rewrite()
    if opens:
        _add_pixel(tracked, public_url)
    return tracked, tuple(links)


def filters(public_url: str | None, sealer: TokenSealer) -> dict[str, Callable[..., Any]]:
    """The filters that a tracked template calls."""
    return {} if public_url is None else {_FILTER: _personal_link(public_url, sealer)}


def _personal_link(public_url: str, sealer: TokenSealer) -> Callable[..., Any]:
    click, ours = f"{public_url}/t/c/", f"{public_url}/"

    def personal_link(state: Any, rendered: str) -> Any:
        url = markup.unescaped(str(rendered)).strip()
        if not _WEB.fullmatch(url) or url.startswith(ours):
            return safe(_harmless(url, str(rendered)))
        token = state.lookup(TOKEN_NAME)
        return safe(click + token + sealer.personal(token, url))

    personal_link.__minijinja_pass_state__ = True  # type: ignore[attr-defined]
    return personal_link


def _harmless(url: str, rendered: str) -> str:
    """A URL from a row must not run a script in a mail reader."""
    scheme = re.sub(r"[\x00-\x20]", "", url).partition(":")[0].lower()
    return "#" if scheme in ("javascript", "vbscript", "data") else rendered


class _Links:
    """Rewrites the links of one template."""

    def __init__(self, skeleton: Skeleton, public_url: str, links: dict[str, int]) -> None:
        self._skeleton = skeleton
        self._click = f"{public_url}/t/c/"
        self._public_url = public_url
        self._links = links
        self._untouched = _inside_filters(skeleton)

    def rewrite(self) -> None:
        text = self._skeleton.text
        out: list[str] = []
        copied = 0
        for piece in markup.pieces(self._skeleton, part=HTML_PART, outlook=True):
            if piece.kind is not markup.PieceKind.START or piece.name not in _LINKING or self._is_untouched(piece.start):
                continue
            for attribute in markup.attributes(text, piece):
                if attribute.name == "href" and (link := self._link(attribute.value)) is not None:
                    out += text[copied : attribute.start], f'href="{link}"'
                    copied = attribute.end
        self._skeleton.text = "".join(out) + text[copied:]

    def _is_untouched(self, position: int) -> bool:
        found = bisect_right(self._untouched, position, key=itemgetter(0)) - 1
        return found >= 0 and position < self._untouched[found][1]

    def _link(self, value: str) -> str | None:
        return self._personal(value) if "\x00" in value else self._fixed(value)

    def _fixed(self, value: str) -> str | None:
        url = markup.unescaped(value).strip()
        if not _WEB.fullmatch(url) or url.startswith(f"{self._public_url}/"):
            return None
        index = self._links.setdefault(url, len(self._links))
        if index >= MAX_LINKS:
            raise Invalid(f"{HTML_PART}: more than {MAX_LINKS} different links.")
        return f"{self._click}{self._skeleton.add(Tag(TagKind.OUTPUT, TOKEN_NAME, 0))}.{index}"

    def _personal(self, value: str) -> str | None:
        tags = [self._skeleton.tags[int(number)] for number in PLACE.findall(value)]
        if all(tag.kind is TagKind.OUTPUT and _OUR_NAMES.match(tag.body) for tag in tags) and not PLACE.sub("", value).strip():
            return None
        line = tags[0].line
        begin = self._skeleton.add(Tag(TagKind.BLOCK, f"filter {_FILTER}", line))
        return begin + value.replace('"', "&quot;") + self._skeleton.add(Tag(TagKind.BLOCK, "endfilter", line))


def _inside_filters(skeleton: Skeleton) -> list[tuple[int, int]]:
    """The ranges inside `{% filter %}`, which would change a URL: the outermost ones, in order."""
    ranges: list[tuple[int, int]] = []
    opened: list[int] = []
    for place in PLACE.finditer(skeleton.text):
        tag = skeleton.tags[int(place[1])]
        if tag.word == "filter" and is_capture(tag):
            opened.append(place.end())
        elif tag.word == "endfilter" and opened:
            start = opened.pop()
            if not opened:
                ranges.append((start, place.start()))
    return ranges


def _add_pixel(skeleton: Skeleton, public_url: str) -> None:
    """Add the pixel before the last `</body>`, or at the end."""
    token = skeleton.add(Tag(TagKind.OUTPUT, TOKEN_NAME, 0))
    style = "display:block;width:1px;height:1px;border:0"
    pixel = f'<img src="{public_url}/t/o/{token}" width="1" height="1" alt="" style="{style}">'
    ends = list(_BODY_END.finditer(skeleton.text))
    position = ends[-1].start() if ends else len(skeleton.text.rstrip())
    skeleton.text = skeleton.text[:position] + pixel + skeleton.text[position:]
