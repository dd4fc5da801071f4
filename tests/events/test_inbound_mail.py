"""The mailroom believes a mail of the message whose token it carries, and nothing else of anything."""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound, PostroomError, Unavailable
from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
from postroom.events.inbound_mail import InboundMailProcessor
from postroom.ledger.inbound_events import InboundEvent
from postroom.model.event import BounceType, Event, EventKind
from postroom.model.ids import Key, encode
from postroom.model.inbound_mail import InboundMail, MailVerdict
from postroom.model.stream import stream_ref
from postroom.model.tenant import Tenant
from postroom.model.tokens import MAX_ATTEMPT, TokenSealer, parse_unsubscribe_token
from postroom.platform.mail.listener import ListenerLimits
from postroom.platform.mail.listener_session import ListenerConfig
from tests.events.test_bounce_hostile import BOMBS
from tests.fakes.clock import ManualClock
from tests.fakes.listening import listening
from tests.fakes.returned import complaint, dsn, out_of_office, wish

DOMAIN = "bounces.shop.example"
CAMPAIGN = encode(2**79 + 98765, 16)
KEY = Key(b"0123456789ab")
TENANT = Tenant("shop", 7, bytes(range(32)))
SEALER = TokenSealer(TENANT, CAMPAIGN, topic="news")
TOKEN = SEALER.return_path(5, KEY, 2)
RETURN_PATH = f"{TOKEN}@{DOMAIN}"
WISH = SEALER.unsubscribe(KEY)
FORGED = TokenSealer(Tenant("evil", 7, bytes(32)), CAMPAIGN, topic="news")
BOUNCES = Path(__file__).parents[1] / "data" / "bounces"
AT_ONCE = ListenerLimits().per_address // 2


def secret_of(number: int) -> bytes:
    if number != TENANT.number:
        raise NotFound(f"no tenant has the number {number}")
    return TENANT.secret


class ScriptedUnsubscribes:
    """Keeps what was wished, in order; knows the token by heart."""

    def __init__(self) -> None:
        self.said: list[tuple[Key, str | None, bool | None]] = []
        self.error: PostroomError | None = None

    def unsubscribe(self, token_text: str, *, everything: bool | None = None) -> object:
        token = parse_unsubscribe_token(token_text, secret_of)
        if self.error is not None:
            raise self.error
        self.said.append((token.key, token.topic, everything))
        return None


class Line:
    """What was put, and whether that works."""

    def __init__(self) -> None:
        self.put_together: list[list[InboundEvent]] = []
        self.down = False

    def put(self, arrivals: Sequence[InboundEvent]) -> None:
        if self.down:
            raise Unavailable("the queue does not answer")
        self.put_together.append(list(arrivals))


class InboundSetup:
    """A mailroom and what came of it."""

    def __init__(self, domain: str | None = DOMAIN) -> None:
        self.line, self.wishes, self.clock = Line(), ScriptedUnsubscribes(), ManualClock()
        self.mailroom = InboundMailProcessor(
            self.line,  # type: ignore[arg-type]  # of arrivals it only puts
            self.wishes,
            secret_of=secret_of,
            domain=domain,
            clock=self.clock,
        )

    def take(self, content: bytes, *recipients: str) -> MailVerdict:
        (verdict,) = self.mailroom.process([InboundMail(recipients, content)])
        return verdict

    @property
    def arrivals(self) -> list[InboundEvent]:
        return [arrival for put in self.line.put_together for arrival in put]

    def event(self) -> Event:
        (arrival,) = self.arrivals
        assert (arrival.tenant, arrival.campaign, arrival.key) == (7, CAMPAIGN, KEY)
        return arrival.event


def original(sealer: TokenSealer = SEALER, *, links: bool = True, message_id: str = "") -> bytes:
    """A mail of ours as it was delivered."""
    body = f"<img src=3D'https://m.example/t/o/{sealer.recipient(5, KEY, 2)}'>" if links else "Hello"
    leave = f"List-Unsubscribe: <https://m.example/u/{sealer.unsubscribe(KEY)}>\r\n"
    return f"From: news@shop.example\r\nTo: a@example.com\r\nMessage-ID: {message_id}\r\n{leave}\r\n{body}\r\n".encode()


