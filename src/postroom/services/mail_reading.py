"""Parses mail for display. Mail may come from any sender, and one malformed mail must not hide the others.

The standard library's modern parser raises its own errors for headers such as `From: <a@[`, so the old one (compat32) is used,
which does not parse headers; encoded words are decoded here. What cannot be parsed is shown raw.
"""

from __future__ import annotations

import binascii
import codecs
import quopri
import re
from base64 import b64decode
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from typing import NamedTuple, TypeAlias

_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?([^?]*)\?=")
_WORDS = re.compile(r"=\?[^?\s]{1,80}\?[bBqQ]\?[^?]*\?=(?:\s+=\?[^?\s]{1,80}\?[bBqQ]\?[^?]*\?=)*")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_BREAKS = re.compile(r"[\r\n]+")
_LIBRARY_ERRORS = (AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Raised by the library for bad charsets, parameters and boundaries, and for parts nested a thousand deep."""
_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Python codecs that are no charsets; some of them warn about the text they read."""
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_Part: TypeAlias = "Message[str, str]"


class MailBody(NamedTuple):
    text: str
    """The text part; the HTML source if there is none; empty if there is neither."""
    attachments: tuple[str, ...]


def read_headers(content: bytes) -> list[tuple[str, str]]:
    """Every header of a mail or of its beginning: names unchanged, values on one line with encoded words decoded."""
    head = _HEAD_ENDS.split(content, maxsplit=1)[0]
    parsed = message_from_bytes(head + b"\r\n\r\n", policy=compat32)
    return [(_clean(name), _decode(value)) for name, value in parsed.raw_items()]


def read_body(content: bytes) -> MailBody:
    """The first text and the names of the other parts (RFC 2045, 2046, 2183). Of a malformed mail, all after the header."""
    try:
        return _read_body(message_from_bytes(content, policy=compat32))
    except _LIBRARY_ERRORS:
        head_and_rest = _HEAD_ENDS.split(content, maxsplit=1)
        return MailBody(_lines(head_and_rest[-1]).decode("utf-8", "replace"), ())


def _read_body(message: _Part) -> MailBody:
    texts: dict[str, str] = {}
    attachments: list[str] = []
    for part in _leaves(message):
        kind = part.get_content_type()
        kind = "text/plain" if part.get_content_maintype() == "multipart" else kind  # without a boundary it is text
        name = _parameter(part, "filename", "content-disposition") or _parameter(part, "name", "content-type")
        if not name and kind in {"text/plain", "text/html"} and kind not in texts and not _is_attached(part):
            texts[kind] = _text(part)
        else:
            attachments.append(_clean(name or "(no name)"))
    return MailBody(texts.get("text/plain", texts.get("text/html", "")), tuple(attachments))


def _leaves(message: _Part) -> Iterator[_Part]:
    """The parts that contain no parts; an attached mail is one."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        inner: object = part.get_payload() if part.is_multipart() else None  # a text's payload would be decoded by this call
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting.extend(reversed([each for each in inner if isinstance(each, Message)]))
        else:
            yield part


def _is_attached(part: _Part) -> bool:
    return str(part.get("Content-Disposition", "")).strip().lower().startswith("attachment")


def _text(part: _Part) -> str:
    """The text in its charset, with Python's line ends."""
    content = part.get_payload(decode=True)
    charset = _parameter(part, "charset", "content-type") or "utf-8"
    return _in_charset(_lines(content) if isinstance(content, bytes) else b"", charset)


def _parameter(part: _Part, name: str, header: str) -> str:
    """A header's parameter, decoded by its charset (RFC 2231); empty if absent."""
    value = part.get_param(name, "", header)
    if isinstance(value, tuple):
        charset, _, text = value
        return _in_charset(text.encode("raw-unicode-escape", "surrogateescape"), charset or "utf-8")
    return str(value).strip()


def _lines(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n")


def _decode(value: str) -> str:
    """A header's value on one line, encoded words decoded (RFC 2047); malformed ones stay."""
    line = _FOLD.sub("", _clean(value)).strip()
    return _BREAKS.sub(" ", _WORDS.sub(lambda run: _read_words(run[0]), line))


def _read_words(words: str) -> str:
    """Adjacent words in one charset are decoded together: a character may be split between them."""
    runs: list[tuple[str, bytes]] = []
    for charset, encoding, text in _WORD.findall(words):
        try:
            raw = _read_word(encoding, text)
        except (binascii.Error, ValueError):
            return words
        name = charset.partition("*")[0].lower()  # RFC 2231 §5: a language may follow
        if runs and runs[-1][0] == name:
            raw = runs.pop()[1] + raw
        runs.append((name, raw))
    return "".join(_in_charset(raw, name) for name, raw in runs)


def _read_word(encoding: str, text: str) -> bytes:
    if encoding in "qQ":
        return quopri.decodestring(text.encode(), header=True)
    return b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)


def _in_charset(raw: bytes, charset: str) -> str:
    """The bytes as text. UTF-8 if the charset is unknown or a Python codec that no mail means."""
    try:
        codec = codecs.lookup(charset)
        if codec.name in _NO_CHARSETS:
            return raw.decode("utf-8", "replace")
        return _clean(raw.decode(codec.name, "replace"))
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace")


def _clean(text: str) -> str:
    """Decodes surrogate escapes as UTF-8; no surrogate is left, because none can be written."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
