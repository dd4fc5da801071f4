"""Mail that came back to a mailbox is taken once, removed only then, and what is not ours is left alone."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import pytest

from postroom.errors import Conflict, Corrupt, Invalid, PostroomError, StorageFull, Unavailable
from postroom.events.mailbox_poller import MAX_TRIES, MailboxPoller
from postroom.model.inbound_mail import InboundMail, MailVerdict
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.mail.mailbox import Mailbox
from postroom.platform.mail.mailbox_url import Security, parse_mailbox
from tests.events.test_inbound_mail import BOUNCES, FORGED, RETURN_PATH, WISH, InboundSetup, original
from tests.fakes.certificates import make_certificate
from tests.fakes.clock import ManualClock
from tests.fakes.mailbox_servers import PASSWORD, USER, Store, mailbox_server
from tests.fakes.returned import complaint, dsn, out_of_office, wish

OURS = b"Delivered-To: " + RETURN_PATH.encode() + b"\r\n"
LETTER = b"From: a person\r\nTo: post@shop.example\r\nSubject: lunch\r\n\r\nToday?\r\n"


def bounce() -> bytes:
    return OURS + dsn("x", "a@example.com")


class PollerSetup:
    """A mailbox and who looks into it; each `collecting` is a process of its own."""

    def __init__(self, root: Path, ending: ExitStack, protocol: str, store: Store, options: str = "") -> None:
        self.store, self.setup = store, InboundSetup()
        self._tables = SqliteTables(ending.enter_context(closing(open_control(root))), ManualClock())
        port = ending.enter_context(mailbox_server(protocol, store))
        self.config = parse_mailbox(f"{protocol}://{quote(USER)}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}?tls=none{options}")
        self.trouble: list[str] = []

    def collecting(self) -> MailboxPoller:
        mailbox = Mailbox(self.config, kept_bytes=20_000)
        return MailboxPoller(mailbox, self.setup.mailroom, self._tables, on_trouble=self.trouble.append)


Make = Callable[..., PollerSetup]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as ending:
        yield lambda protocol, store, options="": PollerSetup(tmp_path, ending, protocol, store, options)


both = pytest.mark.parametrize("protocol", ["imap", "pop3"])


@both
def test_what_is_ours_is_taken_and_removed_and_the_rest_is_left_unread(make: Make, protocol: str) -> None:
    made = make(protocol, Store())
    away, spam = OURS + out_of_office("x", "a@example.com"), (BOUNCES / "postfix.eml").read_bytes().replace(b"\n", b"\r\n")
    made.store.add(bounce(), LETTER, away, spam, complaint("x", original()), complaint("x", original(FORGED)))
    assert made.collecting().once() is False
    assert made.store.uids == [2, 4, 6]
    assert [arrival.event.kind for arrival in made.setup.arrivals] == ["bounced", "complained"]
    assert all(mail.flags == set() for mail in made.store.mails)


@both
def test_a_mail_that_is_left_is_read_once_in_its_life(make: Make, protocol: str) -> None:
    """Also by the process after the next."""
    made = make(protocol, Store())
    made.store.add(LETTER, LETTER)
    for _ in range(3):
        collecting = made.collecting()
        collecting.once()
        collecting.once()
    assert made.store.fetched == [1, 2]
    made.store.add(bounce())
    made.collecting().once()
    assert made.store.fetched == [1, 2, 3]


@both
def test_what_cannot_be_stored_stays_until_it_can(make: Make, protocol: str) -> None:
    made = make(protocol, Store())
    made.store.add(bounce())
    made.setup.line.down = True
    collecting = made.collecting()
    with pytest.raises(Unavailable):
        collecting.once()
    assert made.store.uids == [1]
    made.setup.line.down = False
    collecting.once()
    assert (made.store.uids, len(made.setup.arrivals)) == ([], 1)


@pytest.mark.parametrize(
    "error", [Conflict("busy"), Unavailable("no answer"), StorageFull("full")], ids=lambda error: type(error).__name__
)
def test_a_wish_that_cannot_be_kept_now_is_not_passed_over(make: Make, error: PostroomError) -> None:
    made = make("imap", Store())
    made.store.add(wish("x", "a@example.com", f"unsubscribe {WISH}"))
    made.setup.wishes.error = error
    collecting = made.collecting()
    with pytest.raises(type(error)):
        collecting.once()
    made.setup.wishes.error = None
    collecting.once()
    assert (made.store.uids, len(made.setup.wishes.said)) == ([], 1)


def test_a_mail_that_cannot_be_opened_is_left_and_holds_up_no_other(make: Make) -> None:
    made = make("imap", Store())
    made.store.add(bounce(), wish("x", "a@example.com", f"unsubscribe {WISH}"), bounce())
    made.setup.wishes.error = Corrupt("the entry cannot be read")
    made.collecting().once()
    assert made.store.uids == [2]
    assert len(made.setup.arrivals) == 2


def test_a_mail_that_shows_a_mistake_of_ours_is_left_too(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or whoever sends it could end the process, and do so again after each start."""
    made = make("imap", Store())
    made.store.add(bounce(), LETTER, bounce())
    take = made.setup.mailroom.process

    def mistaken(mails: Sequence[InboundMail]) -> list[MailVerdict]:
        if any(b"lunch" in mail.content for mail in mails):
            raise ValueError("a mistake")
        return take(mails)

    monkeypatch.setattr(made.setup.mailroom, "process", mistaken)
    assert made.collecting().once() is False
    assert made.store.uids == [2]
    assert len(made.setup.arrivals) == 2
    assert "mailbox.mail_skipped" in caplog.text
    assert made.collecting().once() is False
    assert made.store.fetched == [1, 2, 3]


