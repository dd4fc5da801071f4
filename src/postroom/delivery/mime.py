"""The MIME structure around the two bodies (RFC 2046): fixed for a campaign, attachments encoded once.

    mixed (where there are attachments)
      alternative
        text/plain
        related (where there are inline images)
          text/html
          images
      attachments

Boundaries hold `=_`, which quoted-printable and base64 never put out, so no body can contain one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from postroom.delivery import headers
from postroom.errors import Invalid, TooLarge
from postroom.model.campaign import Attachment

MAX_ATTACHMENTS = 25_000_000
"""Bytes of all attachments together, before base64 adds a third."""

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,80}/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}", re.IGNORECASE)
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.@-]{1,120}")
_CID = re.compile(r"\bcid:([^\"'\s)>\x00]+)", re.IGNORECASE)
_TEXT = "Content-Type: {type}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"


class Frame(NamedTuple):
    """What stands before, between and after the two bodies, whose last line ends in CRLF."""

    before_text: str
    """Begins with the message's last header fields."""
    before_html: str
    after_html: bytes


def frame(attachments: Sequence[tuple[Attachment, bytes]], *, boundary_seed: str, html: str) -> Frame:
    """`Invalid` for a name, type or content id no header can carry, and for an inline image that is not there; `TooLarge`."""
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
    return Frame(before, middle, after)


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
