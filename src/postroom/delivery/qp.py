"""Quoted-printable (RFC 2045 §6.7) in fragments that can be joined in any order.

Every fragment begins and ends at the start of a line, with a soft line break where the text itself does not end one. So the fixed
fragments of a template are encoded once, a value stands between two of them on a line of its own, and no line is ever
longer than 76 characters whatever stands beside it. A line never begins with a dot (SMTP would have to double it) nor
with `From ` (mailbox files would quote it). Line ends in: LF; out: CRLF.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping

LINE_LENGTH = 76
SOFT_BREAK = "=\r\n"

_SHORT = re.compile(r"(?!\.|From )[ -<>-~]{1,75}").fullmatch
_PLAIN = frozenset(chr(code) for code in range(33, 127) if chr(code) != "=") | {" ", "\t"}
_HAZARD = re.compile(rb"^(?:\.+|F(?=rom ))", re.MULTILINE)
_OVERLONG = re.compile(rb"^(.{74,})(=(?:20|09)\r?)$", re.MULTILINE)  # binascii makes no room for the space it encodes at an end
_DOTS_A_LINE = 25
_EQUALS = ord("=")


def encode_value(text: str) -> str:
    """A value, fast: most are a few plain characters. Any text; nothing for empty text."""
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
    """A fixed fragment. Characters in `widths` stand for something of that many plain characters: they pass as they are, and
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
    """What must not be split: one character, encoded."""
    character = line[position]
    if character in widths:
        return character, widths[character]
    if character in _PLAIN and not (ends and character in " \t" and position == len(line) - 1):
        return character, 1
    atom = "".join(f"={byte:02X}" for byte in character.encode("utf-8", "replace"))
    return atom, len(atom)


def _defuse(found: re.Match[bytes]) -> bytes:
    """Encode what begins a line, and break after it, so that the rest stays short."""
    text = found[0]
    rows = [text[start : start + _DOTS_A_LINE] for start in range(0, len(text), _DOTS_A_LINE)]
    return b"".join(b"".join(b"=%02X" % byte for byte in row) + b"=\r\n" for row in rows)