@pytest.mark.parametrize("local_part", [TOKEN, TOKEN.upper(), "fbl", "Abuse", "postmaster", "unsubscribe", f"unsubscribe+{WISH}"])
def test_mail_is_taken_for_what_is_ours(local_part: str) -> None:
    assert InboundSetup().mailroom.accepts(f"{local_part}@{DOMAIN.upper()}")


@pytest.mark.parametrize(
    "address",
    [
        f"{FORGED.return_path(5, KEY, 2)}@{DOMAIN}",
        f"{TOKEN[:-1]}{'3' if TOKEN[-1] == '2' else '2'}@{DOMAIN}",
        f"{TokenSealer(Tenant('other', 8, bytes(32)), CAMPAIGN).return_path(1, KEY, 1)}@{DOMAIN}",
        f"unsubscribe+{FORGED.unsubscribe(KEY)}@{DOMAIN}",
        f"{TOKEN}@elsewhere.example",
        "postmaster@elsewhere.example",
        f"info@{DOMAIN}",
        f"{'é' * 60}@{DOMAIN}",
        f"@{DOMAIN}",
        "",
        TOKEN,
    ],
)
def test_mail_is_refused_for_what_is_not(address: str) -> None:
    assert not InboundSetup().mailroom.accepts(address)


def test_without_a_domain_no_address_is_ours() -> None:
    assert not InboundSetup(None).mailroom.accepts(RETURN_PATH)


def test_a_report_to_a_return_path_is_about_its_message() -> None:
    setup = InboundSetup()
    assert setup.take(dsn(RETURN_PATH, "a@example.com"), RETURN_PATH) is MailVerdict.NOTED
    event = setup.event()
    assert (event.kind, event.attempt, event.source) == (EventKind.BOUNCED, 2, "dsn")
    assert event.bounce is not None
    assert event.bounce.type is BounceType.HARD
    assert setup.arrivals[0].batch == 5


def test_the_same_report_makes_the_same_event() -> None:
    setup, mail = InboundSetup(), dsn(RETURN_PATH, "a@example.com")
    setup.take(mail, RETURN_PATH)
    setup.clock.advance(3_600)
    setup.take(mail, RETURN_PATH)
    first, second = setup.arrivals
    assert first.event.id == second.event.id


@pytest.mark.parametrize("name", ["postfix", "gmail", "exim", "arf-abuse", "qmail", "arf-opt-out"])
def test_a_report_without_a_token_changes_nothing(name: str) -> None:
    """Whatever it says, and to whatever address of ours it came."""
    setup = InboundSetup()
    for recipient in (f"fbl@{DOMAIN}", f"{FORGED.return_path(5, KEY, 2)}@{DOMAIN}", "a@b.example"):
        assert setup.take((BOUNCES / f"{name}.eml").read_bytes(), recipient) is MailVerdict.STRANGE
    assert setup.arrivals == []
    assert setup.wishes.said == []


def test_a_forged_token_in_a_report_changes_nothing() -> None:
    setup = InboundSetup()
    for mail in (complaint("x", original(FORGED)), dsn("x", "a@example.com", original=original(FORGED))):
        assert setup.take(mail, f"fbl@{DOMAIN}") is MailVerdict.STRANGE
    assert (setup.arrivals, setup.wishes.said) == ([], [])


def test_a_complaint_is_found_by_the_return_path_in_what_it_returns() -> None:
    setup = InboundSetup()
    returned = f"Return-Path: <{RETURN_PATH}>\r\n".encode() + original(FORGED)
    assert setup.take(complaint("fbl", returned), f"fbl@{DOMAIN}") is MailVerdict.NOTED
    assert (setup.event().kind, setup.event().attempt) == (EventKind.COMPLAINED, 2)


def test_a_complaint_is_found_by_a_link_in_what_it_returns() -> None:
    setup = InboundSetup()
    assert setup.take(complaint("fbl", original()), f"abuse@{DOMAIN}") is MailVerdict.NOTED
    assert (setup.event().kind, setup.event().attempt, setup.arrivals[0].batch) == (EventKind.COMPLAINED, 2, 5)


