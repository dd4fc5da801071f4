"""A reading as an event: the same report is the same event, and only what a report says happens."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.events.bounce_parser import event_from_report, parse_report
from postroom.model.event import BounceType, Event, EventKind
from postroom.model.ids import Key
from postroom.model.tokens import MessageRef

MAILS = Path(__file__).parents[1] / "data" / "bounces"
REF = MessageRef(1, "2345672345672345", 7, Key(bytes(12)), 2)
SENT = Instant(int(datetime(2026, 1, 2, 10, 0, 1, tzinfo=UTC).timestamp() * 1000))
AT = Instant(SENT + 60_000)


def event(name: str, *, at: Instant = AT, ref: MessageRef = REF, change: tuple[str, str] = ("", "")) -> Event | None:
    old, new = (each.encode() for each in change)
    return event_from_report(parse_report((MAILS / f"{name}.eml").read_bytes().replace(old, new, 1)), ref, at=at)


@pytest.mark.parametrize(
    ("name", "kind", "source"),
    [
        ("postfix", EventKind.BOUNCED, "dsn"),
        ("qmail", EventKind.BOUNCED, "dsn"),
        ("postfix-delayed", EventKind.DELAYED, "dsn"),
        ("delivered", EventKind.DELIVERED, "dsn"),
        ("relayed", EventKind.DELIVERED, "dsn"),
        ("arf-abuse", EventKind.COMPLAINED, "arf"),
        ("arf-fraud", EventKind.COMPLAINED, "arf"),
        ("hotmail-complaint", EventKind.COMPLAINED, "arf"),
        ("arf-opt-out", EventKind.UNSUBSCRIBED, "arf"),
    ],
)
def test_what_happened(name: str, kind: EventKind, source: str) -> None:
    made = event(name)
    assert made is not None
    assert (made.kind, made.source, made.attempt) == (kind, source, 2)
    assert made.raw


@pytest.mark.parametrize("name", ["arf-not-spam", "arf-auth-failure", "receipt", "left-the-company", "boxbe", "person", "spam"])
def test_nothing_happened(name: str) -> None:
    assert event(name) is None


def test_the_same_report_is_the_same_event_however_it_travelled() -> None:
    first = event("postfix")
    again = event("postfix", at=Instant(AT + 99_000), change=("Return-Path: <>", "Received: from elsewhere\nReturn-Path: <>"))
    assert first is not None
    assert again is not None
    assert first.id == again.id
    assert len(first.id) <= 100


def test_a_report_without_an_id_is_known_by_its_words() -> None:
    without = ("Message-ID: <1@mx.example.net>\n", "")
    first, other = event("qmail", change=without), event("exim", change=without)
    again = event("qmail", change=without)
    assert first is not None
    assert other is not None
    assert first == again
    assert first.id != other.id


def test_different_reports_and_attempts_are_different_events() -> None:
    made = [event("postfix"), event("postfix", change=("<1@mx", "<2@mx")), event("postfix", ref=REF._replace(attempt=3))]
    assert len({each.id for each in made if each}) == 3


def test_the_reporters_clock_is_believed_within_reason() -> None:
    assert [getattr(event("postfix", at=at), "at", None) for at in (AT, Instant(SENT - 1), Instant(SENT + 8 * 86_400_000))] == [
        SENT,
        SENT - 1,
        SENT + 8 * 86_400_000,
    ]


def test_a_forward_that_failed_in_part_is_no_bounce_of_the_address() -> None:
    """`expanded` or `delivered` for one recipient of a report: the address we wrote to works."""
    made = event(
        "postfix", change=("Remote-MTA:", "\nFinal-Recipient: rfc822; b@c.example\nAction: delivered\nStatus: 2.0.0\nRemote-MTA:")
    )
    assert made is not None
    assert made.kind is EventKind.DELIVERED
    assert made.bounce is None


def test_a_bounce_says_how_lasting_it_is() -> None:
    hard, soft = event("postfix"), event("sendmail")
    assert hard is not None
    assert hard.bounce is not None
    assert hard.bounce.type is BounceType.HARD
    assert hard.detail.startswith("550 5.1.1")
    assert soft is not None
    assert soft.bounce is not None
    assert soft.bounce.type is BounceType.SOFT