@pytest.mark.parametrize(("protocol", "command"), [("imap", "STORE"), ("imap", "EXPUNGE"), ("pop3", "DELE"), ("pop3", "QUIT")])
def test_who_breaks_between_taking_and_removing_takes_again_and_makes_the_same_event(
    make: Make, protocol: str, command: str
) -> None:
    made = make(protocol, Store())
    made.store.add(bounce(), LETTER)
    made.store.faults[command] = "drop"
    with pytest.raises(Unavailable):
        made.collecting().once()
    made.store.faults.clear()
    made.collecting().once()
    assert made.store.uids == [2]
    assert 1 <= len(made.setup.arrivals) <= 2
    assert len({arrival.event.id for arrival in made.setup.arrivals}) == 1


@pytest.mark.parametrize(("protocol", "keywords"), [("imap", True), ("imap", False), ("pop3", True)])
def test_mail_that_is_to_be_kept_is_kept_and_taken_once(make: Make, protocol: str, keywords: bool) -> None:
    made = make(protocol, Store(keywords=keywords), "&keep=yes")
    made.store.add(bounce(), LETTER)
    for _ in range(2):
        made.collecting().once()
    assert made.store.uids == [1, 2]
    assert made.store.fetched == [1, 2]
    assert len(made.setup.arrivals) == 1
    assert [mail.flags for mail in made.store.mails] == [{"$PostroomRead"} if protocol == "imap" and keywords else set(), set()]


def test_without_uidplus_mail_is_marked_and_others_marks_are_respected(make: Make) -> None:
    made = make("imap", Store(uidplus=False))
    made.store.add(LETTER, bounce())
    made.store.mails[0].flags.add(r"\Deleted")
    made.collecting().once()
    assert [mail.flags for mail in made.store.mails] == [{r"\Deleted"}, {r"\Deleted"}]
    made.collecting().once()
    assert made.store.fetched == [2]


def test_a_server_that_numbers_its_mails_anew_is_read_anew(make: Make) -> None:
    made = make("imap", Store())
    made.store.add(LETTER)
    made.collecting().once()
    made.store.validity += 1
    made.collecting().once()
    assert made.store.fetched == [1, 1]


