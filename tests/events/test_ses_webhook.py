"""What SNS posts changes the records of the message it is about, once, and of no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import SystemClock
from postroom.errors import Denied, Invalid, Unavailable
from postroom.events.ses.sns import SnsVerifier
from postroom.events.ses.webhook import SesRecords, SesWebhook
from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEvent, InboundEventQueue, parse_inbound_events
from postroom.ledger.suppression import SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import CampaignRef, CampaignStatus, Import
from postroom.model.event import EventKind
from postroom.model.ids import Key, recipient_key
from postroom.model.message import MessageRow, MessageStatus, Settlement
from postroom.model.stream import day_of, stream_batches, stream_ref
from postroom.model.tokens import MessageRef, message_id, ses_tags
from postroom.platform.ports.messages import ReportedEvent
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench
from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.sns import ARN, Topic

TOPIC = Topic(version="2")
ANNA, BEN = "Anna@Example.net", "ben@example.net"


@dataclass(frozen=True)
class Mail:
    """One that SES took."""

    ref: MessageRef
    accepted: Accepted


class Hooked:
    """A campaign under the topic `news` whose mail SES took, and the hook."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.made = made
        self.tenants = Tenants(made.tables, made.clock)
        self.suppression = SuppressionList(made.tables, made.clock)
        self.asked: list[str] = []
        self.ref = self._campaign()
        self.hook = SesWebhook(
            SnsVerifier([ARN], self._fetch, SystemClock()),
            SesRecords(self.tenants, made.campaigns, made.messages, faults.wrap(self.suppression)),
            faults.wrap(InboundEventQueue(made.queues)).put,
        )

    def _fetch(self, url: str) -> bytes:
        self.asked.append(url)
        page = TOPIC.page(url.removeprefix(TOPIC.host))
        if page is None:
            raise Unavailable("there is nothing")
        return page

    def _campaign(self) -> CampaignRef:
        made, campaign_ref = self.made, self.made.campaigns.new_ref("default")
        made.messages.create(campaign_ref, 1)
        made.messages.store(
            campaign_ref, [self._row(line, address) for line, address in enumerate((ANNA, BEN), 2)], made.clock.now()
        )
        spec = campaign_spec(topic="news")
        source = Import("upload", "people.csv", batches=1, rows=2)
        made.campaigns.create(campaign_record(campaign_ref, CampaignStatus.SENDING, made.clock.now(), spec=spec, source=source))
        return campaign_ref

    def key(self, address: str) -> Key:
        return recipient_key(self.tenants.get("default").secret, address.lower())

    def _row(self, line: int, address: str) -> MessageRow:
        return MessageRow(0, self.key(address), line, address, None, "[]")

    def mail(self, address: str = ANNA, *, ref: MessageRef | None = None, attempt: int = 1) -> Mail:
        ref = ref or MessageRef(0, self.ref.campaign, 0, self.key(address), attempt)
        content = b"From: a@example.com\r\n\r\nHi\r\n"
        return Mail(
            ref, Accepted("0102-id", address, "a@example.com", "postroom", dict(ses_tags(ref)), content, 1, 1_790_000_000)
        )

    def stream(self) -> CampaignRef:
        """Where today's single messages are."""
        return stream_ref(self.tenants.get("default"), day_of(self.made.clock.now()))

    def post(self, document: dict[str, Any] | str) -> None:
        self.hook.receive(json.dumps(TOPIC.notification(document)).encode())

    def arrived(self) -> list[InboundEvent]:
        """Since the last look."""
        found = []
        while items := self.made.queues.receive(FEEDBACK_QUEUE, limit=10):
            for item in items:
                found += parse_inbound_events(item.body)
                self.made.queues.delete(FEEDBACK_QUEUE, item.receipt)
        return found

    def apply(self) -> None:
        """As the feedback worker would."""
        reports = [ReportedEvent(each.batch or 0, each.key, each.event) for each in self.arrived()]
        self.made.messages.record_events(self.ref, reports, self.made.clock.now())


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def hooked(made: Bench) -> Hooked:
    return Hooked(made)


