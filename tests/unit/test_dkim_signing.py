"""What Postroom signs, others verify: dkimpy, OpenDKIM, and the example of RFC 8463."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import dkim  # type: ignore[import-untyped]  # it has no types
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dkim.canonicalization import CanonicalizationPolicy  # type: ignore[import-untyped]  # as above
from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.delivery.dkim import (
    DomainSigner,
    GeneratedKey,
    SigningKey,
    canonical_body,
    canonical_field,
    generate_key,
    signed_data,
)
from postroom.errors import Corrupt
from postroom.model.campaign import Attachment
from postroom.model.dkim import Algorithm, DkimKey, record_name
from tests.unit.composing import NOW, PUBLIC_URL, compile_it, compose_it

DOMAIN = "sender.example"
BOTH = (Algorithm.RSA, Algorithm.ED25519)
OPENDKIM = shutil.which("opendkim") or shutil.which("opendkim", path="/usr/sbin:/usr/local/sbin")
MESSAGE = (
    b"From: A <a@sender.example>\r\nTo: b@other.example\r\nSubject: Hi\r\nDate: Mon, 1 Jan 2029 00:00:00 +0000\r\n"
    b"Message-ID: <1@sender.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
)


@cache
def key_of(algorithm: Algorithm) -> GeneratedKey:
    return generate_key(algorithm)


def signer(*algorithms: Algorithm, domain: str = DOMAIN) -> DomainSigner:
    return DomainSigner(domain, [SigningKey(each.value, each, key_of(each).private) for each in algorithms])


def record(algorithm: Algorithm) -> str:
    return DkimKey(algorithm.value, algorithm, key_of(algorithm).public, NOW).record


def dns(*algorithms: Algorithm, domain: str = DOMAIN) -> Callable[..., bytes | None]:
    """As dkimpy asks it."""
    zone = {f"{record_name(each.value, domain)}.".encode(): record(each).encode() for each in algorithms}

    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        return zone.get(name)

    return txt


def verified(content: bytes, *algorithms: Algorithm, domain: str = DOMAIN) -> list[bool]:
    """Whether dkimpy takes each signature, in order."""

    def takes(number: int) -> bool:
        try:
            return bool(dkim.DKIM(content).verify(idx=number, dnsfunc=dns(*algorithms, domain=domain)))
        except dkim.ValidationError:  # the body's hash
            return False

    return [takes(number) for number in range(len(re.findall(rb"^DKIM-Signature:", content, re.MULTILINE)))]


def signed(content: bytes, *algorithms: Algorithm) -> bytes:
    return signer(*(algorithms or BOTH)).sign(content, NOW)


def test_dkimpy_verifies_both_signatures_the_rsa_one_first() -> None:
    content = signed(MESSAGE)
    assert verified(content, *BOTH) == [True, True]
    assert re.findall(rb" a=(\S+);", content) == [b"rsa-sha256", b"ed25519-sha256"]
    assert content.endswith(MESSAGE)


def test_what_is_composed_is_verified() -> None:
    """With names and a subject that are encoded, links, a row's own line ends, an attachment, both List-Unsubscribe fields."""
    composer = compile_it(
        "<p>Grüße {{ a }}</p>\t <a href='https://shop.example/'>x</a>  \n\n\n",
        subject="Ä {{ a }} " + "long words " * 20,
        text="  {{ a }} \t\n.\n\n\n",
        public_url=PUBLIC_URL,
        unsubscribe_mailbox="unsubscribe@bounces.sender.example",
        from_="Müller & Co <news@sender.example>",
        reply_to="re@sender.example",
        attachments=[(Attachment("k", "ü.bin", "application/octet-stream"), bytes(range(256)))],
    )
    plain = compose_it(composer, {"a": "one \r\n\r\n \t two "}, name="Ünal").content
    content = signed(plain)
    assert verified(content, *BOTH) == [True, True]
    names = re.findall(rb"h=(.*?);", re.sub(rb"\r\n ", b"", content))[0].decode().split(":")
    once = {"Message-ID", "MIME-Version", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID"}
    twice = {"From", "To", "Subject", "Date", "Reply-To", "Content-Type"}
    assert {name: names.count(name) for name in names} == dict.fromkeys(once, 1) | dict.fromkeys(twice, 2)


@pytest.mark.parametrize(
    "field", [b"From: x@evil.example", b"Subject: Other", b"Reply-To: x@evil.example", b"Content-Type: text/html"]
)
def test_nobody_can_add_a_field_that_is_shown(field: bytes) -> None:
    content = signed(MESSAGE, Algorithm.RSA)
    head, _, rest = content.partition(b"From: A")
    assert verified(head + field + b"\r\nFrom: A" + rest, Algorithm.RSA) == [False]


@pytest.mark.parametrize(
    "change",
    [
        (b"Hello", b"Hallo"),
        (b"Subject: Hi", b"Subject: Ho"),
        (b"Hello\r\n", b"Hello\r\nmore\r\n"),
        (b"Message-ID: <1", b"Message-ID: <2"),
    ],
)
def test_a_changed_message_is_not_verified(change: tuple[bytes, bytes]) -> None:
    content = signed(MESSAGE, Algorithm.ED25519).replace(*change)
    assert verified(content, Algorithm.ED25519) == [False]


def test_spaces_and_folding_may_change_on_the_way() -> None:
    content = signed(MESSAGE).replace(b"Subject: Hi", b"subject:\r\n \t Hi ").replace(b"Hello\r\n", b"Hello \t \r\n\r\n \r\n")
    assert verified(content, *BOTH) == [True, True]


@pytest.mark.parametrize("domain", [DOMAIN, "xn--mller-kva.example", "long." * 8 + "example"])
def test_lines_are_short_and_end_in_crlf(domain: str) -> None:
    field = signer(*BOTH, domain=domain).sign(MESSAGE, NOW).removesuffix(MESSAGE)
    lines = field.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 78 and not re.search(rb"[\r\n]", line) for line in lines)


