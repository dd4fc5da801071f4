"""What came back becomes part of the records: nothing is lost, nothing counts twice, and nobody is believed for another's message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.ledger.inbound_events import FEEDBACK_QUEUE, InboundEvent
from postroom.ledger.recounts import Recounts
from postroom.ledger.suppression import SuppressionReason
from postroom.model.address import parse_address
from postroom.model.event import Event, EventKind
from postroom.model.ids import Key, recipient_key
from postroom.model.message import MessageRow, MessageStatus, Settlement
from postroom.model.stream import stream_batches, stream_ref
from postroom.platform.ports.queues import MAX_RECEIVES
from tests.events.feedback_kit import HARD, SOFT, FeedbackSetup
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench, bench

K = EventKind


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as each:
        yield each


def test_a_hard_bounce_stands_on_the_record_and_keeps_the_person_off_the_list(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    post.hear(post.arrival(campaign, message, K.BOUNCED, detail="no such user"))
    stands = made.messages.get(campaign.ref, message.batch, message.key)
    assert stands is not None
    assert stands.status is MessageStatus.BOUNCED
    entry = post.suppression.get("default", message.key)
    assert entry is not None
    assert (entry.reason, entry.address, entry.note) == (SuppressionReason.BOUNCE, message.address, "5.1.1 no such user")
    (applied,) = post.observed
    assert (applied.provider, applied.domain, applied.event.kind) == ("default", message.address.partition("@")[2], K.BOUNCED)


def test_what_is_said_twice_counts_once_and_enters_nobody_again(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    bounced = post.arrival(campaign, message, K.BOUNCED)
    post.hear(bounced, bounced)
    post.suppression.remove("default", message.key)  # somebody of the tenant knows better
    post.hear(bounced)
    assert len(post.observed) == 1
    assert post.suppression.get("default", message.key) is None


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (K.COMPLAINED, {}, SuppressionReason.COMPLAINT),
        (K.UNSUBSCRIBED, {"source": "arf"}, SuppressionReason.UNSUBSCRIBE),
        (K.UNSUBSCRIBED, {"source": "unsubscribe"}, None),
        (K.BOUNCED, {"bounce": SOFT}, None),
        (K.DELIVERED, {}, None),
        (K.REJECTED, {}, None),
        (K.OPENED, {}, None),
    ],
    ids=["complained", "opt-out", "unsubscribed-through-us", "soft", "delivered", "rejected", "opened"],
)
def test_who_is_entered_and_why(
    made: Bench, kind: EventKind, fields: dict[str, object], reason: SuppressionReason | None
) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    post.hear(post.arrival(campaign, message, kind, **fields))
    entry = post.suppression.get("default", message.key)
    assert (entry and entry.reason) == reason
    assert [applied.event.kind for applied in post.observed] == [kind]


def test_bounces_that_may_pass_keep_somebody_off_only_once_there_are_too_many(made: Bench) -> None:
    post, campaign, later = FeedbackSetup(made), made.campaign(), made.campaign()
    message = post.send_all(campaign)[0]
    again = next(each for each in post.send_all(later) if each.key == message.key)
    post.hear(post.arrival(campaign, message, K.BOUNCED, id="one", bounce=SOFT))
    post.hear(post.arrival(campaign, message, K.BOUNCED, id="two", bounce=SOFT))
    assert post.suppression.get("default", message.key) is None
    post.hear(post.arrival(later, again, K.BOUNCED, id="one", bounce=SOFT))
    assert post.suppression.get("default", message.key) is not None
    made.clock.advance(61)
    assert post.suppression.get("default", message.key) is None


def test_an_event_of_a_message_that_there_is_not_changes_nothing(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    forged = post.arrival(campaign, message, K.BOUNCED)._replace(key=Key(b"\xff" * 12))
    post.hear(forged, forged._replace(tenant=77), forged._replace(batch=99))
    assert post.observed == []
    assert post.suppression.get("default", forged.key) is None
    assert made.messages.counts(campaign.ref).sent == 10


def test_who_bounces_after_the_campaign_was_deleted_is_not_written_to_again(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    arrival = post.arrival(campaign, message, K.BOUNCED)
    made.messages.drop(campaign.ref)
    made.campaigns.delete(campaign.ref)
    post.hear(arrival)
    entry = post.suppression.get("default", message.key)
    assert entry is not None
    assert (entry.reason, entry.address) == (SuppressionReason.BOUNCE, "")


def test_an_unsubscribe_finds_its_message_without_being_told_the_batch(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[3]
    post.hear(post.arrival(campaign, message, K.UNSUBSCRIBED, source="unsubscribe")._replace(batch=None))
    stands = made.messages.get(campaign.ref, message.batch, message.key)
    assert stands is not None
    assert stands.unsubscribed_at == made.clock.now()


def test_a_single_message_s_bounce_keeps_its_recipient_off_the_list_not_its_key(made: Bench) -> None:
    post, key = FeedbackSetup(made), Key(b"m" * 12)
    tenant = post.tenants.get("default")
    home = stream_ref(tenant, 20_000)
    made.messages.create(home, stream_batches(home.campaign))
    made.messages.store(home, [MessageRow(3, key, 1, "Ann@example.org", None, "{}")], made.clock.now())
    complained = Event(kind=K.COMPLAINED, attempt=1, at=made.clock.now(), id="c", source="arf")
    post.hear(InboundEvent(tenant.number, home.campaign, 3, key, complained))
    person = recipient_key(tenant.secret, parse_address("Ann@example.org").normalised)
    assert post.suppression.suppressed("default", [person, key]) == {person}


def test_hits_are_judged_by_how_soon_after_the_message_they_come(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    sent_at = made.clock.now()
    made.clock.advance(5)
    post.hear(post.arrival(campaign, message, K.OPENED), post.arrival(campaign, message, K.COMPLAINED))
    assert post.judged == [sent_at, sent_at]


def test_an_item_that_cannot_be_read_spoils_no_other_and_becomes_a_dead_letter(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    made.queues.send(FEEDBACK_QUEUE, ["no JSON"])
    post.hear(post.arrival(campaign, message, K.BOUNCED))
    assert len(post.observed) == 1
    for _ in range(MAX_RECEIVES):
        made.clock.advance(61)
        post.feedback.once()
    assert [dead.body for dead in made.queues.dead_letters(FEEDBACK_QUEUE)] == ["no JSON"]


def _heard(post: FeedbackSetup) -> None:
    """As the process that starts next does: once the lease of the killed one has run out."""
    post.made.clock.advance(61)
    while post.feedback.once():
        pass


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_call_of_a_store_loses_nothing(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        with bench(tmp_path / str(number)) as made:
            campaign, faults = made.campaign(people=4), Faults(number, after=after)
            post = FeedbackSetup(made, faults)
            one, two, three, _ = post.send_all(campaign)
            post.arrivals.put(
                [
                    post.arrival(campaign, one, K.BOUNCED, bounce=HARD),
                    post.arrival(campaign, two, K.COMPLAINED),
                    post.arrival(campaign, three, K.OPENED),
                ]
            )
            try:
                post.feedback.once()
            except Killed:
                _heard(FeedbackSetup(made))
            counts = made.messages.counts(campaign.ref)
            assert (counts.sent, counts.bounced, counts.complained) == (2, 1, 1)
            assert made.messages.totals(campaign.ref).engagement.opened == 1
            assert post.suppression.suppressed("default", [one.key, two.key, three.key]) == {one.key, two.key}
            assert made.queues.depth(FEEDBACK_QUEUE).ready + made.queues.depth(FEEDBACK_QUEUE).leased == 0
            Recounts(made.tables, made.messages, made.clock).run(seconds=10)
            assert list(made.messages.stale(campaign.ref)) == []
        if len(faults.calls) < number:
            return
        number += 1


def test_a_recipient_who_reports_their_message_again_and_again_is_told_apart(made: Bench) -> None:
    """They have its tokens, and can write as many bounces and complaints as they like: the guard counts the first of each."""
    post, campaign = FeedbackSetup(made), made.campaign()
    one, other = post.send_all(campaign)[:2]
    forged = [post.arrival(campaign, one, K.BOUNCED, id=f"dsn-{number}") for number in range(5)]
    spam = [post.arrival(campaign, one, K.COMPLAINED, id=f"arf-{number}") for number in range(5)]
    post.hear(*forged[:3], *spam[:3], post.arrival(campaign, other, K.BOUNCED))
    post.hear(*forged, *spam)
    post.hear(post.arrival(campaign, one, K.BOUNCED, id="dsn-soft", bounce=SOFT))
    counted = [(applied.event.kind, applied.event.bounce) for applied in post.observed if not applied.again]
    assert len(post.observed) == 12
    assert counted == [(K.BOUNCED, HARD), (K.COMPLAINED, None), (K.BOUNCED, HARD), (K.BOUNCED, SOFT)]


def test_who_was_refused_at_the_hand_over_does_not_bounce_once_more(made: Bench) -> None:
    post, campaign = FeedbackSetup(made), made.campaign()
    now = made.clock.now()
    opened = made.messages.open(campaign.ref, 0, "w", now, lease_ms=10_000)
    assert opened is not None
    (refused, *_) = made.messages.load(campaign.ref, 0, now, 1_000)
    settled = [Settlement(refused.key, MessageStatus.BOUNCED, 1, now, code=550, reply="5.1.1 no such user")]
    made.messages.record(campaign.ref, 0, opened.fence, settled, [], now, lease_ms=10_000)
    message = made.messages.get(campaign.ref, 0, refused.key)
    assert message is not None
    post.hear(post.arrival(campaign, message, K.BOUNCED))
    assert [applied.again for applied in post.observed] == [True]


def test_what_comes_back_of_a_person_who_was_erased_does_not_name_them_again(made: Bench) -> None:
    """Servers like to repeat an address in their words."""
    post, campaign = FeedbackSetup(made), made.campaign()
    message = post.send_all(campaign)[0]
    now = made.clock.now()
    opened = made.messages.open(campaign.ref, message.batch, "w", now, lease_ms=1_000)
    assert opened is not None
    made.messages.erase(campaign.ref, message.batch, opened.fence, message.key, now)
    words = f"5.1.1 no mailbox {message.address}"
    post.hear(*(post.arrival(campaign, message, kind, detail=words, raw=words) for kind in (K.BOUNCED, K.COMPLAINED)))
    (entry,) = post.suppression.entries_for("default", message.key)
    assert (entry.reason, entry.address, entry.note) == (SuppressionReason.COMPLAINT, "", "")
    with made.control.read() as db:
        assert message.address not in repr(db.execute("SELECT * FROM item").fetchall())
    assert message.address not in repr(made.messages.timeline(campaign.ref, message.batch, message.key))
