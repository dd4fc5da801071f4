"""The two bodies and the MIME structure around them, fixed for a campaign; attachments are encoded once.

    mixed (if there are attachments)
      alternative
        text/plain
        related (if there are inline images)
          text/html
          images
      attachments

Boundaries contain `=_`, which quoted-printable and base64 never produce, so no body can contain one (RFC 2046).

Bodies are quoted-printable (RFC 2045 §6.7), in fragments that can be joined in any order. Every fragment begins and ends at the
start of a line, with a soft line break if the text does not end one. So the fixed fragments of a template are encoded once, a
value stands between two of them on a line of its own, and no line is longer than 76 characters whatever its neighbours are. No
line begins with a dot (SMTP would double it) or with `From ` (mbox files would quote it). Line ends in: LF; out: CRLF.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from postroom.delivery import headers
from postroom.errors import Invalid, TooLarge
from postroom.model.campaign import Attachment

LINE_LENGTH = 76
SOFT_BREAK = "=\r\n"
_SHORT = re.compile(r"(?!\.|From )[ -<>-~]{1,75}").fullmatch
_PLAIN = frozenset(chr(code) for code in range(33, 127) if chr(code) != "=") | {" ", "\t"}
_HAZARD = re.compile(rb"^(?:\.+|F(?=rom ))", re.MULTILINE)
_OVERLONG = re.compile(rb"^(.{74,})(=(?:20|09)\r?)$", re.MULTILINE)  # binascii makes no room for the space it encodes at an end
_DOTS_A_LINE = 25
_EQUALS = ord("=")
MAX_ATTACHMENTS = 25_000_000
"""Bytes of all attachments together, before base64 adds a third. 25 MB."""
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,80}/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}", re.IGNORECASE)
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,120}")
_CID = re.compile(r"\bcid:([^\"'\s)>\x00]+)", re.IGNORECASE)
_TEXT = "Content-Type: {type}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"


def encode_value(text: str) -> str:
    """Encode a value. Fast for a few plain characters, which most values are. Empty text gives an empty result."""
    if _SHORT(text):
        return text + SOFT_BREAK
    if not text:
        return ""
    raw = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n").encode("utf-8", "replace")
    coded = binascii.b2a_qp(raw, quotetabs=False, istext=True, header=False)
    if b"\n" not in raw:
        coded = coded.replace(b"=\n", b"=\r\n")  # it follows the text's own line ends, and found none
    coded = _OVERLONG.sub(rb"\1=\r\n\2", coded)
    if len(coded) - coded.rfind(b"\n") > LINE_LENGTH:  # the last line is full: no room for the break that follows
        cut = len(coded) - 6
        cut -= 1 if coded[cut - 1] == _EQUALS else 2 if coded[cut - 2] == _EQUALS else 0
        coded = coded[:cut] + b"=\r\n" + coded[cut:]
    coded = _HAZARD.sub(_defuse, coded)
    return coded.decode("ascii") + ("" if coded.endswith(b"\n") else SOFT_BREAK)


def encode_fragment(text: str, widths: Mapping[str, int]) -> str:
    """Encode a fixed fragment. Characters in `widths` are placeholders for that many plain characters: they stay as they are and
    are never split."""
    lines = text.split("\n")
    coded = [_line(line, widths, ends=number < len(lines) - 1) for number, line in enumerate(lines)]
    return "".join(coded)


def _line(line: str, widths: Mapping[str, int], *, ends: bool) -> str:
    if not line:
        return "\r\n" if ends else ""
    out: list[str] = []
    column = 0
    for position, character in enumerate(line):
        atom, width = _atom(line, position, widths, ends=ends)
        if column and column + width > LINE_LENGTH - 1:
            out.append(SOFT_BREAK)
            column = 0
        if not column and (character == "." or line.startswith("From ", position)):
            atom, width = f"={ord(character):02X}", 3
        out.append(atom)
        column += width
    return "".join(out) + ("\r\n" if ends else SOFT_BREAK)


def _atom(line: str, position: int, widths: Mapping[str, int], *, ends: bool) -> tuple[str, int]:
    """One character, encoded, and its width: it must not be split."""
    character = line[position]
    if character in widths:
        return character, widths[character]
    if character in _PLAIN and not (ends and character in " \t" and position == len(line) - 1):
        return character, 1
    atom = "".join(f"={byte:02X}" for byte in character.encode("utf-8", "replace"))
    return atom, len(atom)


def _defuse(found: re.Match[bytes]) -> bytes:
    """Encode the beginning of a line and break after it, so that the rest stays short."""
    text = found[0]
    rows = [text[start : start + _DOTS_A_LINE] for start in range(0, len(text), _DOTS_A_LINE)]
    return b"".join(b"".join(b"=%02X" % byte for byte in row) + b"=\r\n" for row in rows)


class MimeFrame(NamedTuple):
    """The bytes before, between and after the two bodies. The last line of a body ends in CRLF."""

    before_text: str
    """Begins with the message's last header fields."""
    before_html: str
    after_html: bytes


