"""Single messages on their way: nobody waits for somebody slow, nobody gets one twice, and a stream that owes nothing is let go."""

from __future__ import annotations

import asyncio
import email
import os
from collections.abc import Callable, Iterator
from email.message import Message as Mail
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import SystemClock
from postroom.ledger import scheduler_messages
from postroom.ledger.batches import BatchLeases
from postroom.ledger.suppression import SuppressionReason
from postroom.model.batch import OpenBatch, batch_of
from postroom.model.campaign import CampaignRef, Policies
from postroom.model.ids import recipient_key
from postroom.model.message import MessageStatus
from postroom.model.stream import stream_batches
from postroom.pipeline.scheduler import Scheduler
from postroom.pipeline.sender.context import StopSignal
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.pipeline.sender.stream import LINGER_S
from postroom.platform.embedded.feed import SqliteFeed
from postroom.platform.mail.port import Health, OutboundMessage, Result, Stage, Verdict
from postroom.platform.ports.rates import RateLimit
from postroom.services.message_acceptance import AcceptedMessage, AttachedUpload
from tests.fakes.mailer import ACCEPTED, ScriptedMailer
from tests.fakes.transactional import LEASE_MS, PUBLIC_URL, TransactionalBench, request, transactional_bench

LATER = Result(Verdict.TEMPORARY, 451, "4.2.0", "greylisted", Stage.RCPT)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    with transactional_bench(tmp_path) as opened:
        yield opened


def sent(made: TransactionalBench, count: int) -> Callable[[], bool]:
    return lambda: made.states().count("sent") == count


class KeepingMailer(ScriptedMailer):
    """Keeps what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Mail] = []

    def submit(self, delivery: OutboundMessage) -> None:
        content = delivery.compose()
        if content is not None:
            self.mails.append(email.message_from_bytes(content))
        super().submit(delivery)


def mails(made: TransactionalBench, count: int) -> list[Mail]:
    """Send what there is; the mails."""
    made.mailer = keeping = KeepingMailer()
    made.send(sent(made, count))
    return keeping.mails


def body(mail: Mail) -> str:
    """With quoted-printable's soft line ends taken out."""
    return str(mail).replace("=\n", "")


def test_messages_are_sent_once_and_recorded(made: TransactionalBench) -> None:
    made.accept(*(request(f"p{n}@example.org") for n in range(100)))
    made.send(sent(made, 100))
    assert sorted(made.mailer.accepted) == sorted(f"p{n}@example.org" for n in range(100))


def test_a_message_has_its_own_values_and_no_list_headers(made: TransactionalBench) -> None:
    made.accept(request("Anna <a@example.org>", reply_to="help@shop.example"))
    (mail,) = mails(made, 1)
    assert (mail["To"], mail["Subject"], mail["Reply-To"]) == ('"Anna" <a@example.org>', "Code 4711", "help@shop.example")
    assert "Hello Anna, code 4711=2E" in body(mail)
    assert mail["Feedback-ID"].split(":")[2] == "single"
    assert mail["List-Unsubscribe"] is None


def test_attachments_arrive(made: TransactionalBench) -> None:
    made.upload("a", b"the terms", content_type="text/plain; charset=utf-8")
    made.accept(request(attachments=(AttachedUpload("a", "Terms.txt"),)))
    (mail,) = mails(made, 1)
    (part,) = [part for part in mail.walk() if part.get_filename() == "Terms.txt"]
    assert part.get_payload(decode=True) == b"the terms"


def test_list_headers_come_when_asked_for_and_name_the_person_not_the_message(tmp_path: Path) -> None:
    """So that whoever unsubscribes by one message is suppressed for all."""
    with transactional_bench(tmp_path, public_url=PUBLIC_URL) as made:
        made.accept(request(unsubscribe=True), request(unsubscribe=True), request("other@example.org", unsubscribe=True))
        first, second, third = sorted((mail["List-Unsubscribe"], mail["To"]) for mail in mails(made, 3))
    links = {first, second, third}
    assert len(links) == 2
    assert all(link.startswith(f"<{PUBLIC_URL}/u/") for link, _ in links)


def test_links_are_rewritten_only_when_asked_for(tmp_path: Path) -> None:
    with transactional_bench(tmp_path, public_url=PUBLIC_URL) as made:
        html = '<a href="https://shop.example/">x</a>'
        made.accept(request(html=html), request(html=html, track_clicks=True, track_opens=True))
        bodies = list(map(body, mails(made, 2)))
        assert sorted("/t/c/" in body for body in bodies) == [False, True]
        assert sorted("/t/o/" in body for body in bodies) == [False, True]
        links = [each.key for each in made.objects.list("default/streams/").objects if each.key.endswith(".links")]
        assert made.objects.get(links[0]) == b'["https://shop.example/"]'