def test_a_message_beyond_ascii_is_signed_as_it_stands() -> None:
    """SMTPUTF8 (RFC 6531), 8BITMIME."""
    content = signed(
        MESSAGE.replace(b"Subject: Hi", "Subject: Größe 漢字".encode()).replace(b"Hello", "Grüße".encode() + b"\xff")
    )
    assert verified(content, *BOTH) == [True, True]


def test_a_message_without_a_body_is_signed() -> None:
    assert verified(signed(MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"), *BOTH) == [True, True]


def test_what_is_no_key_is_corrupt() -> None:
    for algorithm in BOTH:
        with pytest.raises(Corrupt):
            DomainSigner(DOMAIN, [SigningKey("s", algorithm, b"nonsense")])


def test_a_key_is_not_shown() -> None:
    made = key_of(Algorithm.ED25519)
    shown = repr(SigningKey("s", Algorithm.ED25519, made.private)) + repr(made)
    assert repr(made.private)[2:-1] not in shown
    assert base64.b64encode(made.private).decode() not in shown


# Canonicalisation, against dkimpy's.

PIECES = st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"=20", b".", b"\xc3\xa4", b"\x00", b"\x0b"])


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_a_body_is_canonical_as_others_have_it(body: bytes) -> None:
    theirs: bytes = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed").canonicalize_body(body)
    if body and not body.endswith(b"\r\n"):
        theirs = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed").canonicalize_body(body + b"\r\n")  # RFC 6376 §3.4.4 (b)
    assert canonical_body(body) == theirs


@given(st.lists(PIECES, max_size=25).map(b"".join), st.sampled_from(BOTH))
def test_whatever_the_body_it_is_verified(body: bytes, algorithm: Algorithm) -> None:
    content = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body + b"\r\n"
    assert verified(signed(content, algorithm), algorithm) == [True]