def test_of_a_large_mail_only_the_beginning_comes_by_imap(make: Make) -> None:
    made = make("imap", Store())
    made.store.add(bounce() + b"x" * 30_000_000)
    made.collecting().once()
    assert (made.store.uids, len(made.setup.arrivals)) == ([], 1)


def test_a_large_mail_is_left_and_skipped_by_pop3(make: Make) -> None:
    made = make("pop3", Store())
    made.store.add(bounce() + b"x\r\n" * 4_000_000, bounce())
    made.collecting().once()
    assert (made.store.uids, made.store.fetched) == ([1], [2])


def test_a_mail_that_breaks_the_connection_does_so_once(make: Make) -> None:
    """A line longer than POP3 allows."""
    made = make("pop3", Store())
    made.store.add(LETTER + b"x" * 5_000 + b"\r\n", bounce())
    with pytest.raises(Unavailable, match="too long"):
        made.collecting().once()
    made.collecting().once()
    assert (made.store.uids, made.store.fetched) == ([1], [1, 2])


@pytest.mark.parametrize(
    ("protocol", "command", "refusal"), [("imap", "FETCH", "NO it is damaged"), ("pop3", "RETR", "-ERR it is damaged")]
)
def test_a_mail_that_the_server_will_not_give_is_left_and_passed_over(
    make: Make, protocol: str, command: str, refusal: str
) -> None:
    made = make(protocol, Store())
    made.store.add(bounce())
    made.store.faults[command] = refusal
    made.collecting().once()
    made.store.faults.clear()
    made.store.add(bounce())
    made.collecting().once()
    assert (made.store.uids, made.store.fetched) == ([1], [2])


@pytest.mark.parametrize(
    ("protocol", "command", "fault"),
    [
        ("imap", "FETCH", "NO [UNAVAILABLE] later"),
        ("imap", "FETCH", "drop"),
        ("pop3", "RETR", "-ERR [SYS/TEMP] later"),
        ("pop3", "RETR", "drop"),
    ],
)
def test_a_mail_that_cannot_be_had_now_is_tried_again_some_times(make: Make, protocol: str, command: str, fault: str) -> None:
    made = make(protocol, Store())
    made.store.add(bounce())
    collecting = made.collecting()
    made.store.faults[command] = fault
    for _ in range(MAX_TRIES - 1):
        with pytest.raises(Unavailable):
            collecting.once()
    made.store.faults.clear()
    collecting.once()
    assert made.store.uids == []


def test_a_mail_on_which_the_mailbox_breaks_each_time_does_not_hold_up_the_others_for_ever(make: Make) -> None:
    made = make("imap", Store())
    made.store.add(bounce())
    collecting = made.collecting()
    made.store.faults["FETCH"] = "drop"
    for _ in range(MAX_TRIES):
        with pytest.raises(Unavailable):
            collecting.once()
    made.store.add(bounce())
    made.store.faults.clear()
    collecting.once()
    assert made.store.uids == [1]


def test_a_server_that_wants_to_send_too_much_is_not_listened_to(make: Make) -> None:
    made = make("imap", Store())
    made.store.faults["SEARCH"] = "{99999999}"
    with pytest.raises(Unavailable, match="99999999"):
        made.collecting().once()


@both
def test_a_password_that_is_refused_is_said_and_not_shown(make: Make, protocol: str) -> None:
    made = make(protocol, Store())
    made.store.faults["LOGIN" if protocol == "imap" else "PASS"] = "NO wrong" if protocol == "imap" else "-ERR wrong"
    with pytest.raises(Unavailable) as refused:
        made.collecting().once()
    assert "wrong" in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_many_mails_are_read_in_several_visits_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.events.mailbox_poller.MAX_PER_SESSION", 30)
    made = make("imap", Store())
    made.store.add(*(bounce() for _ in range(45)))
    collecting = made.collecting()
    assert (collecting.once(), len(made.store.uids)) == (True, 15)
    assert (collecting.once(), made.store.uids) == (False, [])
    assert len(made.setup.arrivals) == 45


