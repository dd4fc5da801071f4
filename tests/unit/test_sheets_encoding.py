"""Encodings: what is recognised, what is refused, and that a part decodes as it does within the whole."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.recipients_file.encoding import Encoding, decode, detect_encoding

TEXT = "email;name\r\nzoë@example.com;Zoë\r\n"


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return out.getvalue()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (TEXT.encode(), Encoding("utf-8")),
        (b"email\na@b.example\n", Encoding("utf-8")),
        (TEXT.encode("utf-8-sig"), Encoding("utf-8", 3)),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), Encoding("utf-16-le", 2)),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), Encoding("utf-16-be", 2)),
        (codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"), Encoding("utf-32-le", 4)),
        (TEXT.encode("utf-16-le"), Encoding("utf-16-le")),
        (TEXT.encode("utf-16-be"), Encoding("utf-16-be")),
        ("email,名前\na@b.example,山田太郎\n".encode("utf-16-le"), Encoding("utf-16-le")),
        (TEXT.encode("cp1252"), Encoding("cp1252")),
        ("a@b.example;10 €".encode("cp1252"), Encoding("cp1252")),
    ],
)
def test_recognises(raw: bytes, expected: Encoding) -> None:
    assert detect_encoding(raw) == expected


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "Excel workbook"),
        (zipped("word/document.xml"), "Word"),
        (zipped("list.csv"), "zip archive"),
        (zipped("mimetype", "META-INF/x") + b"application/vnd.oasis.opendocument.spreadsheet", "OpenDocument"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512), "old Excel workbook"),
        (b"%PDF-1.7\n", "PDF"),
        (gzip.compress(TEXT.encode(), mtime=0), "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b'[{"email": "a@b.example"}]', "JSON"),
        (bytes(range(256)) * 8, "not text"),
        (bytes(4_096), "not text"),
        (b"\x01\x02\x03\x04\x05\x06" * 100, "not text"),
    ],
)
def test_refuses_what_is_not_text_and_says_what_it_is(raw: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        detect_encoding(raw)


def test_a_stray_byte_spoils_only_itself() -> None:
    """One Windows-1252 cell in a UTF-8 file, beyond what was sampled or within: every other row stays readable."""
    raw = "zoë@b.example;Zoë Åkesson\n".encode() * 3 + b"jos\xe9@b.example\n" + "żółć\n".encode()
    assert detect_encoding(raw).codec == "utf-8"
    assert "".join(decode([raw], Encoding("utf-8"))) == "zoë@b.example;Zoë Åkesson\n" * 3 + "josé@b.example\nżółć\n"


def test_what_no_encoding_explains_becomes_the_replacement_character() -> None:
    assert "".join(decode([b"a\x81b"], Encoding("utf-8"))) == "a\ufffdb"
    assert "".join(decode([b"a\x81b"], Encoding("cp1252"))) == "a\ufffdb"
    assert "".join(decode([b"a\x00\x00\xd8b\x00"], Encoding("utf-16-le"))) == "a\ufffdb"
    assert "".join(decode([b"a\x00b"], Encoding("utf-16-le"))) == "a\ufffd"


def test_nul_characters_vanish() -> None:
    assert "".join(decode([b"a\x00@b\x00.example"], Encoding("utf-8"))) == "a@b.example"


@given(
    st.binary(max_size=60), st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "cp1252"]), st.integers(1, 7), st.integers(0, 4)
)
def test_how_the_bytes_are_cut_does_not_matter(raw: bytes, codec: str, size: int, bom: int) -> None:
    encoding = Encoding(codec, bom)
    cut = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert "".join(decode(cut, encoding)) == "".join(decode([raw], encoding))


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"]),
)
def test_what_is_well_formed_survives(text: str, codec: str) -> None:
    assert "".join(decode([text.encode(codec)], Encoding(codec))) == text


@given(st.binary(max_size=300))
def test_detect_answers_or_refuses(raw: bytes) -> None:
    """Whatever the bytes: an encoding that decodes them, or `Invalid`."""
    try:
        encoding = detect_encoding(raw)
    except Invalid:
        return
    text = "".join(decode([raw], encoding))
    assert "\x00" not in text
    assert text.encode()
