"""The listener says 250 when what a mail says is stored, and strangers hold up neither it nor each other."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from postroom.errors import Unavailable
from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
from postroom.events.inbound_mail import ROLES
from postroom.events.mailbox_poller import MAX_PER_SESSION, MAX_WAIT_S
from postroom.model.inbound_mail import InboundMail
from postroom.platform.mail.listener import MAX_BYTES, ListenerLimits, _client_network
from postroom.platform.mail.listener_session import (
    MAX_COMMANDS,
    MAX_LINE,
    MAX_MAILS,
    MAX_MISTAKES,
    MAX_RECIPIENTS,
    ListenerConfig,
)
from tests.fakes.certificates import make_certificate
from tests.fakes.listening import OURS, ScriptedMailroom, listening
from tests.flow.campaign_kit import until

MAIL = "Subject: x\r\n\r\nHello\r\n"


def send(port: int, content: str = MAIL) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        return client.sendmail("", [OURS], content)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Somebody who speaks for themselves."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def heard(client: socket.socket) -> bytes:
    """Until the other side closes; what we sent after that resets the connection, once its answer is read."""
    said = b""
    with suppress(ConnectionResetError):
        while data := client.recv(65_536):
            said += data
    return said


def test_a_mail_is_handed_on_before_it_is_answered() -> None:
    mailroom = ScriptedMailroom()
    with listening(mailroom) as house:
        assert send(house.port) == {}
        assert mailroom.mails == [InboundMail((OURS,), MAIL.encode())]


def test_mail_for_others_is_refused_before_it_is_sent() -> None:
    mailroom = ScriptedMailroom()
    with listening(mailroom) as house, smtplib.SMTP("127.0.0.1", house.port, timeout=10) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            client.sendmail("a@b.example", ["victim@elsewhere.example"], MAIL)
        assert refused.value.recipients["victim@elsewhere.example"][0] == 550
    assert mailroom.groups == []


def test_what_cannot_be_stored_is_put_off_and_the_next_is_taken() -> None:
    down = [True]

    def happens(mails: Sequence[InboundMail]) -> None:
        if down.pop() if down else False:
            raise Unavailable("no answer")

    with listening(ScriptedMailroom(happens)) as house, smtplib.SMTP("127.0.0.1", house.port, timeout=10) as client:
        with pytest.raises(smtplib.SMTPDataError) as put_off:
            client.sendmail("", [OURS], MAIL)
        assert put_off.value.smtp_code == 451
        assert client.sendmail("", [OURS], MAIL) == {}


def test_a_mail_that_shows_a_mistake_of_ours_holds_up_no_other() -> None:
    """Those that wait together are opened together, then each alone."""
    together, first = threading.Event(), threading.Event()

    def happens(mails: Sequence[InboundMail]) -> None:
        if not first.is_set():
            first.set()
            together.wait(10)
        if any(b"poison" in mail.content for mail in mails):
            raise KeyError("poison")

    mailroom, codes = ScriptedMailroom(happens), dict[str, int]()

    def bring(word: str) -> None:
        with smtplib.SMTP("127.0.0.1", house.port, timeout=10) as client:
            try:
                codes[word] = 250 if client.sendmail("", [OURS], f"Subject: {word}\r\n\r\n") == {} else 0
            except smtplib.SMTPDataError as error:
                codes[word] = error.smtp_code

    with listening(mailroom) as house:
        bringers = [threading.Thread(target=bring, args=(word,)) for word in ("first", "good", "poison", "better")]
        bringers[0].start()
        assert first.wait(10)
        for bringer in bringers[1:]:
            bringer.start()
        until(lambda: house.listener.batcher._queue.qsize() == 3, "three mails to wait")
        together.set()
        for bringer in bringers:
            bringer.join(10)
    assert codes == {"first": 250, "good": 250, "poison": 451, "better": 250}


def test_a_connection_too_many_is_told_so() -> None:
    with listening(ScriptedMailroom(), limits=ListenerLimits(connections=3, per_address=2)) as house, ExitStack() as clients:
        for _ in range(2):
            assert clients.enter_context(connected(house.port)).recv(100).startswith(b"220")
        with connected(house.port) as third:
            assert heard(third).startswith(b"421 4.7.0")
        clients.close()
        until(lambda: not house.listener.connections, "the first two to be gone")
        assert send(house.port) == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_who_is_counted_as_one(one: str, other: str, same: bool) -> None:
    assert (_client_network((one, 1)) == _client_network((other, 2))) is same


def test_who_is_silent_is_sent_away_and_so_is_who_drips() -> None:
    with (
        listening(ScriptedMailroom(), limits=ListenerLimits(silence_s=0.2, mail_s=0.2)) as house,
        connected(house.port) as silent,
        connected(house.port) as dripping,
    ):
        dripping.sendall(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<%b>\r\nDATA\r\n" % OURS.encode())
        feeding = threading.Thread(target=_drip, args=(dripping,))
        feeding.start()
        assert heard(silent).endswith(b"421 4.4.2 Too slow: come again\r\n")
        assert heard(dripping).endswith(b"421 4.4.2 Too slow: come again\r\n")
        feeding.join(10)


@pytest.mark.parametrize(
    "limits", [ListenerLimits(silence_s=0.2), ListenerLimits(idle_s=0.2)], ids=["half a command", "a long time"]
)
def test_who_brings_nothing_is_sent_away_however_much_they_say(limits: ListenerLimits) -> None:
    """Half a command is silence; whole ones are no mail. They would take the place of those who bring mail."""
    word = b"x" if limits.silence_s < 1 else b"NOOP\r\n"
    with listening(ScriptedMailroom(), limits=limits) as house, connected(house.port) as client:
        feeding = threading.Thread(target=_drip, args=(client, word))
        feeding.start()
        assert b"421 4.4.2 Too slow: come again\r\n" in heard(client)
        feeding.join(10)


def _drip(client: socket.socket, word: bytes = b"x") -> None:
    """Never silent for long, never done."""
    deadline = time.monotonic() + 5
    try:
        while time.monotonic() < deadline:
            client.sendall(word)
            time.sleep(0.02)
    except OSError:
        return


def test_fifty_megabytes_are_refused_and_not_kept() -> None:
    terms = ListenerConfig(name="mx.test", max_bytes=10_000_000, kept_bytes=1_000)
    mailroom = ScriptedMailroom()
    with listening(mailroom, terms=terms) as house, smtplib.SMTP("127.0.0.1", house.port, timeout=20) as client:
        with pytest.raises(smtplib.SMTPSenderRefused) as declared:
            client.sendmail("", [OURS], "x" * 50_000_000)
        assert declared.value.smtp_code == 552
        client.helo()  # and does not say the size
        client.esmtp_features.clear()
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("", [OURS], ("x" * 997 + "\r\n") * 50_000)
        assert refused.value.smtp_code == 552
    assert mailroom.groups == []


def test_who_hangs_up_while_a_mail_is_opened_disturbs_nobody() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def happens(mails: Sequence[InboundMail]) -> None:
        begun.set()
        go_on.wait(10)

    with listening(ScriptedMailroom(happens)) as house:
        with connected(house.port) as client:
            client.sendall(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<%b>\r\nDATA\r\nx\r\n.\r\n" % OURS.encode())
            assert begun.wait(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        go_on.set()
        until(lambda: not house.listener.connections, "it to be noticed")
        assert send(house.port) == {}


def test_a_mail_that_is_whole_is_answered_when_the_process_is_told_to_stop() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def happens(mails: Sequence[InboundMail]) -> None:
        begun.set()
        go_on.wait(10)

    mailroom = ScriptedMailroom(happens)
    with listening(mailroom) as house, connected(house.port) as waiting, connected(house.port) as idle:
        waiting.sendall(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<%b>\r\nDATA\r\nx\r\n.\r\n" % OURS.encode())
        assert begun.wait(10)
        stopping = threading.Thread(target=house.stop)
        stopping.start()
        assert heard(idle).endswith(b"421 4.3.2 Closing: come again in a moment\r\n")
        go_on.set()
        assert heard(waiting).endswith(b"250 2.0.0 Ok\r\n421 4.3.2 Closing: come again in a moment\r\n")
        stopping.join(10)
    assert len(mailroom.mails) == 1


def test_the_next_process_goes_on_at_the_same_door() -> None:
    """Who comes in between waits in the line of the socket, which the parent holds."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        for _ in range(2):
            with ExitStack() as stack:
                house = stack.enter_context(listening(ScriptedMailroom(), door=door.dup()))
                assert house.port == port
                assert send(port) == {}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_starttls_is_offered_with_a_certificate(certificate: tuple[Path, Path]) -> None:
    mailroom = ScriptedMailroom()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certificate)
    ours = ssl.create_default_context(cafile=certificate[0])
    with listening(mailroom, tls=theirs) as house, smtplib.SMTP("localhost", house.port, timeout=10) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=ours)
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.sendmail("", [OURS], MAIL * 1_000) == {}
    assert len(mailroom.mails) == 1


