"""A mail that came in, in parts: no more of it than a report needs, and never more than is affordable.

Whoever can reach the listener writes these mails. So: only the first `MAX_READ` bytes count (a report's own words come first, the
returned original last), parts and nesting are counted, there is no recursion, and no step looks twice at the same byte for a
reason a stranger controls. What is beyond a limit is not read; nothing here raises. The standard library's parser does
not serve: it recurses as deep as the mail says, and fails there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from postroom.events.bounce_parser import encodings
from postroom.events.bounce_parser.head import EMPTY, Head, read_head

MAX_READ = 256 * 1024
"""Bytes of a mail that are looked at."""
MAX_PARTS = 50
MAX_DEPTH = 8
MAX_HEAD = 32 * 1024
"""Bytes of one part's header fields that are looked at."""

_ENCLOSING = ("message/rfc822", "message/global")
_PARAMETER = re.compile(r";\s*([a-z-]{1,40})\*?\s{0,5}=\s{0,5}(?:\"([^\"]*)\"|([^\s;]*))", re.IGNORECASE)
_STRAY_BOUNDARY = re.compile(rb"^--([^\s]{5,100}?)(?:--)?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part that is no multipart, in the order of the mail."""

    kind: str
    """Its media type, in lower case."""
    head: Head
    body: bytes
    """Transfer encoding undone, line ends `\\n`."""
    charset: str
    enclosed: bool
    """It belongs to a mail inside this mail."""

    def text(self) -> str:
        """For reading; of HTML what a person sees."""
        return encodings.readable(self.body, self.charset, html=self.kind == "text/html")


class _Block(NamedTuple):
    """Head and body as they stand, not looked at yet."""

    content: bytes
    depth: int
    enclosed: bool


def read_mail(raw: bytes) -> tuple[Head, list[Part]]:
    """The mail's own header fields, and its parts."""
    content = raw[:MAX_READ].replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
    head, _ = _split(content)
    return head, list(_parts(content))


def _parts(content: bytes) -> Iterator[Part]:
    """A stack instead of recursion; each multipart puts its children back in their order."""
    stack, left = [_Block(content, 0, enclosed=False)], MAX_PARTS
    while stack and left:
        left -= 1
        block = stack.pop()
        head, body = _split(block.content)
        kind, parameters = content_type(head)
        if kind.startswith("multipart/"):
            pieces = _pieces(body, parameters.get("boundary", "")) if block.depth < MAX_DEPTH else []
            if pieces:
                stack.extend(_Block(piece, block.depth + 1, block.enclosed) for piece in reversed(pieces[:left]))
                continue
            kind = "text/plain"
        body = encodings.undone(body, head.get("content-transfer-encoding"))
        yield Part(kind, head, body, parameters.get("charset", ""), block.enclosed)
        if kind in _ENCLOSING and block.depth < MAX_DEPTH:
            stack.append(_Block(body.lstrip(b"\n"), block.depth + 1, enclosed=True))


def content_type(head: Head) -> tuple[str, dict[str, str]]:
    """Media type and parameters; what says none, or nonsense, is plain text (RFC 2045 §5.2)."""
    value = head.get("content-type")
    kind = value.partition(";")[0].strip().lower()
    parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}
    return kind if "/" in kind else "text/plain", parameters


def _split(content: bytes) -> tuple[Head, bytes]:
    """Where the first empty line is. What begins with none of a header's fields has no head."""
    if content.startswith(b"\n"):
        return EMPTY, content[1:]
    top, _, body = content.partition(b"\n\n")
    return read_head(top[:MAX_HEAD]), body


def _pieces(body: bytes, boundary: str) -> list[bytes]:
    """Between the boundaries. Broken mail names another boundary than it uses: then the first line that looks like one."""
    whole = b"\n" + body
    delimiter = b"\n--" + boundary.encode("utf-8", "replace")
    if not boundary or delimiter not in whole:
        stray = _STRAY_BOUNDARY.search(body[:MAX_HEAD])
        if not stray:
            return []
        delimiter = b"\n--" + stray[1]
    pieces: list[bytes] = []
    for piece in whole.split(delimiter, MAX_PARTS)[1:]:
        if piece.startswith(b"--"):
            break
        line, _, rest = piece.partition(b"\n")
        if line.strip() and pieces:  # another boundary that begins with this one: it belongs to the part before
            pieces[-1] += delimiter + piece
        else:
            pieces.append(rest)
    return pieces
