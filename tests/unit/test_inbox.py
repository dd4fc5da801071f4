"""The built-in inbox: 250 only for what is stored, every error a reply the sender understands, newest first."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound, PostroomError, StorageFull, TooLarge, Unavailable
from postroom.model.ids import inbox_object_key, is_mail_id, mail_id_from, new_mail_id
from postroom.platform.mail.inbox import Inbox, InboxAddress
from postroom.platform.ports.objects import ObjectInfo, ObjectPage
from postroom.services.inbox import InboxService
from tests.fakes.clock import START, ManualClock

MAIL = b"From: Shop <shop@a.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHello\r\n..dot\r\n"


class ScriptedObjects:
    """Just what the inbox and its reader use, in memory, failing and waiting as told."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._stored: dict[str, tuple[bytes, Instant]] = {}
        self.fails: PostroomError | None = None
        self.may_store = threading.Event()
        self.may_store.set()
        self.storing = threading.Event()

    def put(self, key: str, content: bytes, *, content_type: str) -> None:
        self.storing.set()
        assert self.may_store.wait(10)
        if self.fails is not None:
            raise self.fails
        assert content_type == "message/rfc822"
        self._stored[key] = (content, self._clock.now())

    def get(self, key: str) -> bytes:
        return self._stored[key][0]

    def read(self, key: str, start: int, length: int) -> bytes:
        return self._stored[key][0][start : start + length]

    def info(self, key: str) -> ObjectInfo | None:
        if key not in self._stored:
            return None
        content, at = self._stored[key]
        return ObjectInfo(key, "1", len(content), "", "message/rfc822", at)

    def list(self, prefix: str, *, cursor: str | None, limit: int) -> ObjectPage:
        keys = [key for key in sorted(self._stored) if key.startswith(prefix) and key > (cursor or "")]
        infos = [info for key in keys[:limit] if (info := self.info(key)) is not None]
        return ObjectPage(infos, keys[limit - 1] if len(keys) > limit else None)


