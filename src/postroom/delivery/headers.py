"""Header fields from untrusted values: encoded (RFC 2047, RFC 2231), folded (RFC 5322 §2.2.3), one line of text each.

No value can end a field: control characters and line separators become spaces first. Lines have at most 78 characters if a space
or an encoded word lets them break, and never more than 998. Every function returns one whole field with its final CRLF.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

LINE = 78
_PLAIN = re.compile(r"(?!.*=\?)[!-~](?:[ -~]*[!-~])?").fullmatch
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.,'&-]*(?: [A-Za-z0-9.,'&-]+)*").fullmatch
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*").fullmatch
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_Q_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 §5 (3), good everywhere
_WORD_CHARACTERS = 56  # with =?utf-8?B?…?= 68 of the 75 allowed: the first stands on the line of its field name
_PARAMETER_CHUNK = 50


def cleaned(text: str) -> str:
    """The text on one line: characters that could end a field or are not allowed in one become a space; outer space is cut."""
    return _CONTROL.sub(" ", text).strip()


def text_field(name: str, text: str) -> str:
    """An unstructured field, such as Subject."""
    if len(name) + len(text) < LINE - 2 and _PLAIN(text):
        return f"{name}: {text}\r\n"
    text = cleaned(text)
    if _PLAIN(text) and max(map(len, words := _words(text))) < LINE - 1:
        return _folded(f"{name}:", words)
    return f"{name}:\r\n" if not text else _folded(f"{name}:", [f" {word}" for word in encoded_words(text)])


def address_field(name: str, display: str | None, mailbox: str) -> str:
    """From, To or Reply-To with one address. `mailbox` must come from model.address; it is not encoded."""
    if not display:
        return f"{name}: {mailbox}\r\n"
    if _NAME(display) and len(name) + len(display) + len(mailbox) < LINE - 8:
        return f'{name}: "{display}" <{mailbox}>\r\n'
    display = cleaned(display)
    if not display:
        return f"{name}: {mailbox}\r\n"
    if _ATOMS(display) and "=?" not in display and len(display) < LINE - 12:
        phrase = [f" {display}"]
    elif _PLAIN(display) and len(display) < LINE - 12:
        escaped = display.replace("\\", "\\\\").replace('"', '\\"')
        phrase = [f' "{escaped}"']
    else:
        phrase = [f" {word}" for word in encoded_words(display)]
    return _folded(f"{name}:", [*phrase, f" <{mailbox}>"])


def parameter(name: str, value: str) -> list[str]:
    """A parameter of Content-Type or Content-Disposition, as pieces to fold between (each begins with its space)."""
    value = cleaned(value)
    if _PLAIN(value) and len(value) <= _PARAMETER_CHUNK:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return [f' {name}="{escaped}"']
    coded = quote(value, safe="", encoding="utf-8")
    if len(coded) <= _PARAMETER_CHUNK:
        return [f" {name}*=utf-8''{coded}"]
    chunks = re.findall(rf".{{1,{_PARAMETER_CHUNK - 2}}}(?<!%)(?<!%.)(?=.)|.+", coded)
    chunks[0] = f"utf-8''{chunks[0]}"
    pieces = [f" {name}*{number}*={chunk}" for number, chunk in enumerate(chunks)]
    return [*(piece + ";" for piece in pieces[:-1]), pieces[-1]]


def parameter_field(name: str, value: str, *parameters: list[str]) -> str:
    """A field with parameters: `Content-Type: image/png; name="…"`."""
    pieces = [f" {value}"]
    for parameter_pieces in parameters:
        pieces[-1] += ";"
        pieces += parameter_pieces
    return _folded(f"{name}:", pieces)


def encoded_words(text: str) -> list[str]:
    """Encoded words (RFC 2047) in UTF-8, split between characters, in the shorter of the two encodings."""
    raw = text.encode("utf-8", "replace")
    quoted_size = sum(1 if byte in _Q_PLAIN or byte == 32 else 3 for byte in raw)
    in_q = quoted_size <= len(raw) * 4 / 3
    words: list[str] = []
    chunk, size = b"", 0
    for character in text:
        piece = character.encode("utf-8", "replace")
        cost = sum(1 if byte in _Q_PLAIN or byte == 32 else 3 for byte in piece) if in_q else len(piece)
        if size + cost > (_WORD_CHARACTERS if in_q else _WORD_CHARACTERS // 4 * 3):
            words.append(_encoded_word(chunk, in_q=in_q))
            chunk, size = b"", 0
        chunk += piece
        size += cost
    return [*words, _encoded_word(chunk, in_q=in_q)]


def _encoded_word(raw: bytes, *, in_q: bool) -> str:
    if in_q:
        coded = "".join(chr(b) if b in _Q_PLAIN else "_" if b == 32 else f"={b:02X}" for b in raw)
        return f"=?utf-8?Q?{coded}?="
    return f"=?utf-8?B?{base64.b64encode(raw).decode()}?="


def _words(text: str) -> list[str]:
    """Plain words, each with the spaces before it: folding puts a line end there and takes none of them away."""
    return re.findall(r" *[^ ]+", f" {text}")


def _folded(start: str, pieces: list[str]) -> str:
    lines = [start]
    for piece in pieces:
        if len(lines[-1]) + len(piece) > LINE and lines[-1] != start:
            lines.append(piece)
        else:
            lines[-1] += piece
    return "\r\n".join(lines) + "\r\n"