def test_a_notice_is_queued_for_its_message(hooked: Hooked) -> None:
    mail = hooked.mail(attempt=3)
    hooked.post(notices.bounce(mail.accepted, 1_790_000_001))
    (arrival,) = hooked.arrived()
    assert (arrival.tenant, arrival.campaign, arrival.batch, arrival.key) == (0, hooked.ref.campaign, 0, mail.ref.key)
    assert (arrival.event.kind, arrival.event.attempt, arrival.event.source) == (EventKind.BOUNCED, 3, "ses")


def test_the_same_notice_again_is_the_same_event(hooked: Hooked) -> None:
    for _ in range(3):
        hooked.post(notices.complaint(hooked.mail().accepted, 1_790_000_001))
    assert len({arrival.event.id for arrival in hooked.arrived()}) == 1


def test_what_is_not_signed_by_sns_changes_nothing(hooked: Hooked) -> None:
    envelope = TOPIC.notification(notices.bounce(hooked.mail().accepted, 1_790_000_001))
    forged = {**envelope, "Message": envelope["Message"].replace("Permanent", "Transient")}
    foreign = Topic(ARN + "-2", version="2").notification(notices.bounce(hooked.mail().accepted, 1_790_000_001))
    for body, kind in ((forged, Denied), (foreign, Denied), ({"Type": "Notification"}, Invalid)):
        with pytest.raises(kind):
            hooked.hook.receive(json.dumps(body).encode())
    assert hooked.arrived() == []
    assert len(hooked.asked) == 1, "the certificate, once, for a topic of ours"


def other_tenant(hooked: Hooked) -> MessageRef:
    return hooked.mail().ref._replace(tenant=7)


def other_person(hooked: Hooked) -> MessageRef:
    return hooked.mail(BEN).ref


def no_stream(hooked: Hooked) -> MessageRef:
    return hooked.mail().ref._replace(campaign=hooked.stream().campaign)


@pytest.mark.parametrize("named", [other_tenant, other_person, no_stream])
def test_tags_that_name_nobody_or_somebody_else_are_ignored_with_a_line(
    hooked: Hooked, caplog: pytest.LogCaptureFixture, named: Any
) -> None:
    for notice in (notices.bounce, notices.subscription):
        hooked.post(notice(hooked.mail(ref=named(hooked)).accepted, 1_790_000_001))
    assert hooked.arrived() == []
    assert hooked.suppression.entries_for("default", hooked.key(ANNA)) == []
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_an_address_that_is_none_stands_in_no_log(hooked: Hooked, caplog: pytest.LogCaptureFixture) -> None:
    document = notices.bounce(hooked.mail().accepted, 1_790_000_001)
    document["mail"]["destination"] = ["anna smith@example.net"]
    hooked.post(document)
    assert hooked.arrived() == []
    assert "its recipient is no address" in caplog.text
    assert "anna" not in caplog.text


def test_a_single_message_is_held_against_its_own_record(hooked: Hooked) -> None:
    campaign_ref = hooked.stream()
    hooked.made.messages.create(campaign_ref, stream_batches(campaign_ref.campaign))
    key = Key(b"m" * 12)
    hooked.made.messages.store(campaign_ref, [MessageRow(0, key, 1, ANNA, None, "[]")], hooked.made.clock.now())
    ref = MessageRef(0, campaign_ref.campaign, 0, key, 1)
    hooked.post(notices.delivery(hooked.mail(ANNA, ref=ref).accepted, 1_790_000_001))
    hooked.post(notices.delivery(hooked.mail(BEN, ref=ref).accepted, 1_790_000_001))
    assert [arrival.key for arrival in hooked.arrived()] == [key]
    hooked.post(notices.subscription(hooked.mail(ANNA, ref=ref).accepted, 1_790_000_001))
    entry = hooked.suppression.get("default", hooked.key(ANNA))
    assert entry is not None, "the person's key, not the message's"


