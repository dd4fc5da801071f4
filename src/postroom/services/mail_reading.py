"""Reading a mail for people, whatever is wrong with it: it may come from anybody, and one bad mail must not hide the others.

The standard library's modern parser raises errors of its own on headers such as `From: <a@[`, so only its old one is used,
which looks for nothing within headers; encoded words are read here. What cannot be read is shown as it stands.
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
"""What the library raises on bad charsets, parameters and boundaries, and on parts nested a thousand deep."""
_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
"""Python's names of codecs that are no charsets; some of them warn about the text they read."""
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_Part: TypeAlias = "Message[str, str]"


class MailBody(NamedTuple):
    """What a mail says."""

    text: str
    """The text part; the HTML source where there is no other; empty where there is neither."""
    attachments: tuple[str, ...]


def read_headers(content: bytes) -> list[tuple[str, str]]:
    """Every header of a mail, or of its beginning: names as they stand, values on one line with encoded words read."""
    head = _HEAD_ENDS.split(content, maxsplit=1)[0]
    parsed = message_from_bytes(head + b"\r\n\r\n", policy=compat32)
    return [(_clean(name), _decode(value)) for name, value in parsed.raw_items()]


def read_body(content: bytes) -> MailBody:
    """The first text and the names of the other parts (RFC 2045, 2046, 2183); of a mail that cannot be read, all as it stands."""
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
        kind = "text/plain" if part.get_content_maintype() == "multipart" else kind  # without a boundary it is no more than that
        name = _parameter(part, "filename", "content-disposition") or _parameter(part, "name", "content-type")
        if not name and kind in {"text/plain", "text/html"} and kind not in texts and not _is_attached(part):
            texts[kind] = _text(part)
        else:
            attachments.append(_clean(name or "(no name)"))
    return MailBody(texts.get("text/plain", texts.get("text/html", "")), tuple(attachments))


def _leaves(message: _Part) -> Iterator[_Part]:
    """The parts that hold no parts; an attached mail is one."""
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
    """Whatever charset it claims. Lines end as they do in Python."""
    content = part.get_payload(decode=True)
    charset = _parameter(part, "charset", "content-type") or "utf-8"
    return _in_charset(_lines(content) if isinstance(content, bytes) else b"", charset)


def _parameter(part: _Part, name: str, header: str) -> str:
    """A parameter of a header, in its own charset where it names one (RFC 2231); empty if it is absent."""
    value = part.get_param(name, "", header)
    if isinstance(value, tuple):
        charset, _, text = value
        return _in_charset(text.encode("raw-unicode-escape", "surrogateescape"), charset or "utf-8")
    return str(value).strip()


def _lines(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n")


def _decode(value: str) -> str:
    """A header's value on one line, its encoded words read (RFC 2047); one that is wrong stays as it is."""
    line = _FOLD.sub("", _clean(value)).strip()
    return _BREAKS.sub(" ", _WORDS.sub(lambda run: _read_words(run[0]), line))


def _read_words(words: str) -> str:
    """Neighbours in one charset are read together: a character may begin in one and end in the next."""
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
    """The bytes as text; as UTF-8 if the charset is unknown or one of Python's codecs that no mail means."""
    try:
        codec = codecs.lookup(charset)
        if codec.name in _NO_CHARSETS:
            return raw.decode("utf-8", "replace")
        return _clean(raw.decode(codec.name, "replace"))
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace")


def _clean(text: str) -> str:
    """Bytes that the parser hid in surrogates as the UTF-8 they mostly are; no surrogate is left, which nothing could write."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