@pytest.mark.parametrize("limit", [RateLimit(), RateLimit(per_second=20)], ids=["unlimited", "slow provider"])
def test_somebody_slow_holds_up_nobody_not_even_in_the_same_batch(made: TransactionalBench, limit: RateLimit) -> None:
    made.mailer.answer = lambda address: None if address == "slow@example.org" else ACCEPTED
    made.limit = limit

    async def run() -> None:
        (slow,) = made.accept(request("slow@example.org"))
        sender = made.sender(SystemClock())
        await made.send_until(lambda: bool(made.mailer.held), sender=sender, after=lambda: _neighbour(made, slow))
        assert made.message(slow).status is MessageStatus.PENDING

    asyncio.run(run())


async def _neighbour(made: TransactionalBench, slow: AcceptedMessage) -> None:
    """Somebody who comes to the same batch, and gets theirs."""
    batches = stream_batches(made.ref.campaign)
    while True:
        (accepted,) = made.accept(request("quick@example.org"))
        if batch_of(accepted.key, batches) == batch_of(slow.key, batches):
            break
    while made.message(accepted).status is not MessageStatus.SENT:
        await asyncio.sleep(0.005)


def test_an_opening_ends_when_it_has_sent_enough(made: TransactionalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the batch is counted, and its page of the journal does not grow for ever."""
    monkeypatch.setattr("postroom.pipeline.sender.stream._ONE_OPENING", 3)
    monkeypatch.setattr("postroom.model.stream._BATCHES_LOG2", 0)
    opened: list[int] = []
    real = made.made.messages.open

    def counting(ref: CampaignRef, batch: int, *args: Any, **kwargs: Any) -> OpenBatch | None:
        opened.append(batch)
        return real(ref, batch, *args, **kwargs)

    monkeypatch.setattr(made.made.messages, "open", counting)
    made.accept(request("first@example.org"))
    come = iter(range(20))

    def one_more(_address: str) -> None:
        if (n := next(come, None)) is not None:
            made.accept(request(f"p{n}@example.org"))

    made.mailer.before_handing_over = one_more
    made.send(sent(made, 21))
    assert len(made.mailer.accepted) == 21
    assert len(opened) >= 21 / (3 + 1)


def test_messages_that_come_while_others_are_sent_are_sent(made: TransactionalBench) -> None:
    made.accept(request("first@example.org"))
    come = iter(range(50))

    def one_more(_address: str) -> None:
        if (n := next(come, None)) is not None:
            made.accept(request(f"p{n}@example.org"))

    made.mailer.before_handing_over = one_more
    made.send(sent(made, 51))


def test_a_deferred_message_is_tried_again_when_it_is_due(made: TransactionalBench) -> None:
    made.mailer.answer = lambda _address: LATER
    (accepted,) = made.accept(request())
    made.send(lambda: made.states() == ["deferred"])
    deferred = made.message(accepted)
    assert (deferred.attempt, deferred.code, deferred.reply) == (1, 451, "4.2.0 greylisted")
    made.mailer.answer = lambda _address: ACCEPTED
    assert deferred.due is not None
    made.clock.advance((deferred.due - made.clock.now()) / 1000 + 1)
    made.send(sent(made, 1))
    assert made.message(accepted).attempt == 2


def test_a_message_that_is_deferred_for_too_long_fails(made: TransactionalBench) -> None:
    (accepted,) = made.accept(request())
    ref = accepted.ref
    made.mailer.answer = lambda _address: LATER
    made.clock.advance(2 * 86_400)

    async def run() -> None:
        stopping = asyncio.Event()
        sending = asyncio.create_task(made.sender().send_stream(ref, StopSignal(stopping), lambda _reason: None))
        while made.message(accepted).status is MessageStatus.PENDING:
            await asyncio.sleep(0.005)
        stopping.set()
        await sending

    asyncio.run(run())
    assert made.message(accepted).status is MessageStatus.FAILED


def test_an_answer_that_never_came_is_unknown_and_not_sent_again(made: TransactionalBench) -> None:
    made.mailer.answer = lambda _address: Result(Verdict.UNKNOWN, text="the connection broke")
    made.accept(request())
    made.send(lambda: made.states() == ["unknown"])
    assert not made.streams.owes(made.ref)


def test_whoever_was_suppressed_since_the_call_is_skipped(made: TransactionalBench) -> None:
    made.accept(request(), request("b@example.org"))
    key = recipient_key(made.tenants.get("default").secret, "anna@example.org")
    made.suppression.add("default", key, address="anna@example.org", reason=SuppressionReason.COMPLAINT)
    made.send(lambda: made.states() == ["sent", "skipped"])
    assert made.mailer.accepted == ["b@example.org"]


def test_whoever_left_a_messages_topic_since_the_call_is_skipped(tmp_path: Path) -> None:
    with transactional_bench(tmp_path, public_url=PUBLIC_URL) as made:
        made.accept(request(topic="offers"), request(topic="news"), request())
        key = recipient_key(made.tenants.get("default").secret, "anna@example.org")
        made.suppression.add("default", key, address="", reason=SuppressionReason.UNSUBSCRIBE, topic="offers")
        made.send(lambda: sorted(made.states()) == ["sent", "sent", "skipped"])


def test_a_content_that_is_gone_fails_its_message_and_no_other(made: TransactionalBench) -> None:
    (lost,) = made.accept(request(html="<p>lost</p>", subject="x"))
    made.objects.purge("default/streams/")
    made.accept(request("b@example.org"))
    made.send(lambda: made.states() == ["failed", "sent"])
    assert "There is no object" in made.message(lost).reply


def test_large_attachments_wait_for_their_turn(made: TransactionalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.pipeline.sender.stream._MOST_BYTES", 3_000_000)
    for n in range(4):
        made.upload(f"u{n}", bytes([n]) * 1_500_000)
    made.accept(*(request(attachments=(AttachedUpload(f"u{n}"),)) for n in range(4)))
    made.send(sent(made, 4))


def test_stopping_loses_nothing(made: TransactionalBench) -> None:
    made.accept(*(request(f"p{n}@example.org") for n in range(40)))

    def stop_at_the_tenth(_address: str) -> None:
        if len(made.mailer.accepted) == 9:
            made.mailer.answer = lambda _later: None

    made.mailer.before_handing_over = stop_at_the_tenth
    made.send(lambda: len(made.mailer.accepted) == 10)
    assert made.states() == ["pending"] * 30 + ["sent"] * 10
    assert made.made.messages.next_due(made.ref) == 0


def test_a_provider_that_cannot_be_reached_is_tried_with_one_message(made: TransactionalBench) -> None:
    made.mailer.closed = [Health(open=False, reason="refused", retry_in_s=0.0, connections=0, in_flight=0)] * 3
    made.accept(*(request(f"p{n}@example.org") for n in range(5)))
    made.send(sent(made, 5))


def test_a_lost_worker_leaves_in_doubt_only_what_it_had_in_flight(made: TransactionalBench) -> None:
    """Its group is open, its journal says what was handed over."""
    accepted = made.accept(*(request(f"p{n}@example.org") for n in range(3)))
    messages, ref = made.made.messages, made.ref
    journal = made.made.journals.begin(ref.campaign)
    for each, handed in zip(accepted, (True, False, False), strict=True):
        batch = batch_of(each.key, 32)
        opened = messages.open(ref, batch, journal.owner, made.clock.now(), lease_ms=60_000)
        assert opened is not None
        keys = [other.key for other in accepted if batch_of(other.key, 32) == batch]
        messages.record(ref, batch, opened.fence, [], keys, made.clock.now(), lease_ms=60_000)
        page = journal.page(batch, opened.fence)
        if handed:
            page.handing(each.key)
        page._unmap()
    os.close(journal._lock)  # as a kill does
    made.send(lambda: made.states() == ["sent", "sent", "unknown"])
    assert made.message(accepted[0]).status is MessageStatus.UNKNOWN
    assert "p0@example.org" not in made.mailer.accepted


def test_the_rate_of_a_provider_holds_for_single_messages(made: TransactionalBench) -> None:
    made.limit = RateLimit(per_day=3)
    made.accept(*(request(f"p{n}@example.org") for n in range(5)))
    made.send(sent(made, 3))
    assert made.states() == ["pending", "pending", "sent", "sent", "sent"]


def test_a_stream_that_owes_nothing_is_let_go_after_a_while_and_woken_by_the_next_message(made: TransactionalBench) -> None:
    made.accept(request())

    async def run() -> None:
        sending = asyncio.create_task(made.sender().send_stream(made.ref, StopSignal(), lambda _reason: None))
        while made.states() != ["sent"]:
            await asyncio.sleep(0.005)
        assert not sending.done()
        async with asyncio.timeout(10):
            while not sending.done():  # the moment it looks idle is its own
                made.clock.advance(LINGER_S + 1)
                await asyncio.sleep(0.05)
        await sending

    ref = made.ref
    asyncio.run(run())
    made.streams.end(ref)
    assert made.made.workflows.running(scheduler_messages.STREAM) == []
    made.streams._made.clear()
    made.accept(request())
    assert len(made.made.workflows.running(scheduler_messages.STREAM)) == 1


def test_a_message_that_comes_while_its_stream_is_let_go_is_not_forgotten(
    made: TransactionalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.accept(request())
    made.send(sent(made, 1))
    stop = made.made.workflows.stop

    def and_one_comes(*words: str) -> None:
        made.accept(request())
        stop(*words)

    monkeypatch.setattr(made.made.workflows, "stop", and_one_comes)
    made.streams.end(made.ref)
    assert len(made.made.workflows.running(scheduler_messages.STREAM)) == 1


def test_a_worker_that_dies_while_it_lets_go_leaves_a_note(made: TransactionalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a message that came in that moment would wait for the tenant's next one."""
    made.accept(request())
    monkeypatch.setattr(made.streams, "look", lambda _ref: None)
    made.streams.end(made.ref)
    assert made.made.workflows.running(scheduler_messages.STREAM) == []
    monkeypatch.undo()
    bench = made.made
    scheduler = Scheduler(bench.campaigns, made.streams, timers=bench.timers, workflows=bench.workflows, clock=bench.clock)
    for received in bench.queues.receive(scheduler_messages.SCHEDULER_QUEUE, limit=10, lease_s=5):
        scheduler.handle(received.body)
    assert len(bench.workflows.running(scheduler_messages.STREAM)) == 1


@pytest.mark.parametrize("change", [{"provider": "other"}, {"config_version": 2}], ids=["another provider", "its password, say"])
def test_a_changed_provider_begins_the_run_anew(made: TransactionalBench, change: dict[str, Any]) -> None:
    made.accept(request())

    async def run() -> None:
        sending = asyncio.create_task(made.sender().send_stream(made.ref, StopSignal(), lambda _reason: None))
        while made.states() != ["sent"]:
            await asyncio.sleep(0.005)
        vars(made).update(change)
        await asyncio.wait_for(sending, 5)

    asyncio.run(run())


def test_campaigns_leave_a_tenth_of_the_rate(made: TransactionalBench) -> None:
    route = ProviderRoute("relay", RateLimit(per_second=100, per_day=1_000), ScriptedMailer)
    route.set_limits(made.rates)
    now = made.clock.now()
    assert [made.rates.current(bucket, now) for bucket in route.bulk_buckets()] == [90, 100]
    granted = 0
    while count := made.rates.reserve(route.bulk_bucket, 1_000, made.clock.now()).count:
        granted += count
        made.clock.advance(2)
    assert granted == 900


def test_a_provider_without_limits_asks_one_bucket_only() -> None:
    assert ProviderRoute("relay", RateLimit(), ScriptedMailer).bulk_buckets() == ["provider:relay"]


def test_the_feed_tells_of_single_messages_as_of_any(made: TransactionalBench) -> None:
    (accepted,) = made.accept(request())
    made.send(sent(made, 1))
    feed = SqliteFeed(made.made.ledgers)
    changes = feed.read(f"default/{made.ref.campaign}", None).changes
    assert [(change.key, change.status) for change in changes] == [
        (accepted.key, MessageStatus.PENDING),
        (accepted.key, MessageStatus.SENT),
    ]


def test_after_the_lease_is_lost_nothing_is_handed_over_and_whoever_took_it_learns_all(
    made: TransactionalBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a sleep of the machine: one is on its way and slow, others were sent, the rest still waits."""
    monkeypatch.setattr("postroom.model.stream._BATCHES_LOG2", 0)
    made.accept(*(request(f"p{n}@example.org") for n in range(20)))
    bench, ref = made.made, made.ref
    thief = BatchLeases(bench.messages, bench.journals, made.clock, lease_ms=10**9)
    stolen: list[OpenBatch] = []
    made.mailer.answer = lambda _address: None if not made.mailer.held else ACCEPTED

    def steal_at_the_tenth(_address: str) -> None:
        if len(made.mailer.accepted) == 9 and not stolen:
            made.clock.advance(LEASE_MS / 1000 + 1)
            opened = thief.open(ref, 0, "thief")
            assert opened is not None
            stolen.append(opened)

    made.mailer.before_handing_over = steal_at_the_tenth
    with caplog.at_level("WARNING"):
        made.send(lambda: bool(stolen))
    assert "campaign.lease_lost" in caplog.text
    assert len(made.mailer.accepted) == 9
    assert thief.settle_left_open(ref, stolen[0], Policies(), wait=True)
    assert made.states() == ["pending"] * 11 + ["sent"] * 9
