"""Parses one recipient's address as people type it and spreadsheets change it.

A cell gives three forms: the display name, the mailbox for the wire, and the normalised form that identifies the recipient.
Accepted is RFC 5321 4.1.2 and RFC 5322 3.4 (dot-atom or quoted local part), RFC 6531 (UTF-8 local parts) and UTS #46 with
IDNA 2008 (domains). What an input method or a copied web page leaves is removed: white space and invisible characters,
full-width forms, `mailto:`, quotes around the whole, a final dot, comma or semicolon. IP literals and domains of one label are
refused, because campaigns have no recipients there.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import idna

from postroom.errors import InvalidAddress

MAX_CELL = 2_000
"""Characters of a cell; a longer text is no address."""
MAX_LOCAL_OCTETS = 64
MAX_MAILBOX_OCTETS = 254  # RFC 3696 erratum 1690: a path is 256 with its angle brackets


class AddressProblem(StrEnum):
    """Why a text is no address. The values are used in the report of rejected rows."""

    EMPTY = "empty"
    NO_AT = "no_at"
    MULTIPLE = "multiple"
    BAD_LOCAL = "bad_local"
    BAD_DOMAIN = "bad_domain"
    TOO_LONG = "too_long"
    CONTROL = "control"


class AddressError(InvalidAddress):
    """The text is not one address: a code for programs, a sentence for people."""

    def __init__(self, reason: AddressProblem, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Address(NamedTuple):
    """A parsed address."""

    name: str | None
    """The display name, unquoted, on one line, without control characters."""
    mailbox: str
    """For the wire: the local part as given, the domain in lower-case ASCII (A-labels)."""
    normalised: str
    """For identity: local part case-folded (NFC, needless quotes taken off), domain as in `mailbox`. Tags and dots stay."""


_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_PLAIN = re.compile(rf"[{_ATEXT}]++(?:\.[{_ATEXT}]++)*+@(?:[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+\.)+[A-Za-z]{{2,}}")
_PLAIN_LENGTH = 64  # no local part or label of a text this short can be too long
_DOT_ATOM = re.compile(r'[^\x00-\x20\x7f"(),:;<>@\[\\\].]+(?:\.[^\x00-\x20\x7f"(),:;<>@\[\\\].]+)*')
_QUOTED = re.compile(r'"((?:[^\x00-\x1f\x7f"\\]|\\[\x20-\x7e])+)"')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ANGLED = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^"<])*)<(.*)>', re.DOTALL)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SEVERAL = re.compile(r"[^\s,;<>\"|/]+@[^\s,;<>\"|/]+")
# Invisible everywhere, meaningful in no address: soft hyphen, zero-width space, word joiner, BOM, marks of direction.
_INVISIBLE = dict.fromkeys([0xAD, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF])
_JOINERS = "\u200c\u200d"  # significant between letters (Persian, emoji), not at an end
_EDGES = "".join(map(chr, _INVISIBLE)) + _JOINERS
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0xFE6B: ord("@")}
_FULL_WIDTH_MARKS = {0xFF20: "@", 0xFE6B: "@", 0xFF1C: "<", 0xFF1E: ">"}
_WRAPPINGS = ('""', "''", "“”", "‘’", "„“")
_FORBIDDEN = frozenset({"Cc", "Cs", "Cn", "Zs", "Zl", "Zp"})


def parse_address(text: str) -> Address:
    """Parse a cell such as `a@b.example`, `Name <a@b.example>` or `"Name, Jr" <a@b.example>`. About a microsecond for plain
    ASCII.

    Raises `AddressError`."""
    if len(text) <= _PLAIN_LENGTH and _PLAIN.fullmatch(text):
        lowered = text.lower()
        if lowered == text:
            if "--" not in text:
                return Address(None, text, text)
        elif "--" not in text:
            local, _, domain = text.partition("@")
            return Address(None, f"{local}@{domain.lower()}", lowered)
    return _parse_with_care(text)


def trim(text: str) -> str:
    """`text` without white space (NBSP included) and invisible characters at its ends."""
    while True:
        trimmed = text.strip().strip(_EDGES)
        if trimmed == text:
            return text
        text = trimmed


def _parse_with_care(text: str) -> Address:
    if len(text) > MAX_CELL:
        raise AddressError(AddressProblem.TOO_LONG, f"The cell has {len(text)} characters: too long for an address with a name.")
    cell = _unwrap(trim(text))
    if not cell:
        raise AddressError(AddressProblem.EMPTY, "The address is empty.")
    if cell != text:
        return parse_address(cell)
    if "@" not in cell:
        cell = cell.translate(_FULL_WIDTH_MARKS)
    name, spec = _split_name(cell)
    local, domain = _split_mailbox(_bare(spec))
    content = _local_content(local, spec)
    domain = _domain(domain, spec)
    mailbox = f"{local}@{domain}"
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise AddressError(AddressProblem.TOO_LONG, f"What stands before the @ is longer than {MAX_LOCAL_OCTETS} bytes.")
    if len(mailbox.encode()) > MAX_MAILBOX_OCTETS:
        raise AddressError(AddressProblem.TOO_LONG, f"The address is longer than {MAX_MAILBOX_OCTETS} bytes.")
    if name is not None and name.casefold() == mailbox.casefold():
        name = None
    return Address(name, mailbox, f"{_fold(content)}@{domain}")


def _unwrap(cell: str) -> str:
    """Without quotes around the whole, and without a comma or semicolon after it."""
    while True:
        inner = trim(cell.rstrip(",;"))
        if len(inner) > 1 and inner[0] + inner[-1] in _WRAPPINGS and not _QUOTED.fullmatch(inner.rpartition("@")[0]):
            inner = trim(inner[1:-1])
        if inner == cell:
            return cell
        cell = inner


def _split_name(cell: str) -> tuple[str | None, str]:
    """The display name before `<…>`, and what is inside; a cell without angle brackets is all address."""
    if not cell.endswith(">"):
        return None, cell
    match = _ANGLED.fullmatch(cell)
    name, spec = match.groups() if match else (cell[: cell.rfind("<")], cell[cell.rfind("<") + 1 : -1])
    return _display_name(name), spec


def _display_name(text: str) -> str | None:
    text = trim(text)
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = _ESCAPE.sub(r"\1", text[1:-1])
    words = " ".join(text.split())
    clean = "".join(c for c in words if unicodedata.category(c) not in {"Cc", "Cs"})
    return unicodedata.normalize("NFC", trim(clean)) or None


def _bare(spec: str) -> str:
    """The address alone: without `mailto:` and invisible characters, full-width forms as ASCII."""
    spec = trim(spec)
    if spec[:7].lower() == "mailto:":
        spec = unquote(spec[7:].partition("?")[0])
    if not spec.isascii():
        spec = spec.translate(_INVISIBLE).translate(_FULL_WIDTH)
    return trim(spec).rstrip(",;")


def _split_mailbox(spec: str) -> tuple[str, str]:
    if not spec:
        raise AddressError(AddressProblem.EMPTY, "The address is empty.")
    local, at, domain = spec.rpartition("@")
    if not at:
        raise AddressError(AddressProblem.NO_AT, f"“{_shown(spec)}” has no @.")
    return trim(local), trim(domain)


def _local_content(local: str, spec: str) -> str:
    """The content of the local part, unquoted."""
    _refuse_control(local)
    if _DOT_ATOM.fullmatch(local):
        content = local
    elif quoted := _QUOTED.fullmatch(local):
        content = _ESCAPE.sub(r"\1", quoted[1])
    else:
        _refuse_several(spec)
        if not local:
            raise AddressError(AddressProblem.BAD_LOCAL, "Nothing stands before the @.")
        raise AddressError(AddressProblem.BAD_LOCAL, f"“{_shown(local)}” cannot stand before the @.")
    if not content.isascii():
        if content.strip(_JOINERS) != content:
            raise AddressError(AddressProblem.BAD_LOCAL, "An invisible joiner stands at the edge of what is before the @.")
        for character in content:
            if character == "\ufffd" or (character > "\x7f" and unicodedata.category(character) in _FORBIDDEN):
                raise AddressError(AddressProblem.BAD_LOCAL, f"The character U+{ord(character):04X} cannot stand before the @.")
    return content


def _domain(domain: str, spec: str) -> str:
    """The domain as lower-case A-labels."""
    _refuse_control(domain)
    if domain.startswith("["):
        raise AddressError(AddressProblem.BAD_DOMAIN, "An IP address in brackets is not accepted as a domain.")
    domain = domain.removesuffix(".").lower()
    if len(domain) > MAX_MAILBOX_OCTETS:
        raise AddressError(AddressProblem.TOO_LONG, "The domain is too long.")
    if not domain.isascii() or "xn--" in domain:
        try:
            domain = _a_labels(domain)
        except UnicodeError as error:
            _refuse_several(spec)
            raise AddressError(
                AddressProblem.BAD_DOMAIN, f"“{_shown(domain)}” is not an international domain: {error}."
            ) from error
    labels = domain.split(".")
    if any(len(label) > 63 for label in labels):
        raise AddressError(AddressProblem.TOO_LONG, "A part of the domain is longer than 63 characters.")
    top = labels[-1]
    if len(labels) < 2 or len(top) < 2 or top.isdigit() or not all(map(_LABEL.fullmatch, labels)):
        _refuse_several(spec)
        raise AddressError(AddressProblem.BAD_DOMAIN, f"“{_shown(domain)}” is not a domain.")
    return domain


@lru_cache(maxsize=4_096)  # 30 microseconds a domain, and lists repeat theirs
def _a_labels(domain: str) -> str:
    return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()


def _fold(content: str) -> str:
    """The canonical caseless form (Unicode §3.13, D145) of a local part, quoted only where it must be."""
    if content.isascii():
        folded = content.lower()
    else:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", content).casefold())
    if _DOT_ATOM.fullmatch(folded):
        return folded
    escaped = folded.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _refuse_control(part: str) -> None:
    if any(unicodedata.category(character) == "Cc" for character in part):
        raise AddressError(AddressProblem.CONTROL, "The address contains a control character, such as a line break or a tab.")


def _refuse_several(spec: str) -> None:
    if len(_SEVERAL.findall(spec)) > 1:
        raise AddressError(AddressProblem.MULTIPLE, "The cell holds more than one address: give each its own row.")


def _shown(text: str) -> str:
    """The text for an error message: short and printable."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:80])
