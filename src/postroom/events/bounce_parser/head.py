"""A block of header fields, of a mail or of a report: read leniently, cut to what is affordable."""

from __future__ import annotations

import re
from dataclasses import dataclass

from postroom.events.bounce_parser import encodings

MAX_FIELDS = 300
MAX_VALUE = 2_000
"""Characters of one field that are kept."""

_FOLD = re.compile(r"\n[ \t]+")
_WORD = re.compile(r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z-]{0,20})?\?([BbQq])\?([^?\n]{0,500})\?=")
_BETWEEN_WORDS = re.compile(r"\?=[ \t]{1,10}=\?")
_MAILBOX = re.compile(r"[^\s<>()\",;:]{1,256}@[^\s<>()\",;:]{1,255}")


@dataclass(frozen=True, slots=True)
class Head:
    """Field names in lower case; values unfolded, in order."""

    fields: dict[str, list[str]]

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def get(self, name: str) -> str:
        """The first field of that name as it stands; empty where there is none."""
        values = self.fields.get(name)
        return values[0] if values else ""

    def text(self, name: str) -> str:
        """The same for people: encoded words (RFC 2047) read."""
        value = self.get(name)
        if "=?" not in value:
            return value
        joined = _BETWEEN_WORDS.sub("?==?", value)
        return encodings.cleaned(_WORD.sub(lambda word: encodings.encoded_word(word[1], word[2], word[3]), joined))

    def mailbox(self, name: str) -> str:
        """The first address in that field, in lower case; empty where there is none."""
        found = _MAILBOX.search(self.get(name)) if "@" in self.get(name) else None
        return found[0].lower() if found else ""


EMPTY = Head({})


def read_head(block: bytes) -> Head:
    """Lines that are no fields are passed over: a `From ` line of a mailbox file, leftovers of broken software. No control
    characters come out."""
    fields: dict[str, list[str]] = {}
    for line in _FOLD.sub(" ", encodings.cleaned(encodings.plain(block))).split("\n", MAX_FIELDS)[:MAX_FIELDS]:
        name, colon, value = line.partition(":")
        name = name.rstrip().lower()
        if colon and name and len(name) <= 80 and " " not in name:
            fields.setdefault(name, []).append(value[:MAX_VALUE].strip())
    return Head(fields)
