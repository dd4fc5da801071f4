"""Each notice of SES becomes events of the right message and the right recipient, the same ones however often it comes."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.events.ses.ses_event import RecipientEvent, parse_ses_event
from postroom.model.event import MAX_RAW, BounceClass, BounceType, EventKind, StatusRank, status_after
from postroom.model.ids import Key
from postroom.model.message import MessageStatus
from postroom.model.tokens import MessageRef, ses_tags
from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.fates import MAILBOXES, STEPS, Fates
from tests.fakes.ses_simulator.rules import Options

REF = MessageRef(7, "abcdefgh23456722", 12, Key(b"k" * 12), 3)
AT = 1_700_000_000.0


def message(recipient: str = "r@example.net") -> Accepted:
    content = b"From: a@example.com\r\nSubject: x\r\n\r\nx\r\n"
    return Accepted("0102-id", recipient, "a@example.com", "postroom", dict(ses_tags(REF)), content, 1, AT)


def read(document: dict[str, Any]) -> list[RecipientEvent]:
    return parse_ses_event(json.dumps(document))


def only(document: dict[str, Any]) -> RecipientEvent:
    (found,) = read(document)
    return found


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("send", EventKind.SENT),
        ("delivery", EventKind.DELIVERED),
        ("bounce", EventKind.BOUNCED),
        ("complaint", EventKind.COMPLAINED),
        ("delay", EventKind.DELAYED),
        ("reject", EventKind.REJECTED),
        ("rendering_failure", EventKind.REJECTED),
        ("open", EventKind.OPENED),
        ("click", EventKind.CLICKED),
        ("unsubscribe", EventKind.UNSUBSCRIBED),
        ("auto_reply", EventKind.DELIVERED),
        ("mailbox_full", EventKind.BOUNCED),
        ("suppressed", EventKind.BOUNCED),
        ("undetermined", EventKind.BOUNCED),
    ],
)
def test_every_kind_of_notice_is_one_word_of_ours(step: str, kind: EventKind) -> None:
    found = only(STEPS[step](message(), AT + 5))
    event = found.event
    assert (found.ref, found.recipient, found.ses_message_id) == (REF, "r@example.net", "0102-id")
    assert (event.kind, event.attempt, event.source) == (kind, 3, "ses")
    timed = step not in ("send", "reject", "rendering_failure")
    assert event.at == (AT + 5 if timed else AT) * 1000
    assert len(event.id) <= 100
    assert (event.bounce is not None) == (kind is EventKind.BOUNCED)
    assert ('"mail"' in event.raw) == (step not in ("send", "delivery")), "of these the event says all"


@pytest.mark.parametrize(
    ("type_", "subtype", "status", "lasting", "why"),
    [
        ("Permanent", "General", "5.1.1", BounceType.HARD, BounceClass.MAILBOX),
        ("Permanent", "General", "", BounceType.HARD, BounceClass.MAILBOX),
        ("Permanent", "General", "5.1.2", BounceType.HARD, BounceClass.DOMAIN),
        ("Permanent", "General", "5.7.1", BounceType.HARD, BounceClass.POLICY),
        ("Permanent", "NoEmail", "", BounceType.HARD, BounceClass.MAILBOX),
        ("Permanent", "Suppressed", "", BounceType.HARD, BounceClass.MAILBOX),
        ("Permanent", "OnAccountSuppressionList", "", BounceType.HARD, BounceClass.MAILBOX),
        ("Transient", "General", "4.4.7", BounceType.SOFT, BounceClass.NETWORK),
        ("Transient", "MailboxFull", "5.2.2", BounceType.SOFT, BounceClass.QUOTA),
        ("Transient", "MessageTooLarge", "", BounceType.SOFT, BounceClass.SIZE),
        ("Transient", "ContentRejected", "5.7.1", BounceType.SOFT, BounceClass.CONTENT),
        ("Transient", "AttachmentRejected", "", BounceType.SOFT, BounceClass.CONTENT),
        ("Undetermined", "Undetermined", "", BounceType.UNDETERMINED, BounceClass.OTHER),
        ("SomethingNew", "New", "", BounceType.UNDETERMINED, BounceClass.OTHER),
    ],
)
def test_bounces_say_how_lasting_they_are_and_why(
    type_: str, subtype: str, status: str, lasting: BounceType, why: BounceClass
) -> None:
    bounce = only(notices.bounce(message(), AT, type_, subtype, status=status)).event.bounce
    assert bounce is not None
    assert (bounce.type, bounce.category, bounce.code) == (lasting, why, status)


def test_a_soft_bounce_with_a_reason_is_no_automatic_reply() -> None:
    assert only(notices.bounce(message(), AT, "Transient", "General", status="4.2.0")).event.kind is EventKind.BOUNCED


@pytest.mark.parametrize(
    ("feedback", "counts"),
    [("abuse", 1), ("fraud", 1), ("virus", 1), ("other", 1), (None, 1), ("not-spam", 0), ("auth-failure", 0)],
)
def test_feedback_that_is_no_complaint_accuses_nobody(feedback: str | None, counts: int) -> None:
    events = read(notices.complaint(message(), AT, feedback))
    assert [event.event.kind for event in events] == [EventKind.COMPLAINED] * counts
    assert all((feedback or "") in event.event.detail for event in events)


def test_a_notice_about_several_is_charged_to_each_with_what_is_said_of_it() -> None:
    document = notices.bounce(message(), AT)
    document["mail"]["destination"] = ["a@example.net", "b@example.net", "c@example.net"]
    document["bounce"]["bouncedRecipients"] = [
        {"emailAddress": "a@example.net", "status": "5.1.1", "diagnosticCode": "smtp; 550 a"},
        {"emailAddress": "b@example.net", "status": "5.7.1", "diagnosticCode": "smtp; 550 b"},
    ]
    first, second = read(document)
    assert (first.recipient, first.event.detail) == ("a@example.net", "smtp; 550 a")
    assert (second.recipient, second.event.detail) == ("b@example.net", "smtp; 550 b")
    assert first.event.id != second.event.id


def test_a_mail_that_was_forwarded_bounces_for_whom_it_was_sent_to() -> None:
    """SES names the address that the last server refused."""
    document = notices.bounce(message(), AT)
    document["bounce"]["bouncedRecipients"][0]["emailAddress"] = "elsewhere@example.org"
    (found,) = read(document)
    assert found.recipient == "r@example.net"


def test_a_click_says_where_to_and_two_links_are_two_events() -> None:
    first, other = notices.clicked(message(), AT), notices.clicked(message(), AT)
    other["click"]["link"] = "https://example.com/other"
    assert only(first).event.url == "https://example.com/offer"
    assert only(first).event.id != only(other).event.id


def test_who_subscribes_again_is_heard() -> None:
    assert only(notices.subscription(message(), AT, out=False)).event.kind is EventKind.RESUBSCRIBED


def test_the_same_notice_is_the_same_event_and_another_is_another() -> None:
    made = [STEPS[name](message(), AT) for name in STEPS]
    first, again = [[only(document).event.id for document in made] for _ in range(2)]
    assert first == again
    # Three of these bounces are alike in all that SES identifies a notice by: message, kind, time, recipient.
    assert len(set(first)) == len({document["eventType"] for document in made})


@pytest.mark.parametrize("mailbox", MAILBOXES)
def test_the_order_and_number_of_notices_make_no_difference(mailbox: str) -> None:
    sent = message(f"{mailbox}+x@simulator.amazonses.com")
    plain = Fates().of(sent, Options())
    wanted = {
        "success": MessageStatus.DELIVERED,
        "bounce": MessageStatus.BOUNCED,
        "ooto": MessageStatus.DELIVERED,
        "complaint": MessageStatus.COMPLAINED,
        "suppressionlist": MessageStatus.BOUNCED,
    }
    for seed in range(5):
        mixed = Fates(repeats=3, shuffled=True, chance=random.Random(seed)).of(sent, Options())
        standing, ids = StatusRank(3, MessageStatus.UNKNOWN), set[str]()
        for document in mixed:
            event = only(document).event
            standing = status_after(standing, event)
            ids.add(event.id)
        assert standing == StatusRank(3, wanted[mailbox])
        assert ids == {only(document).event.id for document in plain}


@pytest.mark.parametrize("step", ["delivery", "bounce", "complaint"])
def test_the_older_format_names_no_message_and_is_read_where_it_does(step: str) -> None:
    document = STEPS[step](message(), AT)
    older = notices.notification(document)
    assert read(older) == []
    older["mail"]["tags"] = document["mail"]["tags"]
    assert only(older).event.id == only(document).event.id


def test_what_is_of_no_message_of_ours_or_of_a_kind_we_do_not_know_says_nothing() -> None:
    document = notices.delivery(message(), AT)
    assert read(document | {"eventType": "SomethingNew"}) == []
    del document["mail"]["tags"]["postroom-message"]
    assert read(document) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Successfully validated SNS topic for Amazon SES event publishing.",
        "[]",
        '{"mail": {}}',
        '{"eventType": 1, "mail": {"messageId": "x", "timestamp": "y"}}',
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"eventType": "Send", "mail": {"messageId": "\ud800", "timestamp": "x"}}',
    ],
    ids=range(8),
)
def test_what_is_no_notice_is_refused_in_words(text: str) -> None:
    with pytest.raises(Invalid):
        parse_ses_event(text)


@pytest.mark.parametrize("timestamp", ["x", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_is_none_never_breaks_the_reader(timestamp: str) -> None:
    document = notices.delivery(message(), AT)
    document["delivery"]["timestamp"] = timestamp
    with suppress(Invalid):
        assert isinstance(only(document).event.at, int)


def test_what_is_kept_is_bounded_and_can_be_stored() -> None:
    document = notices.bounce(message(), AT)
    document["bounce"]["bouncedRecipients"] = [
        {"emailAddress": f"r{number}@example.net", "diagnosticCode": "\0" + "x" * 10_000} for number in range(1_000)
    ]
    found = parse_ses_event(json.dumps(document))
    assert len(found) == 50
    for event in found:
        assert len(event.event.raw) <= MAX_RAW
        assert len(event.event.detail) <= 250
        assert "\0" not in event.event.detail
        event.event.detail.encode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_nothing_breaks_the_reader(part: object) -> None:
    for step in ("delivery", "bounce", "complaint", "delay"):
        document = STEPS[step](message(), AT)
        (name,) = set(document) - {"eventType", "mail"}
        document[name] = part
        with suppress(Invalid):
            parse_ses_event(json.dumps(document))