def test_who_is_silent_under_tls_is_sent_away_too(certificate: tuple[Path, Path]) -> None:
    offering = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    offering.load_cert_chain(*certificate)
    with (
        listening(ScriptedMailroom(), tls=offering, limits=ListenerLimits(silence_s=0.5)) as house,
        smtplib.SMTP("127.0.0.1", house.port, timeout=10) as client,
    ):
        client.starttls(context=ssl.create_default_context(cafile=str(certificate[0])))
        assert client.sock is not None
        assert b"421 4.4.2" in heard(client.sock)


def test_a_handshake_that_fails_leaves_nothing_behind(certificate: tuple[Path, Path]) -> None:
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*certificate)
    with listening(ScriptedMailroom(), tls=theirs) as house:
        with connected(house.port) as client:
            client.sendall(b"EHLO me\r\nSTARTTLS\r\n")
            until(lambda: b"220 2.0.0" in client.recv(1_000), "the go-ahead")
            client.sendall(b"this is no handshake\r\n")
            heard(client)
        until(lambda: not house.listener.connections, "the connection to be forgotten")
        assert send(house.port) == {}


def test_the_reference_tells_the_limits_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "inbound-mail.md").read_text("utf-8")
    limits = ListenerLimits()
    for words in (
        f"up to {MAX_BYTES // 1024 // 1024} MB",
        f"the first {MAX_PARSED_BYTES // 1024} KB are kept and read; {MAX_RECIPIENTS} recipients; done within {limits.mail_s / 60:.0f} minutes",
        f"{limits.silence_s / 60:.0f} minutes of silence, {MAX_MAILS:,} mails, {MAX_MISTAKES} mistakes, commands of {MAX_LINE:,} bytes",
        f"{MAX_COMMANDS} commands and {limits.idle_s / 60:.0f} minutes from one mail to the next",
        f"{limits.connections} in all, {limits.per_address} from one address",
        f"up to {MAX_PER_SESSION} mails at a time",
        f"at least every {MAX_WAIT_S / 60:.0f} minutes",
        *(f"`{role}`" for role in ROLES),
    ):
        assert words in page