class Box:
    """An inbox at work."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.objects = ScriptedObjects(self.clock)
        self.inbox = Inbox(self.objects, self.clock)  # type: ignore[arg-type]
        self.reader = InboxService(self.objects)  # type: ignore[arg-type]
        self.address: InboxAddress = self.inbox.start()

    def send(self, to: str = "anna@b.example", content: bytes = MAIL, options: tuple[str, ...] = ()) -> tuple[int, bytes]:
        with smtplib.SMTP(self.address.host, self.address.port, timeout=10) as client:
            client.ehlo("client.example")
            assert client.mail("bounce@a.example", options)[0] == 250
            assert client.rcpt(to)[0] == 250
            return client.data(content)


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    yield box
    box.objects.may_store.set()
    box.inbox.stop()


@contextmanager
def connected(address: InboxAddress) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=10) as connection:
        yield connection


def read_replies(connection: socket.socket, count: int) -> list[bytes]:
    """The last line of each of `count` replies."""
    stream = connection.makefile("rb")
    replies: list[bytes] = []
    while len(replies) < count:
        line = stream.readline()
        assert line, replies
        if line[3:4] == b" ":
            replies.append(line.rstrip())
    return replies


def test_a_mail_is_kept_with_its_envelope_and_unchanged(box: Box) -> None:
    code, reply = box.send()
    (mail,) = box.reader.list().mails
    assert code == 250
    assert reply.decode().endswith(mail.id)
    assert (mail.from_, mail.to, mail.subject) == ("Shop <shop@a.example>", ("anna@b.example",), "Grüße")
    raw = box.reader.raw(mail.id)
    assert raw.endswith(MAIL)
    assert raw.startswith(b"Return-Path: <bounce@a.example>\r\nDelivered-To: anna@b.example\r\nReceived: from client.example")
    assert mail.size == len(raw)


def test_show_gives_headers_and_text(box: Box) -> None:
    box.send(content=b"Subject: x\r\nContent-Type: text/plain; charset=nonsense\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n")
    shown = box.reader.show(box.reader.list().mails[0].id)
    assert ("Subject", "x") in shown.headers
    assert shown.text.strip() == "Grüße"


def test_show_prefers_the_text_part_and_names_attachments(box: Box) -> None:
    parts = "--b\r\nContent-Type: {}\r\n{}\r\n{}\r\n"
    box.send(
        content=(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            + parts.format("text/plain", "", "the text")
            + parts.format("application/pdf", 'Content-Disposition: attachment; filename="bill.pdf"\r\n', "x")
            + "--b--\r\n"
        ).encode()
    )
    shown = box.reader.show(box.reader.list().mails[0].id)
    assert shown.text.strip() == "the text"
    assert shown.attachments == ("bill.pdf",)


def test_one_hostile_mail_hides_no_other(box: Box) -> None:
    box.send()
    box.clock.advance(1)
    box.send(content=b"From: <a@[\r\nSubject: =?utf-8?b?!?=\r\nContent-Type: text/plain; charset*=a'b'c\r\n\r\nboo\r\n")
    hostile, good = box.reader.list().mails
    assert (hostile.from_, good.from_) == ("<a@[", "Shop <shop@a.example>")
    assert box.reader.show(hostile.id).text.strip() == "boo"


def test_the_list_is_newest_first_and_pages(box: Box) -> None:
    for number in range(5):
        box.send(content=b"Subject: %d\r\n\r\nx\r\n" % number)
        box.clock.advance(1)
    first = box.reader.list(limit=3)
    rest = box.reader.list(limit=3, cursor=first.cursor)
    assert [mail.subject for mail in (*first.mails, *rest.mails)] == ["4", "3", "2", "1", "0"]
    assert rest.cursor is None


def test_what_is_not_there_is_not_found(box: Box) -> None:
    with pytest.raises(NotFound):
        box.reader.show(new_mail_id(START, bytes(5)))
    with pytest.raises(Invalid):
        box.reader.raw("../../control.db")


@pytest.mark.parametrize(
    ("error", "code"), [(StorageFull("the disk is full"), 452), (Unavailable("no answer"), 451), (TooLarge("too large"), 554)]
)
def test_what_cannot_be_stored_is_refused_and_the_next_is_taken(box: Box, error: PostroomError, code: int) -> None:
    box.objects.fails = error
    got, reply = box.send()
    assert got == code
    assert str(error).encode() in reply
    assert box.reader.list().mails == []
    box.objects.fails = None
    assert box.send()[0] == 250


def test_a_group_of_pipelined_mails_is_answered_in_order(box: Box) -> None:
    with connected(box.address) as connection:
        connection.sendall(b"EHLO c\r\n")
        assert read_replies(connection, 2)[1].startswith(b"250 ")
        connection.sendall(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
        assert [reply[:3] for reply in read_replies(connection, 3)] == [b"250", b"250", b"354"]
        connection.sendall(b"one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@b.example>\r\nDATA\r\n")
        assert [reply[:3] for reply in read_replies(connection, 4)] == [b"250", b"250", b"250", b"354"]
        connection.sendall(b"two\r\n.\r\nQUIT\r\n")
        assert [reply[:3] for reply in read_replies(connection, 2)] == [b"250", b"221"]
    assert {mail.to for mail in box.reader.list().mails} == {("b@b.example",), ("c@b.example",)}


def test_it_offers_what_senders_look_for(box: Box) -> None:
    with smtplib.SMTP(box.address.host, box.address.port, timeout=10) as client:
        client.ehlo()
        assert all(client.has_extn(name) for name in ("pipelining", "8bitmime", "smtputf8", "size", "enhancedstatuscodes"))


def test_addresses_beyond_ascii_are_kept(box: Box) -> None:
    with connected(box.address) as connection:
        connection.sendall(
            "EHLO c\r\nMAIL FROM:<ä@a.example> SMTPUTF8\r\nRCPT TO:<grüße@b.example>\r\nDATA\r\nx\r\n.\r\n".encode()
        )
        assert [reply[:3] for reply in read_replies(connection, 6)][-1] == b"250"
    assert box.reader.list().mails[0].to == ("grüße@b.example",)


def test_stop_answers_for_what_it_was_storing(box: Box) -> None:
    """A sender that waits for the answer to its final dot gets it: nothing stored stays unanswered."""
    box.objects.may_store.clear()
    replies: list[tuple[int, bytes]] = []
    sender = threading.Thread(target=lambda: replies.append(box.send()))
    sender.start()
    assert box.objects.storing.wait(10)
    stopper = threading.Thread(target=box.inbox.stop)
    stopper.start()
    box.objects.may_store.set()
    stopper.join(10)
    sender.join(10)
    assert [code for code, _ in replies] == [250]
    assert len(box.reader.list().mails) == 1


def test_stop_leaves_nobody_listening_and_may_be_repeated(box: Box) -> None:
    with connected(box.address) as idle:
        box.inbox.stop()
        box.inbox.stop()
        idle.settimeout(10)
        while idle.recv(1_000):
            pass
    with pytest.raises(ConnectionRefusedError), connected(box.address):
        pass


def test_it_may_start_anew_where_it_was(box: Box) -> None:
    box.send()
    box.inbox.stop()
    assert box.inbox.start(box.address.host, box.address.port) == box.address
    assert box.send()[0] == 250
    assert len(box.reader.list().mails) == 2


def test_a_port_that_is_taken_is_a_clear_error(box: Box) -> None:
    with pytest.raises(Unavailable, match=str(box.address.port)):
        Inbox(box.objects, box.clock).start(box.address.host, box.address.port)  # type: ignore[arg-type]


def test_ids_sort_newest_first_and_survive_the_key() -> None:
    older, newer = new_mail_id(START, b"\xff" * 5), new_mail_id(Instant(START + 1), bytes(5))
    assert newer < older
    assert is_mail_id(newer)
    assert not is_mail_id("../x")
    assert mail_id_from(inbox_object_key(newer)) == newer
