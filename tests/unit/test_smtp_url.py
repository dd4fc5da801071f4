"""A provider's URL becomes exactly the configuration it reads like; anything else is refused by name, and no password shows."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.platform.mail.smtp_url import Auth, Dsn, SmtpConfig, Tls, parse_smtp_url


def test_every_part_is_read() -> None:
    url = (
        "smtp://us%40er:p%2Fa%3Ass@mail.example.com:2525?tls=starttls&verify=no&ca_file=/etc/ca.pem&auth=login&helo=me.example.com"
        "&connections=4&reuse=50&idle=3&connect_timeout=1&greeting_timeout=2&command_timeout=3.5&dot_timeout=4&dsn=never&pipelining=no"
    )
    assert parse_smtp_url(url) == SmtpConfig(
        "mail.example.com",
        2525,
        user="us@er",
        password="p/a:ss",
        tls=Tls.STARTTLS,
        verify=False,
        ca_file="/etc/ca.pem",
        auth=Auth.LOGIN,
        helo="me.example.com",
        connections=4,
        reuse=50,
        idle_s=3,
        connect_s=1,
        greeting_s=2,
        command_s=3.5,
        dot_s=4,
        dsn=Dsn.NEVER,
        pipelining=False,
    )


@pytest.mark.parametrize(
    ("url", "tls", "port", "verify"),
    [
        ("smtp://mx.example.com", Tls.AUTO, 25, False),
        ("smtp://mx.example.com:2525", Tls.AUTO, 2525, False),
        ("smtp://u:p@mx.example.com", Tls.STARTTLS, 587, True),
        ("smtp://u:p@mx.example.com:25", Tls.STARTTLS, 25, True),
        ("smtp://mx.example.com:587", Tls.STARTTLS, 587, True),
        ("smtp://u:p@mx.example.com:465", Tls.TLS, 465, True),
        ("smtps://u:p@mx.example.com", Tls.TLS, 465, True),
        ("smtp://mx.example.com?tls=tls", Tls.TLS, 465, True),
        ("smtp://mx.example.com?tls=none", Tls.NONE, 25, True),
        ("smtp://localhost", Tls.NONE, 25, True),
        ("smtp://u:p@localhost:1025", Tls.NONE, 1025, True),
        ("smtp://[::1]:1025", Tls.NONE, 1025, True),
        ("smtp://127.0.0.1?tls=starttls", Tls.STARTTLS, 587, True),
    ],
)
def test_what_is_not_said_is_chosen_safely(url: str, tls: Tls, port: int, verify: bool) -> None:
    config = parse_smtp_url(url)
    assert (config.tls, config.port, config.verify) == (tls, port, verify)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://mx", "smtp://"),
        ("smtp://", "host"),
        ("smtp://:25", "host"),
        ("smtp://m x", "host"),
        ("smtp://a..b", "a..b"),
        ("smtp://.", "host"),
        ("smtp://" + "a" * 64 + ".example", "no host can be called"),
        ("smtp://mx:0", "port"),
        ("smtp://mx:99999", "port"),
        ("smtp://mx/path", "path"),
        ("smtp://mx?speed=9", "'speed'"),
        ("smtp://mx?tls=maybe", "none or auto or starttls or tls"),
        ("smtp://mx?connections=0", "connections='0'"),
        ("smtp://mx?connections=1&connections=2", "twice"),
        ("smtp://mx?idle=-1", "idle"),
        ("smtp://mx?dot_timeout=0", "seconds, more than 0"),
        ("smtp://mx?verify=true", "yes or no"),
        ("smtp://mx?helo=a%0d%0ab", "helo"),
        ("smtp://user@mx", "password"),
        ("smtp://mx?auth=plain", "auth=plain"),
        ("smtps://mx?tls=starttls", "smtps"),
        ("smtp://u:p@mx.example.com?tls=none", "clear"),
        ("smtp://[::1", "cannot be read"),
    ],
)
def test_a_bad_url_is_refused_with_the_word_to_mend(url: str, word: str) -> None:
    with pytest.raises(Invalid, match=word.replace("(", r"\(")):
        parse_smtp_url(url)


def test_credentials_leave_in_the_clear_only_when_asked() -> None:
    config = parse_smtp_url("smtp://u:p@mx.example.com?tls=none&clear_auth=yes")
    assert config.clear_auth
    assert config.tls is Tls.NONE


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.encode("utf-8", "ignore").decode() == text))
def test_any_password_round_trips_and_never_shows(secret: str) -> None:
    config = parse_smtp_url(f"smtp://u:{quote(secret, safe='')}@mx.example.com")
    assert config.password == secret
    assert repr(config) == repr(parse_smtp_url("smtp://u:another@mx.example.com"))
    assert "u" not in str(config).removeprefix("smtp://mx.example.com:587?tls=starttls")


@pytest.mark.parametrize("secret", ["geh?eim=1", "geh/eim", "geh#eim", "[geheim"])
def test_an_unescaped_password_is_not_repeated_in_the_error(secret: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_smtp_url(f"smtp://u:{secret}@mx.example.com:25?tls=starttls")
    assert "eim" not in f"{caught.value!r} {caught.value.__cause__!r}"
