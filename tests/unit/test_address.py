"""Addresses: what is read, what is taken off, what is refused and with which code."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postroom.model.address import Address, AddressError, AddressProblem, parse_address

NBSP, ZWSP, BOM, SHY, RLM = "\u00a0", "\u200b", "\ufeff", "\u00ad", "\u200f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.example", Address(None, "a@b.example", "a@b.example")),
        ("John.Doe+news@Example.COM", Address(None, "John.Doe+news@example.com", "john.doe+news@example.com")),
        ("John <j@x.example>", Address("John", "j@x.example", "j@x.example")),
        ("John<j@x.example>", Address("John", "j@x.example", "j@x.example")),
        ('"Doe, John" <j@x.example>', Address("Doe, John", "j@x.example", "j@x.example")),
        ('"The \\"Boss\\"" <j@x.example>', Address('The "Boss"', "j@x.example", "j@x.example")),
        ('"a <b" <j@x.example>', Address("a <b", "j@x.example", "j@x.example")),
        ("Doe, John <j@x.example>", Address("Doe, John", "j@x.example", "j@x.example")),
        ("<j@x.example>", Address(None, "j@x.example", "j@x.example")),
        ("j@x.example <j@x.example>", Address(None, "j@x.example", "j@x.example")),
        ("Ann\r\nLee <j@x.example>", Address("Ann Lee", "j@x.example", "j@x.example")),
        ("o'brien@x.example", Address(None, "o'brien@x.example", "o'brien@x.example")),
        ("a--b@x--y.example", Address(None, "a--b@x--y.example", "a--b@x--y.example")),
        ('"john doe"@x.example', Address(None, '"john doe"@x.example', '"john doe"@x.example')),
        ('"John"@x.example', Address(None, '"John"@x.example', "john@x.example")),
        ('"a@b"@x.example', Address(None, '"a@b"@x.example', '"a@b"@x.example')),
        ("j@münchen.example", Address(None, "j@xn--mnchen-3ya.example", "j@xn--mnchen-3ya.example")),
        ("j@MÜNCHEN.example", Address(None, "j@xn--mnchen-3ya.example", "j@xn--mnchen-3ya.example")),
        ("j@XN--MNCHEN-3YA.example", Address(None, "j@xn--mnchen-3ya.example", "j@xn--mnchen-3ya.example")),
        ("j@faß.example", Address(None, "j@xn--fa-hia.example", "j@xn--fa-hia.example")),
        ("JÖRG@x.example", Address(None, "JÖRG@x.example", "jörg@x.example")),
        ("jo\u0308rg@x.example", Address(None, "jo\u0308rg@x.example", "jörg@x.example")),
        ("用户@例子.测试", Address(None, "用户@xn--fsqu00a.xn--0zwm56d", "用户@xn--fsqu00a.xn--0zwm56d")),
    ],
)
def test_reads_every_ordinary_form(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "  a@b.example\t",
        f"{NBSP}a@b.example{NBSP}",
        f"{BOM}a@b.example",
        f"{ZWSP} a@b.example {ZWSP}\u200d",
        f"a{ZWSP}@b.exam{SHY}ple",
        f"{RLM}a@b.example",
        "a @ b.example",
        "a@b.example.",
        "a@b.example;",
        "a@b.example, ",
        '"a@b.example"',
        "'a@b.example'",
        "“a@b.example”",
        "<a@b.example>;",
        "mailto:a@b.example",
        "MAILTO:a%40b.example?subject=hello",
        "<mailto:a@b.example>",
        "a@b.example <mailto:a@b.example>",
        "ａ＠ｂ．ｅｘａｍｐｌｅ",
        "a@b。example",
    ],
)
def test_takes_off_what_does_not_belong_to_an_address(text: str) -> None:
    assert parse_address(text) == Address(None, "a@b.example", "a@b.example")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", AddressProblem.EMPTY),
        (f" {NBSP}{ZWSP}{BOM}\t", AddressProblem.EMPTY),
        ("<>", AddressProblem.EMPTY),
        ("John <>", AddressProblem.EMPTY),
        ("john", AddressProblem.NO_AT),
        ("john.example", AddressProblem.NO_AT),
        ("a@b.example, c@d.example", AddressProblem.MULTIPLE),
        ("a@b.example;c@d.example", AddressProblem.MULTIPLE),
        ("a@b.example c@d.example", AddressProblem.MULTIPLE),
        ("A <a@b.example>, C <c@d.example>", AddressProblem.MULTIPLE),
        ("@b.example", AddressProblem.BAD_LOCAL),
        ("a b@c.example", AddressProblem.BAD_LOCAL),
        (".a@b.example", AddressProblem.BAD_LOCAL),
        ("a.@b.example", AddressProblem.BAD_LOCAL),
        ("a..b@c.example", AddressProblem.BAD_LOCAL),
        ("a@b@c.example", AddressProblem.BAD_LOCAL),
        ('"a@b.example', AddressProblem.BAD_LOCAL),
        ('""@b.example', AddressProblem.BAD_LOCAL),
        ('"\u200c"@b.example', AddressProblem.BAD_LOCAL),
        ("caf\ufffd@b.example", AddressProblem.BAD_LOCAL),
        ("a\ud800@b.example", AddressProblem.BAD_LOCAL),
        ("a@", AddressProblem.BAD_DOMAIN),
        ("a@localhost", AddressProblem.BAD_DOMAIN),
        ("a@b..example", AddressProblem.BAD_DOMAIN),
        ("a@-b.example", AddressProblem.BAD_DOMAIN),
        ("a@b-.example", AddressProblem.BAD_DOMAIN),
        ("a@b_c.example", AddressProblem.BAD_DOMAIN),
        ("a@b.c", AddressProblem.BAD_DOMAIN),
        ("a@192.0.2.1", AddressProblem.BAD_DOMAIN),
        ("a@[192.0.2.1]", AddressProblem.BAD_DOMAIN),
        ("a@[IPv6:2001:db8::1]", AddressProblem.BAD_DOMAIN),
        ("a@xn--zzzzzz-.example", AddressProblem.BAD_DOMAIN),
        ("a@❤.example", AddressProblem.BAD_DOMAIN),
        ("a@b.example\n.org", AddressProblem.CONTROL),
        ("a\x00@b.example", AddressProblem.CONTROL),
        ("mailto:a%0D%0ABcc:c@b.example", AddressProblem.CONTROL),
        ("l" * 65 + "@b.example", AddressProblem.TOO_LONG),
        ("ö" * 33 + "@b.example", AddressProblem.TOO_LONG),
        ("a@" + "b" * 64 + ".example", AddressProblem.TOO_LONG),
        ("a@" + "b." * 124 + "example", AddressProblem.TOO_LONG),
        ("x" * 5_000, AddressProblem.TOO_LONG),
    ],
)
def test_refuses_with_a_code_and_a_sentence(text: str, reason: AddressProblem) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert caught.value.reason is reason
    assert str(caught.value).endswith(".")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("length", [64, 254])
def test_the_longest_allowed_is_allowed(length: int) -> None:
    local = "l" * min(length, 64)
    domain = "b." * 60 + "c" * 60 + ".example"
    text = f"{local}@{'b.example' if length == 64 else domain[: 254 - 65 - 8].rstrip('.') + '.example'}"
    assert parse_address(text).mailbox == text


def test_plus_tags_and_dots_keep_people_apart() -> None:
    assert len({parse_address(t).normalised for t in ("ab@x.example", "a.b@x.example", "ab+c@x.example")}) == 3


PIECES = st.sampled_from(
    [*"aZ9.+-_@@<>\"'(),;:[]\\ ", "é", "ß", "İ", "ſ", "K", "\u0345", "\u1fef", "\u037e", "中", "＠", "。", "．", "ａ",
     ".example", ".com", "xn--", "xn--mnchen-3ya", "mailto:", "%40", "\r\n", "\t", "\x00", "\x85", NBSP, ZWSP, BOM, SHY, "\u200d", "\ud800", "🙂"]
)  # fmt: skip
DIRTY = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(st.characters(), max_size=30))
LOCAL = st.one_of(st.lists(PIECES, min_size=1, max_size=5).map("".join), st.text(st.characters(), min_size=1, max_size=12))
ADDRESSES = st.builds(
    lambda local, quote, domain: (f'"{local}"' if quote else local) + "@" + domain,
    LOCAL,
    st.booleans(),
    st.sampled_from(["x.example", "MÜNCHEN.example", "faß.de", "例え.jp", "a-b.c--d.example", "xn--fa-hia.de"]),
)


@given(st.one_of(DIRTY, ADDRESSES))
@example("\u1e9e@x.example")
@example("\u0390\u0345@x.example")
@example('"\\\u037e"@x.example')
def test_is_exact_or_refuses(text: str) -> None:
    """Nothing but `AddressError` is raised; what comes out is clean, and reading it again gives the same person."""
    try:
        address = parse_address(text)
    except AddressError:
        return
    for part in address:
        assert part is None or not any(unicodedata.category(c) in {"Cc", "Cs"} for c in part)
    local, _, domain = address.mailbox.rpartition("@")
    assert domain.isascii()
    assert domain == domain.lower()
    assert len(local.encode()) <= 64
    assert len(address.mailbox.encode()) <= 254
    assert address.name is None or address.name.strip() == address.name != ""
    again = parse_address(address.mailbox)
    assert (again.mailbox, again.normalised) == (address.mailbox, address.normalised)
    if len(address.normalised.rpartition("@")[0].encode()) <= 64 and len(address.normalised.encode()) <= 254:
        assert parse_address(address.normalised).normalised == address.normalised
    else:  # folding can lengthen: U+0390 is two bytes, its fold six
        assert len(address.normalised.encode()) > len(address.mailbox.encode())


@given(st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=8))
def test_case_and_composition_do_not_make_another_person(local: str) -> None:
    def identity(text: str) -> str | None:
        try:
            return parse_address(text + "@x.example").normalised
        except AddressError:
            return None

    forms = {identity(form) for form in (local, unicodedata.normalize("NFC", local), unicodedata.normalize("NFD", local))}
    forms.discard(None)
    assert len(forms) <= 1
    if local.isascii():
        assert identity(local.upper()) == identity(local.lower())


@given(st.text(st.characters(codec="utf-8"), max_size=30), ADDRESSES)
def test_a_quoted_display_name_survives(name: str, text: str) -> None:
    """Whatever stands in a properly quoted name, the address after it is read as if it stood alone."""
    try:
        alone = parse_address(text)
    except AddressError:
        return
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        both = parse_address(f'"{quoted}" <{text}>')
    except AddressError:
        assert "<" in text or ">" in text or '"' in text  # angle brackets inside the brackets
        return
    if '"' not in text and ">" not in text and "<" not in text:
        assert both.normalised == alone.normalised


def test_every_character_folds_to_a_fixed_point() -> None:
    """Over all of Unicode's letters and marks: the normalised form of the normalised form is itself."""
    for code in range(0x80, 0x20000):
        character = chr(code)
        if unicodedata.category(character)[0] not in "LMN":
            continue
        try:
            once = parse_address(f"a{character}b@x.example").normalised
        except AddressError:
            continue
        assert parse_address(once).normalised == once, f"U+{code:04X}"
