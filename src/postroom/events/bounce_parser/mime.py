"""MIME parsing for mails that anyone may have written: bounded, lenient, never raises.

- Only the first `MAX_PARSED_BYTES` of a mail are read (a report's own text comes first, the returned original last). Parts,
  nesting and header fields have limits; what is beyond them is ignored.
- No recursion, and no step whose time is more than linear in the input. The standard library's parser recurses as deep as the
  mail says, and fails there.
- Only the charsets that mail uses are decoded. Python knows codecs that a sender must not be able to choose: punycode is
  quadratic, and others are no charsets. Text never contains NUL or control characters, so it can be stored anywhere.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from postroom.clock import Instant

MAX_TEXT = 32 * 1024
"""Bytes of one part that are read as text."""
_CHARSETS = re.compile(
    r"utf-?8|us-?ascii|ascii|iso-?8859-?\d{1,2}|windows-?125\d|cp-?125\d|cp(?:437|850|852|866|932|936|949|950)|koi8-?[ru]|"
    r"iso-?2022-?(?:jp|kr|cn)|shift[-_]?jis|sjis|euc-?(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-?hkscs)?|ks_c_5601-1987|tis-?620"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\ud800-\udfff]+")
_BREAK = re.compile(r"<(?:br|p|/p|/div|/tr|/td|/li|/h[1-6]|/table)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>\s@][^<>@]*>")  # but not `<someone@example.com>`: an address is what we look for
_BEYOND = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")
"""References to characters that do not exist: `html.unescape` fails on numbers of thousands of digits."""
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def decode_transfer_encoding(body: bytes, encoding: str) -> bytes:
    """Undo a Content-Transfer-Encoding (RFC 2045 6). Of a broken encoding returns what can be decoded."""
    match encoding.strip().lower():
        case "base64":
            return _newlines(_base64(body))
        case "quoted-printable":
            return _newlines(binascii.a2b_qp(body))
        case _:
            return body


def decode_encoded_word(charset: str, encoding: str, text: str) -> str:
    """Decode one encoded word (RFC 2047 4)."""
    raw = text.encode("utf-8", "replace")
    decoded = (
        _base64(raw) if encoding in "Bb" else unquote_to_bytes(raw.replace(b"%", b"=25").replace(b"=", b"%").replace(b"_", b" "))
    )
    return decode_text(decoded, charset)


def decode_text(raw: bytes, charset: str = "") -> str:
    """Decode bytes as `charset` if it is one that mail uses, else as UTF-8, else as Latin-1. Never raises."""
    name = charset.strip().strip("\"'").lower()
    if name in ("gb2312", "gbk"):
        name = "gb18030"  # a superset, and what senders mean by either
    if _CHARSETS.fullmatch(name):
        try:
            return raw.decode(name, "replace")
        except LookupError:
            pass
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def readable_text(body: bytes, charset: str, *, html: bool) -> str:
    """A part's text, of HTML without markup; at most `MAX_TEXT` bytes of it are read."""
    text = decode_text(body[:MAX_TEXT], charset)
    return strip_control_characters(_seen(text) if html else text)


def strip_control_characters(text: str) -> str:
    """Replace control characters, except line ends and tabs, by spaces."""
    return _CONTROL.sub(" ", text)


def _seen(text: str) -> str:
    for name in ("style", "script", "head"):
        text = _without(text, f"<{name}", f"</{name}>")
    return html.unescape(_BEYOND.sub(" ", _TAG.sub(" ", _BREAK.sub("\n", text))))


def _without(text: str, start: str, end: str) -> str:
    """Cut out each stretch from `start` to `end`. One forward search per stretch, so unclosed ones cost no more than one."""
    lowered, kept, at = text.lower(), [], 0
    if len(lowered) != len(text):  # lower() changed the length of some letter, so positions would not agree
        return text
    while (found := lowered.find(start, at)) >= 0:
        kept.append(text[at:found])
        over = lowered.find(end, found)
        if over < 0:
            return "".join(kept)
        at = over + len(end)
    return "".join([*kept, text[at:]])


def _base64(body: bytes) -> bytes:
    letters = _NOT_BASE64.sub(b"", body)
    try:
        return (
            binascii.a2b_base64(letters[: len(letters) // 4 * 4] + b"====")
            if len(letters) % 4 == 1
            else binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
        )
    except binascii.Error:
        return b""


def _newlines(body: bytes) -> bytes:
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


MAX_FIELDS = 300
MAX_VALUE = 2_000
"""Characters of one field that are kept."""
_FOLD = re.compile(r"\n[ \t]+")
_WORD = re.compile(r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z-]{0,20})?\?([BbQq])\?([^?\n]{0,500})\?=")
_BETWEEN_WORDS = re.compile(r"\?=[ \t]{1,10}=\?")
_MAILBOX = re.compile(r"[^\s<>()\",;:]{1,256}@[^\s<>()\",;:]{1,255}")


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """Header fields: names in lower case, values unfolded, in order."""

    fields: dict[str, list[str]]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def get(self, name: str) -> str:
        """The first value of that field, undecoded; empty if there is none."""
        values = self.fields.get(name)
        return values[0] if values else ""

    def text(self, name: str) -> str:
        """The first value of that field with encoded words (RFC 2047) decoded."""
        value = self.get(name)
        if "=?" not in value:
            return value
        joined = _BETWEEN_WORDS.sub("?==?", value)
        return strip_control_characters(_WORD.sub(lambda word: decode_encoded_word(word[1], word[2], word[3]), joined))

    def mailbox(self, name: str) -> str:
        """The first address in that field, in lower case; empty if there is none."""
        found = _MAILBOX.search(self.get(name)) if "@" in self.get(name) else None
        return found[0].lower() if found else ""


NO_HEADER = HeaderFields({})


def parse_header(block: bytes) -> HeaderFields:
    """Parse a block of header fields, leniently. Skips lines that are no fields, such as the `From ` line of an mbox file."""
    fields: dict[str, list[str]] = {}
    for line in _FOLD.sub(" ", strip_control_characters(decode_text(block))).split("\n", MAX_FIELDS)[:MAX_FIELDS]:
        name, colon, value = line.partition(":")
        name = name.rstrip().lower()
        if colon and name and len(name) <= 80 and " " not in name:
            fields.setdefault(name, []).append(value[:MAX_VALUE].strip())
    return HeaderFields(fields)


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE = re.compile(
    r"\b([0-9]{1,2})[ -]([a-z]{3})[a-z]{0,6}[ -]([0-9]{4}) {1,3}"
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?: {1,3}([+-])([0-9]{2})([0-9]{2}))?",
    re.IGNORECASE,
)


