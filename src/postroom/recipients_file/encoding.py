"""Detects an upload's encoding and decodes it.

In a UTF-8 file, an invalid byte is decoded as Windows-1252 (as WHATWG defines "Latin-1"): one stray cell must neither stop the
import nor garble the other rows. The rule depends only on the bytes, so any part of a file decodes as within the whole.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from postroom.errors import Invalid

_SAMPLE = 262_144
_REPAIR = "postroom-cp1252"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_SAVE_AS_CSV = "open it there and save it as CSV, then upload that"
_MAGIC = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"an old Excel workbook: {_SAVE_AS_CSV}"),
    (b"%PDF-", "a PDF document, not a list of recipients"),
    (b"{\\rtf", f"a rich text document: {_SAVE_AS_CSV}"),
    (b"\x1f\x8b", "compressed by gzip: unpack it and upload the CSV inside"),
    (b"BZh", "compressed by bzip2: unpack it and upload the CSV inside"),
    (b"\xfd7zXZ\x00", "compressed by xz: unpack it and upload the CSV inside"),
    (b"(\xb5/\xfd", "compressed by zstd: unpack it and upload the CSV inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it and upload the CSV inside"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it and upload the CSV inside"),
    (b"\x89PNG\r\n", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"SQLite format 3\x00", "a database: export the table as CSV, then upload that"),
    (b"PAR1", "a Parquet file: export it as CSV, then upload that"),
)
_ZIPPED = (
    (b"xl/", f"an Excel workbook: {_SAVE_AS_CSV}"),
    (b"opendocument.spreadsheet", f"an OpenDocument spreadsheet: {_SAVE_AS_CSV}"),
    (b"iwa", f"a Numbers spreadsheet: {_SAVE_AS_CSV}"),
    (b"word/", "a Word document, not a list of recipients"),
)


@dataclass(frozen=True, slots=True)
class Encoding:
    codec: str
    """Python's codec: `utf-8`, `utf-16-le`, `utf-16-be`, `utf-32-…` or `cp1252`."""
    bom: int = 0
    """Bytes of the byte order mark at the beginning."""


def detect_encoding(head: bytes) -> Encoding:
    """The encoding of a file that begins with `head`. Raises `Invalid` if it is empty or no text."""
    if not head:
        raise Invalid("The file is empty.")
    for mark, codec in _BOMS:
        if head.startswith(mark):
            return Encoding(codec, len(mark))
    _refuse_known_formats(head)
    sample = head[:_SAMPLE]
    if b"\x00" in sample:
        return _utf16_or_refuse(sample)
    return _utf8_or_cp1252(sample)


def decode(blocks: Iterable[bytes], encoding: Encoding) -> Iterator[str]:
    """The blocks as text, without byte order mark and NUL characters; undecodable bytes become U+FFFD."""
    codecs.register_error(_REPAIR, _as_cp1252)
    decoder = codecs.getincrementaldecoder(encoding.codec)(_REPAIR if encoding.codec == "utf-8" else "replace")
    skip = encoding.bom
    for block in blocks:
        text = decoder.decode(block[skip:])
        skip = max(0, skip - len(block))
        yield text.replace("\x00", "")
    yield decoder.decode(b"", final=True).replace("\x00", "")


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.start + 1].decode("cp1252", "replace"), error.start + 1


def _refuse_known_formats(head: bytes) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise Invalid(f"The file is {what}.")
    if head.startswith(b"PK\x03\x04"):
        what = next((what for mark, what in _ZIPPED if mark in head), "a zip archive: unpack it and upload the CSV inside")
        raise Invalid(f"The file is {what}.")
    start = head[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Invalid("The file is a web page or XML, not a CSV: export the list as CSV, then upload that.")
    if start.startswith((b"{", b"[{")):
        raise Invalid("The file is JSON, not a CSV: export the list as CSV, then upload that.")


def _utf16_or_refuse(sample: bytes) -> Encoding:
    """Detects UTF-16 by ASCII characters (delimiters, line ends, addresses), whose zero byte is always on the same side."""
    even, odd, pairs = sample[0::2].count(0), sample[1::2].count(0), len(sample) / 2
    if odd > pairs / 10 and odd > 10 * even:
        return Encoding("utf-16-le")
    if even > pairs / 10 and even > 10 * odd:
        return Encoding("utf-16-be")
    if sample.count(0) > max(3, len(sample) / 1_000):
        raise Invalid("The file is not text: upload a CSV file, with one recipient a row.")
    return _utf8_or_cp1252(sample)


def _utf8_or_cp1252(sample: bytes) -> Encoding:
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample)  # not final: the sample may end within a character
    unreadable = text.count("\ufffd")
    controls = sum(sample.count(code) for code in (*range(1, 9), *range(14, 26), *range(28, 32)))
    if controls > max(3, len(sample) / 20):
        raise Invalid("The file is not text: upload a CSV file, with one recipient a row.")
    if unreadable and unreadable >= sum(character > "\x7f" for character in text) - unreadable:
        return Encoding("cp1252")
    return Encoding("utf-8")