def mime_frame(attachments: Sequence[tuple[Attachment, bytes]], *, boundary_seed: str, html: str) -> MimeFrame:
    """Build the structure. Raises `Invalid` for a file name, type or content id that no header can carry and for a missing inline
    image, `TooLarge` for attachments above `MAX_ATTACHMENTS`."""
    _check(attachments, html)
    inline = [_part(attachment, content) for attachment, content in attachments if attachment.content_id]
    files = [_part(attachment, content) for attachment, content in attachments if not attachment.content_id]
    mixed, alternative, related = (f"=_{kind}_{boundary_seed}" for kind in ("m", "a", "r"))
    before = "MIME-Version: 1.0\r\n"
    if files:
        before += _multipart("mixed", mixed) + f"--{mixed}\r\n"
    before += _multipart("alternative", alternative) + f"--{alternative}\r\n" + _TEXT.format(type="text/plain")
    middle = f"\r\n--{alternative}\r\n"
    if inline:
        middle += _multipart("related", related, '; type="text/html"') + f"--{related}\r\n"
    middle += _TEXT.format(type="text/html")
    after = b""
    if inline:
        after += _closed(related, inline)
    after += f"\r\n--{alternative}--\r\n".encode()
    if files:
        after += _closed(mixed, files)
    return MimeFrame(before, middle, after)


def _multipart(kind: str, boundary: str, more: str = "") -> str:
    return f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"{more}\r\n\r\n'


def _closed(boundary: str, parts: list[bytes]) -> bytes:
    return b"".join(f"\r\n--{boundary}\r\n".encode() + part for part in parts) + f"\r\n--{boundary}--\r\n".encode()


def _part(attachment: Attachment, content: bytes) -> bytes:
    name = attachment.filename
    kind = "inline" if attachment.content_id else "attachment"
    fields = headers.parameter_field("Content-Type", attachment.content_type, headers.parameter("name", name))
    fields += headers.parameter_field("Content-Disposition", kind, headers.parameter("filename", name))
    if attachment.content_id:
        fields += f"Content-ID: <{attachment.content_id}>\r\n"
    fields += "Content-Transfer-Encoding: base64\r\n\r\n"
    return fields.encode() + base64.encodebytes(content).replace(b"\n", b"\r\n")


def _check(attachments: Sequence[tuple[Attachment, bytes]], html: str) -> None:
    size = sum(len(content) for _, content in attachments)
    if size > MAX_ATTACHMENTS:
        raise TooLarge(f"The attachments have {size} bytes together; a message may carry {MAX_ATTACHMENTS}.")
    for attachment, _ in attachments:
        _check_one(attachment)
    there = {attachment.content_id for attachment, _ in attachments}
    for content_id in _CID.findall(html):
        if content_id not in there:
            raise Invalid(f"HTML template: it shows cid:{content_id[:60]}, but no attachment has this content id.")


def _check_one(attachment: Attachment) -> None:
    name = attachment.filename
    if not name or len(name) > 200 or headers.cleaned(name) != name or re.search(r"[/\\]", name):
        raise Invalid(f"'{headers.cleaned(name)[:60]}' is no file name an attachment can have.")
    kind = attachment.content_type.partition("/")[0].lower()
    if not _TYPE.fullmatch(attachment.content_type) or kind in ("multipart", "message"):
        raise Invalid(f"{name}: an attachment cannot be of the type '{headers.cleaned(attachment.content_type)[:60]}'.")
    if attachment.content_id is not None and not _CONTENT_ID.fullmatch(attachment.content_id):
        raise Invalid(f"{name}: '{headers.cleaned(attachment.content_id)[:60]}' is no content id.")