def test_a_word_of_ses_that_is_no_notice_is_answered_like_one(hooked: Hooked) -> None:
    hooked.post("Successfully validated SNS topic for Amazon SES event publishing.")
    assert hooked.arrived() == []


def test_a_subscription_to_a_topic_of_ours_is_confirmed_where_sns_is(hooked: Hooked) -> None:
    TOPIC.confirmed.clear()
    hooked.hook.receive(json.dumps(TOPIC.confirmation(token="t1")).encode())
    assert TOPIC.confirmed == ["t1"]
    hooked.hook.receive(json.dumps(TOPIC.confirmation("UnsubscribeConfirmation", token="t2")).encode())
    assert TOPIC.confirmed == ["t1"]
    with pytest.raises(Denied):
        hooked.hook.receive(
            json.dumps(TOPIC.confirmation(SubscribeURL="https://evil.example/?Action=ConfirmSubscription")).encode()
        )


def leaves(hooked: Hooked, *, everything: bool) -> dict[str, Any]:
    document = notices.subscription(hooked.mail().accepted, 1_790_000_001)
    document["subscription"]["newTopicPreferences"] = {
        "unsubscribeAll": everything,
        "topicSubscriptionStatus": [{"topicName": "theirs", "subscriptionStatus": "OptOut"}],
    }
    return document


@pytest.mark.parametrize(("everything", "topic"), [(True, None), (False, "news")])
def test_who_unsubscribes_is_on_the_list_before_the_answer(hooked: Hooked, everything: bool, topic: str | None) -> None:
    hooked.post(leaves(hooked, everything=everything))
    (entry,) = hooked.suppression.entries_for("default", hooked.key(ANNA))
    assert (entry.reason, entry.topic, entry.address) == (SuppressionReason.UNSUBSCRIBE, topic, ANNA)
    (arrival,) = hooked.arrived()
    assert (arrival.event.kind, arrival.event.source) == (EventKind.UNSUBSCRIBED, "unsubscribe")
    assert entry.source == f"{message_id(hooked.ref, arrival.key)}/{arrival.event.id}"


def test_an_unsubscribe_that_is_replayed_does_not_undo_what_the_person_decided_since(hooked: Hooked) -> None:
    document = leaves(hooked, everything=True)
    hooked.post(document)
    hooked.apply()
    hooked.suppression.take_back("default", hooked.key(ANNA))
    hooked.post(document)
    assert hooked.suppression.entries_for("default", hooked.key(ANNA)) == []


def test_an_unsubscribe_of_a_person_who_was_erased_does_not_name_them_again(hooked: Hooked) -> None:
    messages, now, key = hooked.made.messages, hooked.made.clock.now(), hooked.key(ANNA)
    opened = messages.open(hooked.ref, 0, "w", now, lease_ms=1_000)
    assert opened is not None
    messages.record(hooked.ref, 0, opened.fence, [Settlement(key, MessageStatus.SENT, 1, now)], [], now, lease_ms=1_000)
    messages.erase(hooked.ref, 0, opened.fence, key, now)
    hooked.post(leaves(hooked, everything=True))
    (entry,) = hooked.suppression.entries_for("default", key)
    assert (entry.reason, entry.address) == (SuppressionReason.UNSUBSCRIBE, "")


def test_an_unsubscribe_counts_where_the_campaign_is_gone(hooked: Hooked) -> None:
    hooked.made.messages.drop(hooked.ref)
    hooked.post(leaves(hooked, everything=True))
    assert hooked.suppression.get("default", hooked.key(ANNA)) is not None


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_killed_anywhere_before_the_answer_the_next_delivery_completes_it(made: Bench, at: int, after: bool) -> None:
    """Two calls change something: the suppression list's, and the queue's."""
    hooked = Hooked(made, Faults(at, after=after))
    document = leaves(hooked, everything=True)
    with pytest.raises(Killed):
        hooked.post(document)
    hooked.post(document)
    assert hooked.suppression.get("default", hooked.key(ANNA)) is not None
    assert len({arrival.event.id for arrival in hooked.arrived()}) == 1
