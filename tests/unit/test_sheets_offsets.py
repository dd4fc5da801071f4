"""Any line of an upload can be found in its bytes, and what is read from there is what the whole says from there."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from postroom.recipients_file.encoding import Encoding, decode
from postroom.recipients_file.records import KEPT_BYTES, LineOffsets, split_lines

ENCODINGS = [
    Encoding("utf-8"), Encoding("utf-8", 3), Encoding("cp1252"), Encoding("utf-16-le"), Encoding("utf-16-be", 2),
    Encoding("utf-32-le", 4), Encoding("utf-32-be", 4),
]  # fmt: skip
PIECES = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\0",
        b"a",
        b"\x0a\x0d",
        b"\r\0",
        b"\n\0",
        b"\0\r",
        b"\0\n",
        b"\x00\x00",
        b"\xc3\xa9",
        b"\xe2",
        b"\xd8\x3d",
        b"\x3d\xd8",
    ]
)


@given(st.sampled_from(ENCODINGS), st.lists(PIECES, max_size=40).map(b"".join), st.integers(1, 24))
@example(Encoding("utf-8"), b"a\r\0\nb\rc\r\nd", 2)
@example(Encoding("utf-8"), b"abc\r\nd\ne\nf\n", 1)  # a CRLF over two blocks
@example(Encoding("utf-8"), b"abc\r\0\n\ne\nf\n", 1)
@example(Encoding("utf-16-le"), "a\r\nb\u0a0dc\ud83d\r".encode("utf-16-le", "surrogatepass"), 4)
def test_a_file_read_from_where_a_line_begins_is_the_rest_of_the_whole(encoding: Encoding, rest: bytes, size: int) -> None:
    """Whatever the bytes, and wherever blocks divide them: CRLF, NUL characters, half characters."""
    raw = b"\xff" * encoding.bom + rest
    size *= 4  # as any block that is read is divided by the unit
    offsets = LineOffsets(encoding)
    texts = list(offsets.decode(raw[at : at + size] for at in range(0, len(raw), size)))
    lines = list(split_lines(texts))
    assert "".join(texts) == "".join(decode([raw], encoding))
    told = 0
    for line in range(1, len(lines) + 1):
        at = offsets.offset_of(line)
        if at is None:
            continue
        told += 1
        from_there = Encoding(encoding.codec, encoding.bom if line == 1 else 0)
        assert "".join(decode([raw[at if line > 1 else 0 :]], from_there)) == "".join(lines[line - 1 :])
        before = "".join(decode([raw[: at if line > 1 else 0]], encoding))
        assert before == "".join(lines[: line - 1])
    open_ends = 1 + len(raw) // size  # each end of a block may leave one line open
    assert told >= len(lines) - open_ends


def test_a_line_that_is_too_far_back_is_not_told() -> None:
    offsets = LineOffsets(Encoding("utf-8"))
    for _ in offsets.decode([b"a\nb\n", *[b"c" * 65_536] * (KEPT_BYTES // 65_536 + 2), b"\nd\n"]):
        pass
    assert offsets.offset_of(1) == 0
    assert offsets.offset_of(2) is None
    assert offsets.offset_of(4) == offsets.read - 2