class Stopped(threading.Event):
    """Counts the waits, and is set after some."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.waited: list[float | None] = []
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout)
        if len(self.waited) == self._waits:
            self.set()
        return self.is_set()


def test_it_looks_every_minute_and_less_often_while_the_mailbox_is_out_of_order(make: Make) -> None:
    made = make("imap", Store())
    made.store.faults["LOGIN"] = "NO later"
    stopped = Stopped(6)
    made.collecting().run(stopped)
    assert stopped.waited == [60, 120, 240, 480, 900, 900]
    assert len(made.trouble) == 6
    made.trouble.clear()
    collecting, stopped = made.collecting(), Stopped(2)
    original_wait = stopped.wait

    def wait(timeout: float | None = None) -> bool:
        made.store.faults.clear()
        return original_wait(timeout)

    stopped.wait = wait  # type: ignore[method-assign]  # the mailbox is well again while it waits
    collecting.run(stopped)
    assert stopped.waited == [60, 60]
    assert made.trouble[-1] == ""


@pytest.mark.parametrize(
    ("protocol", "immediate"), [("imap", True), ("imap", False), ("pop3", True), ("pop3", False)], ids=lambda value: str(value)
)
def test_the_password_goes_under_tls_to_who_proves_to_be_the_host(tmp_path: Path, protocol: str, immediate: bool) -> None:
    certificate, key = make_certificate(tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate, key)
    store = Store()
    store.add(LETTER)
    with mailbox_server(protocol, store, tls=theirs, immediate=immediate) as port:
        url = f"{protocol}{'s' if immediate else ''}://{quote(USER)}:{quote(PASSWORD, safe='')}@localhost:{port}"
        with pytest.raises(Unavailable, match="certificate"), Mailbox(parse_mailbox(url), kept_bytes=100).session():
            pass
        assert store.logins == 0
        trust = ssl.create_default_context(cafile=certificate)
        with Mailbox(parse_mailbox(url), kept_bytes=100, trust=trust).session() as session:
            assert [session.fetch(name) for name in session.names()] == [
                LETTER.removesuffix(b"\r\n") if protocol == "pop3" else LETTER
            ]
    assert store.secure


def test_a_mailbox_as_users_write_it() -> None:
    config = parse_mailbox("imaps://post%40shop.example:p%40ss@imap.example/Returned%20mail?keep=yes")
    assert (config.protocol, config.host, config.port, config.security) == ("imap", "imap.example", 993, Security.TLS)
    assert (config.user, config.password, config.folder, config.keep) == ("post@shop.example", "p@ss", "Returned mail", True)
    assert "p@ss" not in repr(config) + config.name
    assert parse_mailbox("pop3://a:b@h").port == 110
    assert parse_mailbox("imap://a:b@localhost?tls=none").security is Security.NONE


@pytest.mark.parametrize(
    "url",
    [
        "imaps://imap.example",
        "imaps://user@imap.example",
        "smtp://user:secret@imap.example",
        "imap://user:secret@imap.example?tls=none",
        "imap://user:secret@10.0.0.1?tls=none",
        "imaps://user:secret@localhost?tls=none",
        "imaps://user:secret@imap.example?tls=starttls",
        "imaps://user:secret@imap.example?verify=no",
        "imaps://user:secret@imap.example?keep=maybe",
        "imaps://user:secret@imap.example:99999",
        "imaps://user:secret%0d%0aA@imap.example",
        "imaps://user:secret@imap.example/a%0d%0ab",
        "pop3s://user:secret@pop.example/INBOX",
        "imaps://user:secret@imap.example/Gel%C3%B6scht",
    ],
)
def test_a_mailbox_that_cannot_be_meant_so_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_mailbox(url)
    assert "secret" not in str(refused.value)
