"""What SES and the door tell by queues is on the records when the function ends; what is not, is given back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from postroom.entrypoints.lambdas import events
from postroom.errors import Corrupt, Unavailable
from postroom.ledger.rate_windows import MINUTE_MS, RateWindows
from postroom.ledger.suppression import SuppressionReason
from postroom.model.campaign import CampaignRef, CampaignStatus, Import
from postroom.model.event import EventKind
from postroom.model.ids import recipient_key
from postroom.model.message import Message, MessageRow, MessageStatus, Settlement
from postroom.model.tokens import MessageRef, ses_tags
from postroom.wiring import Container
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.lambdas.kit import Context, from_queue, installed, returned

ADDRESS = "anna@example.net"


class Desk:
    """An installation and one message of its that SES took."""

    def __init__(self, postroom: Container) -> None:
        self.postroom = postroom
        tenant, now = postroom.tenants.get("default"), postroom.clock.now()
        self.key = recipient_key(tenant.secret, ADDRESS)
        self.campaign_ref = postroom.records.new_ref("default")
        messages = postroom.messages
        messages.create(self.campaign_ref, 1)
        messages.store(self.campaign_ref, [MessageRow(0, self.key, 2, ADDRESS, None, "[]")], now)
        spec = campaign_spec(topic="news")
        source = Import("upload", "people.csv", batches=1, rows=1)
        postroom.records.create(campaign_record(self.campaign_ref, CampaignStatus.SENDING, now, spec=spec, source=source))
        opened = messages.open(self.campaign_ref, 0, "w", now, lease_ms=10_000)
        assert opened is not None
        messages.record(
            self.campaign_ref, 0, opened.fence, [Settlement(self.key, MessageStatus.SENT, 1, now)], [], now, lease_ms=10_000
        )
        messages.close(self.campaign_ref, 0, opened.fence)
        self.ref = MessageRef(tenant.number, self.campaign_ref.campaign, 0, self.key, 1)

    def notice(self, kind: Any = notices.bounce, *, to: str = ADDRESS) -> str:
        seconds = self.postroom.clock.now() / 1000
        accepted = Accepted(
            "0102-id", to, "a@example.com", "postroom", dict(ses_tags(self.ref)), b"From: a@b.c\r\n\r\nHi", 1, seconds
        )
        return json.dumps(kind(accepted, seconds))

    def stands(self) -> Message:
        found = self.postroom.messages.get(self.campaign_ref, 0, self.key)
        assert found is not None
        return found

    def call(self, queue: str, *bodies: str) -> Any:
        return returned(events.handler(from_queue(queue, *bodies), Context()))


def enveloped(message: str) -> str:
    return json.dumps(
        {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x:1:t", "Message": message, "Signature": "FAKE"}
    )


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with installed(tmp_path, monkeypatch, events) as opened:
        yield Desk(opened)


@pytest.mark.parametrize("wrapped", [enveloped, str], ids=["in an envelope", "raw"])
def test_a_notice_is_on_the_record_the_list_and_the_tally_when_the_call_ends(desk: Desk, wrapped: Any) -> None:
    assert desk.call("notices", wrapped(desk.notice())) == []
    assert desk.stands().status is MessageStatus.BOUNCED
    entry = desk.postroom.suppression.get("default", desk.key)
    assert entry is not None
    assert (entry.reason, entry.address) == (SuppressionReason.BOUNCE, ADDRESS)
    minute = desk.postroom.clock.now() // MINUTE_MS
    tallies = RateWindows(desk.postroom.tables)
    assert sum(rate.total.hard for at in (minute - 1, minute) for rate in tallies.read(at).values()) == 1


def test_the_same_again_changes_nothing(desk: Desk) -> None:
    notice = desk.notice()
    for _ in range(2):
        assert desk.call("notices", notice, enveloped(notice)) == []
    kinds = [event.kind for event in desk.postroom.messages.timeline(desk.campaign_ref, 0, desk.key)]
    assert kinds.count(EventKind.BOUNCED) == 1


@pytest.mark.parametrize(
    "body",
    ["Successfully validated SNS topic for Amazon SES event publishing.", enveloped("hello"), "[]", '{"Type":3}', "\ud800", ""],
)
def test_nonsense_among_notices_is_dropped(desk: Desk, body: str) -> None:
    assert desk.call("notices", body, desk.notice()) == []
    assert desk.stands().status is MessageStatus.BOUNCED


def test_a_notice_of_mail_to_somebody_else_is_dropped(desk: Desk) -> None:
    assert desk.call("notices", desk.notice(to="ben@example.net")) == []
    assert desk.stands().status is MessageStatus.SENT


def test_who_unsubscribes_at_ses_is_on_the_list_of_the_topic(desk: Desk) -> None:
    assert desk.call("notices", desk.notice(notices.subscription)) == []
    (entry,) = desk.postroom.suppression.entries_for("default", desk.key)
    assert entry.reason is SuppressionReason.UNSUBSCRIBE


def test_arrivals_are_applied_and_only_what_cannot_be_read_is_given_back(desk: Desk) -> None:
    desk.postroom.inbound_events.put(desk.postroom.ses_webhook.parse_queued(desk.notice()))
    (item,) = desk.postroom.queues.receive("feedback")
    assert desk.call("feedback", "nonsense", item.body) == ["0"]
    assert desk.stands().status is MessageStatus.BOUNCED


def test_what_meets_a_store_that_does_not_answer_comes_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Unavailable("busy")

    with monkeypatch.context() as patched:
        patched.setattr(type(desk.postroom.messages), "record_events", fails)
        assert desk.call("notices", desk.notice(), "nonsense") == ["0", "1"]
    assert desk.call("notices", desk.notice(), "nonsense") == []
    assert desk.stands().status is MessageStatus.BOUNCED


def test_one_that_can_never_be_applied_spoils_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, report = Desk(desk.postroom), desk.postroom.messages.record_events

    def fails(_self: object, campaign_ref: CampaignRef, *rest: Any) -> Sequence[bool]:
        if campaign_ref == broken.campaign_ref:
            raise Corrupt("its ledger cannot be read")
        return report(campaign_ref, *rest)

    monkeypatch.setattr(type(desk.postroom.messages), "record_events", fails)
    assert desk.call("notices", broken.notice(), desk.notice()) == ["0"]
    assert desk.stands().status is MessageStatus.BOUNCED
    assert broken.stands().status is MessageStatus.SENT