@given(
    st.lists(
        st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b"=?utf-8?Q?x?=", b":", b";", b"\xc3\xa4"]), max_size=25
    ).map(b"".join)
)
def test_a_field_is_canonical_as_others_have_it(value: bytes) -> None:
    ((name, theirs),) = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed").canonicalize_headers(
        [(b"X-Name ", value + b"\r\n")]
    )
    assert canonical_field(b"X-Name", value) + b"\r\n" == name + b":" + theirs


# RFC 8463, appendix A.

FOOTBALL = (
    (b"From", b" Joe SixPack <joe@football.example.com>"),
    (b"To", b" Suzie Q <suzie@shopping.example.net>"),
    (b"Subject", b" Is dinner ready?"),
    (b"Date", b" Fri, 11 Jul 2003 21:00:37 -0700 (PDT)"),
    (b"Message-ID", b" <20030712040037.46341.5F8J@football.example.com>"),
)
FOOTBALL_BODY = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n"
FOOTBALL_NAMES = ("from", "to", "subject", "date", "message-id", "from", "subject", "date")
SECRET = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
PUBLIC_RSA = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
    "DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)
ED25519_FIELD = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n subject : date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
)
RSA_FIELD = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n"
    b" q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n date : message-id : from : subject : date;\r\n"
    b" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b="
)


def test_the_body_of_the_rfc_has_its_hash() -> None:
    digest = hashlib.sha256(canonical_body(FOOTBALL_BODY)).digest()
    assert base64.b64encode(digest) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="


def test_ed25519_signs_as_the_rfc_does() -> None:
    """To the last bit: the algorithm leaves nothing to chance."""
    data = signed_data(FOOTBALL, FOOTBALL_NAMES, ED25519_FIELD)
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(SECRET))
    made = base64.b64encode(key.sign(hashlib.sha256(data).digest()))
    assert made == b"/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="


def test_the_rsa_signature_of_the_rfc_is_about_what_we_would_sign() -> None:
    theirs = (
        "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz"
        "dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8="
    )
    key = serialization.load_der_public_key(base64.b64decode(PUBLIC_RSA))
    assert isinstance(key, rsa.RSAPublicKey)
    data = signed_data(FOOTBALL, FOOTBALL_NAMES, RSA_FIELD)
    key.verify(base64.b64decode(theirs), data, padding.PKCS1v15(), hashes.SHA256())


# OpenDKIM.


def opendkim(root: Path, content: bytes, algorithms: Sequence[Algorithm]) -> tuple[int, str]:
    """Exit code and what it says about a message; the keys come from a file in the DNS' place."""
    assert OPENDKIM
    (root / "message").write_bytes(content)
    (root / "keys").write_text("".join(f"{record_name(each.value, DOMAIN)} {record(each)}\n" for each in algorithms))
    config = f"Mode v\nOn-Default reject\nOn-NoSignature reject\nTestPublicKeys {root}/keys\nTemporaryDirectory {root}\n"
    (root / "conf").write_text(config)
    ran = subprocess.run(
        [OPENDKIM, "-x", root / "conf", "-t", root / "message", "-vv"], capture_output=True, text=True, timeout=30, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.skipif(OPENDKIM is None, reason="opendkim is not installed (on Debian and Ubuntu: apt install opendkim)")
@pytest.mark.parametrize("algorithm", BOTH)
def test_opendkim_verifies_it(tmp_path: Path, algorithm: Algorithm) -> None:
    content = signed(MESSAGE.replace(b"Hello", b"Hello  there \t\r\n\r\n.\r\n"), algorithm)
    code, said = opendkim(tmp_path, content, [algorithm])
    assert code == 0, said
    assert "dkim=pass" in said
    code, said = opendkim(tmp_path, content.replace(b"there", b"here"), [algorithm])
    assert "dkim=fail" in said, said


def test_the_time_is_the_signatures_own() -> None:
    assert b"t=1760000000;" in signer(Algorithm.ED25519).sign(MESSAGE, Instant(1_760_000_000_999))
