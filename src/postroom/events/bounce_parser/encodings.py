"""Bytes of a stranger's mail as text: whatever they claim to be, text comes out, in time linear in their number.

Python knows codecs that must not be chosen by a stranger (punycode is quadratic, others are no charsets at all): only the
families that mail uses are believed. Text that comes out has no NUL and no control characters, and can be stored anywhere.
"""

from __future__ import annotations

import binascii
import html
import re
from urllib.parse import unquote_to_bytes

MAX_TEXT = 32 * 1024
"""Bytes of one part that are read as text."""

_CHARSETS = re.compile(
    r"utf-?8|us-?ascii|ascii|iso-?8859-?\d{1,2}|windows-?125\d|cp-?125\d|cp(?:437|850|852|866|932|936|949|950)|koi8-?[ru]|"
    r"iso-?2022-?(?:jp|kr|cn)|shift[-_]?jis|sjis|euc-?(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-?hkscs)?|ks_c_5601-1987|tis-?620"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\ud800-\udfff]+")
_BREAK = re.compile(r"<(?:br|p|/p|/div|/tr|/td|/li|/h[1-6]|/table)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>\s@][^<>@]*>")  # `<someone@example.com>` is what we are after
_BEYOND = re.compile(r"&#(?:[0-9]{9,}|[xX][0-9a-fA-F]{9,});?")
"""References to characters that there are not; Python refuses to read a number of thousands of digits at all."""
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def undone(body: bytes, encoding: str) -> bytes:
    """A body without its transfer encoding; broken ones give what can be read of them."""
    match encoding.strip().lower():
        case "base64":
            return _newlines(_base64(body))
        case "quoted-printable":
            return _newlines(binascii.a2b_qp(body))
        case _:
            return body


def encoded_word(charset: str, encoding: str, text: str) -> str:
    """RFC 2047 §4."""
    raw = text.encode("utf-8", "replace")
    decoded = (
        _base64(raw) if encoding in "Bb" else unquote_to_bytes(raw.replace(b"%", b"=25").replace(b"=", b"%").replace(b"_", b" "))
    )
    return plain(decoded, charset)


def plain(raw: bytes, charset: str = "") -> str:
    """Text of any origin."""
    name = charset.strip().strip("\"'").lower()
    if name in ("gb2312", "gbk"):
        name = "gb18030"  # what senders mean by either
    if _CHARSETS.fullmatch(name):
        try:
            return raw.decode(name, "replace")
        except LookupError:
            pass
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def readable(body: bytes, charset: str, *, html: bool) -> str:
    """A part's text as a person sees it."""
    text = plain(body[:MAX_TEXT], charset)
    return cleaned(_seen(text) if html else text)


def cleaned(text: str) -> str:
    """Without control characters but line ends and tabs."""
    return _CONTROL.sub(" ", text)


def _seen(text: str) -> str:
    for name in ("style", "script", "head"):
        text = _without(text, f"<{name}", f"</{name}>")
    return html.unescape(_BEYOND.sub(" ", _TAG.sub(" ", _BREAK.sub("\n", text))))


def _without(text: str, start: str, end: str) -> str:
    """Each stretch cut out; one search forward a stretch, so many that never end cost no more than one."""
    lowered, kept, at = text.lower(), [], 0
    if len(lowered) != len(text):  # a few letters change their length; then positions would not agree
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