def parse_date(text: str) -> Instant | None:
    """Parse a `Date` field (RFC 5322 3.3). Without a zone it is UTC. Returns None if it cannot be parsed."""
    found = _DATE.search(text[:200])
    if not found:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    try:
        zone = timezone(timedelta(hours=int(zone_hours), minutes=int(zone_minutes)) * (-1 if sign == "-" else 1)) if sign else UTC
        number = _MONTHS.index(month.lower()) + 1
        moment = datetime(int(year), number, int(day), int(hour), int(minute), min(int(second or 0), 59), tzinfo=zone)
        return Instant(int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        return None


MAX_PARSED_BYTES = 256 * 1024
"""Bytes of a mail that are parsed."""
MAX_PARTS = 50
MAX_DEPTH = 8
MAX_HEADER_BYTES = 32 * 1024
"""Bytes of one part's header that are parsed."""
_ENCLOSING = ("message/rfc822", "message/global")
_PARAMETER = re.compile(r";\s*([a-z-]{1,40})\*?\s{0,5}=\s{0,5}(?:\"([^\"]*)\"|([^\s;]*))", re.IGNORECASE)
_STRAY_BOUNDARY = re.compile(rb"^--([^\s]{5,100}?)(?:--)?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MimePart:
    """A part that is not a multipart."""

    kind: str
    """Its media type, in lower case."""
    head: HeaderFields
    body: bytes
    """Decoded, with line ends `\\n`."""
    charset: str
    enclosed: bool
    """Whether it belongs to a mail inside this mail."""

    def text(self) -> str:
        """The decoded text, of HTML without markup."""
        return readable_text(self.body, self.charset, html=self.kind == "text/html")


class _Block(NamedTuple):
    """Header and body, not parsed yet."""

    content: bytes
    depth: int
    enclosed: bool


def parse_mime(raw: bytes) -> tuple[HeaderFields, list[MimePart]]:
    """The mail's own header fields, and its parts in their order."""
    content = raw[:MAX_PARSED_BYTES].replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
    head, _ = _split(content)
    return head, list(_parts(content))


def _parts(content: bytes) -> Iterator[MimePart]:
    """Uses a stack instead of recursion; a multipart's children are pushed in their order."""
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
        body = decode_transfer_encoding(body, head.get("content-transfer-encoding"))
        yield MimePart(kind, head, body, parameters.get("charset", ""), block.enclosed)
        if kind in _ENCLOSING and block.depth < MAX_DEPTH:
            stack.append(_Block(body.lstrip(b"\n"), block.depth + 1, enclosed=True))


def content_type(head: HeaderFields) -> tuple[str, dict[str, str]]:
    """Media type and parameters; `text/plain` if the type is missing or invalid (RFC 2045 5.2)."""
    value = head.get("content-type")
    kind = value.partition(";")[0].strip().lower()
    parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}
    return kind if "/" in kind else "text/plain", parameters


def _split(content: bytes) -> tuple[HeaderFields, bytes]:
    """Header and body, split at the first empty line. A block that begins with an empty line has no header."""
    if content.startswith(b"\n"):
        return NO_HEADER, content[1:]
    top, _, body = content.partition(b"\n\n")
    return parse_header(top[:MAX_HEADER_BYTES]), body


def _pieces(body: bytes, boundary: str) -> list[bytes]:
    """The pieces between boundaries. If the declared boundary does not occur, the first line that looks like one is used."""
    whole = b"\n" + body
    delimiter = b"\n--" + boundary.encode("utf-8", "replace")
    if not boundary or delimiter not in whole:
        stray = _STRAY_BOUNDARY.search(body[:MAX_HEADER_BYTES])
        if not stray:
            return []
        delimiter = b"\n--" + stray[1]
    pieces: list[bytes] = []
    for piece in whole.split(delimiter, MAX_PARTS)[1:]:
        if piece.startswith(b"--"):
            break
        line, _, rest = piece.partition(b"\n")
        if line.strip() and pieces:  # another boundary that begins with this one: part of the piece before
            pieces[-1] += delimiter + piece
        else:
            pieces.append(rest)
    return pieces
