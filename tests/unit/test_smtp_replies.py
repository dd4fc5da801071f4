"""Replies are read the same however the bytes arrive, what is not SMTP is refused, and each reply means what its codes say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Unavailable
from postroom.platform.mail._smtp_replies import MAX_LINE, MAX_LINES, Reply, ReplyReader, accepted, refused
from postroom.platform.mail.port import Stage, Verdict


def read(*pieces: bytes) -> list[Reply]:
    reader, replies = ReplyReader(), []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.next()) is not None:
            replies.append(reply)
    return replies


def test_single_and_multi_line_replies_bare_lf_and_bare_codes() -> None:
    stream = b"250 ok\r\n250-first\r\n250-second\r\n250 last\r\n354 go\n250\r\n250-\r\n250 \r\n"
    assert read(stream) == [
        Reply(250, ("ok",)),
        Reply(250, ("first", "second", "last")),
        Reply(354, ("go",)),
        Reply(250, ("",)),
        Reply(250, ("", "")),
    ]


_texts = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=30)
_replies = st.lists(st.builds(Reply, st.integers(200, 599), st.lists(_texts, min_size=1, max_size=4).map(tuple)), max_size=6)


def wire(reply: Reply) -> bytes:
    lines = [f"{reply.code}-{line}\r\n" for line in reply.lines[:-1]] + [f"{reply.code} {reply.lines[-1]}\r\n"]
    return "".join(lines).encode()


@given(_replies, st.data())
def test_replies_split_at_any_byte_read_the_same(replies: list[Reply], data: st.DataObject) -> None:
    stream = b"".join(map(wire, replies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == replies
    assert read(*(bytes([byte]) for byte in stream)) == replies


@pytest.mark.parametrize(
    "stream",
    [
        b"hello\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250_ok\r\n",
        b"\r\n",
        b"250-a\r\n251 b\r\n",
        b"\x16\x03\x01\x00\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"x" * (MAX_LINE + 1),
        b"250-x\r\n" * (MAX_LINES + 1),
    ],
)
def test_what_is_not_smtp_is_refused(stream: bytes) -> None:
    with pytest.raises(Unavailable):
        read(stream)


def test_good_replies_before_garbage_still_count() -> None:
    reader = ReplyReader()
    reader.feed(b"250 accepted\r\n\xff\xfe\r\n")
    assert reader.next() == Reply(250, ("accepted",))
    with pytest.raises(Unavailable):
        reader.next()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    try:
        replies, problem = read(noise), ""
    except Unavailable as error:
        replies, problem = [], str(error)
    assert problem.isprintable()
    assert all(200 <= reply.code <= 599 for reply in replies)


@pytest.mark.parametrize(
    ("text", "provider_id"),
    [
        ("2.0.0 Ok: queued as 4XyZ1234", "4XyZ1234"),
        ("OK id=1tABcd-000000001aB-2Xyz", "1tABcd-000000001aB-2Xyz"),
        (
            "Ok 0102018f2b7c3d4e-5f6a7b8c-1111-2222-3333-444455556666-000000",
            "0102018f2b7c3d4e-5f6a7b8c-1111-2222-3333-444455556666-000000",
        ),
        ("2.0.0 4AP5Xq2o012345 Message accepted for delivery", "4AP5Xq2o012345"),
        ("Message Queued (6F1B2C3D-1111.1)", "6F1B2C3D-1111.1"),
        ("2.6.0 <x@y> [InternalId=12345, Hostname=z] Queued mail for delivery", "12345"),
        ("2.0.0 Ok", None),
    ],
)
def test_the_providers_own_id_is_found(text: str, provider_id: str | None) -> None:
    assert accepted(Reply(250, (text,))).provider_id == provider_id


def test_enhanced_codes_are_taken_off_each_line_and_must_fit_the_basic_code() -> None:
    result = refused(Reply(550, ("5.1.1 No such user", "5.1.1 here")), Stage.RCPT)
    assert (result.verdict, result.code, result.enhanced, result.text) == (Verdict.PERMANENT, 550, "5.1.1", "No such user here")
    assert refused(Reply(550, ("2.1.1 odd",)), Stage.RCPT).enhanced == ""
    assert accepted(Reply(250, ("2.1.5",))).enhanced == "2.1.5"


def test_text_is_printable_and_bounded() -> None:
    result = refused(Reply(450, ("a\x00b\x1b[31m\tc" + "x" * 999,)), Stage.RCPT)
    assert len(result.text) == 250
    assert result.text.isprintable()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (421, "4.7.0 Try again later, closing connection"),
        (450, "4.7.1 Error: too much mail from 192.0.2.1"),
        (451, "4.7.500 Server busy. Please try again later from [192.0.2.1]"),
        (452, "4.3.2 Connection rate limit exceeded"),
        (421, "4.4.5 Server busy, try again later"),
        (454, "Throttling failure: Maximum sending rate exceeded."),
        (454, "Throttling failure: Daily message quota exceeded."),
        (451, "slow down please"),
        (421, "Too many concurrent SMTP connections"),
        (550, "5.4.5 Daily user sending limit exceeded"),
    ],
)
def test_too_fast_is_about_the_sender_and_never_permanent(code: int, text: str) -> None:
    result = refused(Reply(code, (text,)), Stage.CONTENT)
    assert result.throttled
    assert result.verdict is Verdict.TEMPORARY


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (450, "4.7.1 Greylisted, try again in 300 seconds"),
        (451, "4.7.1 Greylisting in action, please come back later"),
        (450, "4.2.1 The user is receiving mail at a rate that prevents delivery"),
        (452, "4.2.2 The email account is over quota"),
        (450, "4.1.1 user unknown for now"),
        (450, "4.7.1 <a@b.example>: Recipient address rejected: Policy restrictions, try again later"),
        (451, "4.7.1 Service unavailable - try again later"),
        (450, "4.7.25 Client host rejected: cannot find your reverse hostname"),
        (451, "4.3.0 Temporary lookup failure"),
        (550, "5.7.1 rate of spam too high"),
        (550, "5.1.1 too many hops"),
    ],
)
def test_what_is_about_one_recipient_or_our_set_up_is_not_too_fast(code: int, text: str) -> None:
    assert not refused(Reply(code, (text,)), Stage.RCPT).throttled


def test_at_rcpt_a_policy_is_about_the_pace_only_when_its_words_say_so() -> None:
    assert refused(Reply(450, ("4.7.1 too many messages from you",)), Stage.RCPT).throttled
    assert refused(Reply(450, ("4.7.1 try again later",)), Stage.MAIL).throttled
    assert not refused(Reply(450, ("4.7.1 try again later",)), Stage.RCPT).throttled