@pytest.mark.parametrize(
    ("message_id", "attempt"),
    [
        (f"<{CAMPAIGN}.{KEY.hex()}.3@shop.example>", 3),
        (f"<{CAMPAIGN}.{KEY.hex()}.99@shop.example>", MAX_ATTEMPT),
        (f"<{CAMPAIGN}.{bytes(12).hex()}.3@shop.example>", MAX_ATTEMPT),
        (f"<{CAMPAIGN}.{KEY.hex()}.²@shop.example>", MAX_ATTEMPT),
        ("", MAX_ATTEMPT),
    ],
)
def test_a_complaint_is_found_by_the_unsubscribe_link_alone(message_id: str, attempt: int) -> None:
    """Loops redact return paths and links. The Message-ID tells the attempt where it is this message's."""
    setup = InboundSetup()
    mail = complaint("fbl", original(links=False, message_id=message_id))
    assert setup.take(mail, f"fbl@{DOMAIN}") is MailVerdict.NOTED
    assert (setup.event().kind, setup.event().attempt, setup.arrivals[0].batch) == (EventKind.COMPLAINED, attempt, None)


def test_a_complaint_about_a_single_message_known_only_by_its_person_ends_all_mail_to_them() -> None:
    setup, stream = InboundSetup(), stream_ref(TENANT, 20_000).campaign
    returned = original(TokenSealer(TENANT, stream, topic="news"), links=False)
    assert setup.take(complaint("fbl", returned), f"fbl@{DOMAIN}") is MailVerdict.NOTED
    assert setup.wishes.said == [(KEY, "news", True)]
    assert setup.arrivals == []


def test_the_address_a_report_came_to_outranks_what_it_returns() -> None:
    setup = InboundSetup()
    other = original(TokenSealer(TENANT, encode(2**79 + 1, 16)))
    setup.take(dsn(RETURN_PATH, "a@example.com", original=other), RETURN_PATH)
    assert setup.event().kind is EventKind.BOUNCED


@pytest.mark.parametrize(
    ("recipient", "subject"),
    [
        (f"unsubscribe@{DOMAIN}", f"unsubscribe {WISH}"),
        (f"unsubscribe+{WISH}@{DOMAIN}", "anything"),
        (RETURN_PATH, f"unsubscribe {WISH}"),
    ],
)
def test_a_wish_with_a_token_is_on_the_list_before_the_answer(recipient: str, subject: str) -> None:
    setup = InboundSetup()
    assert setup.take(wish(recipient, "a@example.com", subject), recipient) is MailVerdict.NOTED
    assert setup.wishes.said == [(KEY, "news", None)]
    assert setup.arrivals == [], "the event is made where the list is"


@pytest.mark.parametrize("subject", ["unsubscribe", f"unsubscribe {FORGED.unsubscribe(KEY)}", f"unsubscribe {WISH[:-1]}"])
def test_a_wish_without_a_token_of_ours_changes_nothing(subject: str) -> None:
    setup = InboundSetup()
    assert setup.take(wish("u", "victim@example.com", subject), f"unsubscribe@{DOMAIN}") is MailVerdict.STRANGE
    assert (setup.arrivals, setup.wishes.said) == ([], [])


def test_a_wish_written_to_a_return_path_is_the_recipient_s() -> None:
    """Its source is not that of wishes whose entry exists: the worker makes it."""
    setup = InboundSetup()
    assert setup.take(wish(RETURN_PATH, "a@example.com", "unsubscribe"), RETURN_PATH) is MailVerdict.NOTED
    assert (setup.event().kind, setup.event().source) == (EventKind.UNSUBSCRIBED, "mail")


@pytest.mark.parametrize("name", ["vacation-postfix-admin", "receipt", "boxbe"])
def test_machines_that_answer_for_people_change_nothing(name: str) -> None:
    setup = InboundSetup()
    assert setup.take((BOUNCES / f"{name}.eml").read_bytes(), RETURN_PATH) is MailVerdict.NOTHING
    assert setup.take(out_of_office(RETURN_PATH, "a@example.com"), RETURN_PATH) is MailVerdict.NOTHING
    assert setup.arrivals == []


def test_a_person_s_words_to_a_return_path_are_nothing_of_ours() -> None:
    setup = InboundSetup()
    assert setup.take((BOUNCES / "person.eml").read_bytes(), RETURN_PATH) is MailVerdict.STRANGE


def test_what_comes_together_is_stored_together() -> None:
    setup = InboundSetup()
    mails = [InboundMail((RETURN_PATH,), dsn(RETURN_PATH, "a@example.com")) for _ in range(3)]
    mails.insert(1, InboundMail((RETURN_PATH,), out_of_office(RETURN_PATH, "a@example.com")))
    assert setup.mailroom.process(mails) == [MailVerdict.NOTED, MailVerdict.NOTHING, MailVerdict.NOTED, MailVerdict.NOTED]
    assert [len(put) for put in setup.line.put_together] == [3]


def test_each_recipient_of_a_mail_is_told_of_once() -> None:
    setup = InboundSetup()
    other = f"{SEALER.return_path(1, Key(bytes(12)), 1)}@{DOMAIN}"
    assert setup.take(dsn(RETURN_PATH, "a@example.com"), RETURN_PATH, other, RETURN_PATH) is MailVerdict.NOTED
    assert [arrival.key for arrival in setup.arrivals] == [KEY, Key(bytes(12))]


def test_a_store_that_does_not_answer_is_said() -> None:
    setup = InboundSetup()
    setup.line.down = True
    with pytest.raises(Unavailable):
        setup.take(dsn(RETURN_PATH, "a@example.com"), RETURN_PATH)


def test_a_reporter_s_clock_is_believed_within_reason() -> None:
    setup = InboundSetup()
    setup.take(dsn(RETURN_PATH, "a@example.com").replace(b"Date: ", b"Date: Tue, 1 Jan 2999 00:00:00 +0000\r\nX: "), RETURN_PATH)
    assert setup.event().at == Instant(setup.clock.now())


def test_what_came_in_is_counted_in_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    setup = InboundSetup()
    for _ in range(50):
        setup.take(b"Subject: spam\r\n\r\nbuy", RETURN_PATH)
    assert caplog.records == []
    setup.clock.advance(61)
    setup.take(dsn(RETURN_PATH, "a@example.com"), RETURN_PATH)
    assert [record.message for record in caplog.records] == ["inbound_mail.processed noted=1 strange=50"]


def test_no_token_of_one_kind_passes_for_another() -> None:
    with pytest.raises(Invalid):
        parse_unsubscribe_token(SEALER.recipient(5, KEY, 2), secret_of)


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_hostile_mail_changes_nothing(name: str) -> None:
    """But for the message whose return path it came to; and not even there is it a complaint or a wish."""
    setup = InboundSetup()
    for recipient in (RETURN_PATH, f"fbl@{DOMAIN}", f"unsubscribe@{DOMAIN}"):
        setup.take(BOMBS[name][:MAX_PARSED_BYTES], recipient)
    assert setup.wishes.said == []
    assert all(arrival.key == KEY for arrival in setup.arrivals)
    assert not [arrival for arrival in setup.arrivals if arrival.event.kind is EventKind.COMPLAINED]


def test_good_mail_is_taken_beside_hostile_mail() -> None:
    """Much of it at once, at a listener: the good one waits for a second or so, not for ever."""
    setup = InboundSetup()
    terms = ListenerConfig(name="mx.test", max_bytes=10_000_000, kept_bytes=MAX_PARSED_BYTES)
    with listening(setup.mailroom, terms=terms) as house:
        bombs = [content[:MAX_PARSED_BYTES] for name, content in sorted(BOMBS.items()) if not name.startswith("50 MB")]
        with ThreadPoolExecutor(AT_ONCE) as crowd:
            brought = [crowd.submit(bring, house.port, content) for content in bombs]
            assert bring(house.port, dsn(RETURN_PATH, "a@example.com")) == {}
            for each in brought:
                each.result()
    assert EventKind.BOUNCED in [arrival.event.kind for arrival in setup.arrivals]


def bring(port: int, content: bytes) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP("127.0.0.1", port, timeout=120) as client:
        return client.sendmail("", [RETURN_PATH], content)
