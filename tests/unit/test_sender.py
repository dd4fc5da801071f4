"""One worker and one campaign, with a scripted mailer: intent before effect, outcomes recorded, a lost lease respected."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.delivery.compose import Composed, Composer, RowError
from postroom.delivery.outcome import Backoff, OutcomeRules
from postroom.errors import Corrupt, StorageFull, Unavailable
from postroom.ledger.batches import BatchLeases
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason
from postroom.model.batch import OpenBatch
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus, Policies, UnknownPolicy
from postroom.model.ids import Key
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.pipeline.sender.context import SendContext, SendJob
from postroom.pipeline.sender.provider_route import ProviderRoute
from postroom.pipeline.sender.rate_gate import RateGate
from postroom.pipeline.sender.run import campaign_run
from postroom.pipeline.sender.thread_bridge import ThreadBridge
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.mail.port import Health, Result, Stage, Verdict
from postroom.platform.ports.rates import RateLimit
from postroom.platform.ports.tables import ItemKey, Put
from tests.fakes.ledger import Bench, bench
from tests.fakes.mailer import ACCEPTED, ScriptedMailer

LEASE_MS = 10_000


class PlainComposer(Composer):
    """Composes nothing to speak of; `bad` addresses lack a value."""

    def __init__(self, bad: Sequence[str] = ()) -> None:
        self.bad = frozenset(bad)

    def compose(self, batch: int, recipient: Recipient, now: Instant, *, person: Key | None = None) -> Composed:
        if recipient.address in self.bad:
            raise RowError(f"Row at line {recipient.line}: no value for first_name.")
        return Composed("news@example.com", recipient.address, b"Subject: x\r\n\r\nx\r\n")


class Worker:
    """Sends the campaigns of a bench."""

    def __init__(self, made: Bench, rates: SqliteRates) -> None:
        self.made = made
        self.rates = rates
        self.mailer = ScriptedMailer()
        self.composer = PlainComposer()
        self.messages = made.messages
        self.suppression = SuppressionList(made.tables, made.clock)
        self.stopping: asyncio.Event | None = None
        self.topic: str | None = None

    def send(self, campaign: Campaign, *, unknown: UnknownPolicy = UnknownPolicy.NEVER_TWICE) -> None:
        """Until the run ends by itself."""
        asyncio.run(self._send(campaign, unknown))

    async def _send(self, campaign: Campaign, unknown: UnknownPolicy) -> None:
        made, threads = self.made, ThreadBridge()
        self.stopping = asyncio.Event()
        journal = made.journals.begin(campaign.ref.campaign)
        rules = OutcomeRules(
            Policies(unknown=unknown, settle_after_ms=5_000), Instant(made.clock.now() + 60_000), Backoff(first_ms=60_000)
        )
        route = ProviderRoute("x", RateLimit(), lambda: self.mailer)
        context = SendContext(
            job=SendJob(campaign.ref, self.composer.compose, rules, route, [route.bucket], topic=lambda _recipient: self.topic),
            batches=BatchLeases(self.messages, made.journals, made.clock, lease_ms=LEASE_MS),
            messages=self.messages,
            suppression=self.suppression,
            journal=journal,
            mailer=self.mailer,
            rate_gate=RateGate(self.rates, ["provider:x"], threads, made.clock, self.mailer),
            threads=threads,
            clock=made.clock,
            stopping=self.stopping,
        )
        try:
            await asyncio.wait_for(campaign_run(context, made.campaigns, made.finish, drain_s=1).run(), 20)
        finally:
            threads.close()
            journal.close()

    async def send_and_stop(self, campaign: Campaign, *, after_s: float) -> None:
        """As `send`, told to stop in the middle."""
        sending = asyncio.create_task(self._send(campaign, UnknownPolicy.NEVER_TWICE))
        await asyncio.sleep(after_s)
        self.stop()
        await sending

    def stop(self) -> None:
        """As SIGTERM does."""
        assert self.stopping is not None
        self.stopping.set()
        self.mailer.recall()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with bench(tmp_path) as made:
        rates = SqliteRates(tmp_path / "rates.db")
        yield Worker(made, rates)
        rates.close()


def _counts(worker: Worker, campaign: Campaign) -> dict[str, int]:
    return {name: count for name, count in worker.made.messages.counts(campaign.ref).as_dict().items() if count}


def _refuse(refused: str, result: Result) -> Callable[[str], Result | None]:
    return lambda address: result if address == refused else ACCEPTED


def test_everybody_is_sent_to_once_and_the_campaign_is_completed(worker: Worker) -> None:
    campaign = worker.made.campaign(people=300, batches=2)
    worker.send(campaign)
    assert sorted(worker.mailer.accepted) == sorted(f"person{line}@example.com" for line in range(2, 302))
    assert _counts(worker, campaign) == {"sent": 300}
    assert worker.made.campaigns.get(campaign.ref).status is CampaignStatus.COMPLETED


def test_intent_is_durable_before_the_first_byte_leaves(worker: Worker, tmp_path: Path) -> None:
    campaign = worker.made.campaign(people=300, batches=1)
    sending: list[int] = []
    worker.mailer.before_handing_over = lambda _address: sending.append(worker.made.messages.counts(campaign.ref).sending)
    worker.send(campaign)
    assert len(sending) == 300
    assert set(sending) == {128, 300 - 2 * 128}


def test_results_become_states(worker: Worker) -> None:
    campaign = worker.made.campaign(people=10, batches=1)
    no_such_user = Result(Verdict.PERMANENT, 550, "5.1.1", "no such user", Stage.RCPT)
    results = {
        "person2@example.com": no_such_user,
        "person3@example.com": Result(Verdict.PERMANENT, 554, "5.7.1", "spam", Stage.CONTENT),
        "person4@example.com": Result(Verdict.UNKNOWN, text="the connection broke"),
    }
    worker.mailer.answer = lambda address: results.get(address, ACCEPTED)
    worker.send(campaign)
    assert _counts(worker, campaign) == {"sent": 7, "bounced": 1, "failed": 1, "unknown": 1}


def test_a_row_that_cannot_be_composed_fails_alone_with_the_reason(worker: Worker) -> None:
    campaign = worker.made.campaign(people=5, batches=1)
    worker.composer = PlainComposer(bad=["person3@example.com"])
    worker.send(campaign)
    assert _counts(worker, campaign) == {"sent": 4, "failed": 1}
    (failed,) = worker.made.messages.list(campaign.ref, statuses=[MessageStatus.FAILED]).messages
    assert failed.reply == "Row at line 3: no value for first_name."


def test_whoever_was_suppressed_since_the_import_is_skipped(worker: Worker) -> None:
    campaign = worker.made.campaign(people=5, batches=1)
    (first, *_) = worker.made.messages.load(campaign.ref, 0, worker.made.clock.now(), 10)
    entry = SuppressionEntry(first.key, first.address, SuppressionReason.UNSUBSCRIBE, worker.made.clock.now())
    worker.suppression.add_all(campaign.ref.tenant, [entry])
    worker.send(campaign)
    assert first.address not in worker.mailer.accepted
    assert _counts(worker, campaign) == {"sent": 4, "skipped": 1}


def test_whoever_left_the_topic_since_the_import_is_skipped_and_whoever_left_another_is_not(worker: Worker) -> None:
    campaign = worker.made.campaign(people=5, batches=1)
    first, second, *_ = worker.made.messages.load(campaign.ref, 0, worker.made.clock.now(), 10)
    for recipient, topic in ((first, "offers"), (second, "news")):
        worker.suppression.add("default", recipient.key, address="", reason=SuppressionReason.UNSUBSCRIBE, topic=topic)
    worker.topic = "offers"
    worker.send(campaign)
    assert first.address not in worker.mailer.accepted
    assert _counts(worker, campaign) == {"sent": 4, "skipped": 1}


def test_stopping_leaves_the_rest_as_it_was_and_loses_no_outcome(worker: Worker) -> None:
    campaign = worker.made.campaign(people=300, batches=1)

    def stop_at_the_tenth(_address: str) -> None:
        if len(worker.mailer.accepted) == 9:
            worker.stop()
            worker.mailer.answer = lambda _later: None

    worker.mailer.before_handing_over = stop_at_the_tenth
    worker.send(campaign)
    assert _counts(worker, campaign) == {"sent": len(worker.mailer.accepted), "pending": 300 - len(worker.mailer.accepted)}
    assert len(worker.mailer.accepted) == 10


def test_after_the_lease_is_lost_nothing_is_handed_over_and_whoever_took_it_learns_all(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a sleep of the machine: the lease is over, the worker is not."""
    campaign = worker.made.campaign(people=100, batches=1)
    ref, made = campaign.ref, worker.made
    thief = BatchLeases(made.messages, made.journals, made.clock, lease_ms=10**9)
    stolen: list[OpenBatch] = []

    def steal_at_the_tenth(_address: str) -> None:
        if len(worker.mailer.accepted) == 9 and not stolen:
            made.clock.advance(LEASE_MS / 1000 + 1)
            opened = thief.open(ref, 0, "thief")
            assert opened is not None
            stolen.append(opened)
            assert not thief.settle_left_open(ref, opened, campaign.policies, wait=True)
            made.campaigns.transition(made.campaigns.get(ref), CampaignStatus.PAUSED)

    worker.mailer.before_handing_over = steal_at_the_tenth
    with caplog.at_level(logging.WARNING):
        worker.send(campaign)
    assert "campaign.lease_lost" in caplog.text
    assert len(worker.mailer.accepted) == 9
    assert thief.settle_left_open(ref, stolen[0], campaign.policies, wait=True)
    assert _counts(worker, campaign) == {"sent": 9, "pending": 91}


def test_stopping_while_a_live_owner_is_waited_for_leaves_its_group_in_doubt(worker: Worker) -> None:
    """Or whoever comes next would take its messages for never handed over, and send them again."""
    campaign = worker.made.campaign(people=40, batches=1)
    ref, made = campaign.ref, worker.made
    batches = BatchLeases(made.messages, made.journals, made.clock, lease_ms=LEASE_MS)
    stopped = made.journals.begin(ref.campaign)
    first = batches.open(ref, 0, stopped.owner)
    assert first is not None
    group = made.messages.load(ref, 0, made.clock.now(), 128)
    batches.record(ref, first, [], group)
    made.clock.advance(LEASE_MS / 1000 + 1)
    asyncio.run(worker.send_and_stop(campaign, after_s=0.3))
    assert worker.mailer.accepted == []
    after = batches.open(ref, 0, "next")
    assert after is not None
    assert after.left_open is not None
    assert after.left_open.keys == tuple(recipient.key for recipient in group)


def test_a_look_at_the_campaign_that_fails_does_not_blind_the_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = worker.made.campaign(people=100, batches=1)
    monkeypatch.setattr("postroom.pipeline.sender.run._LOOK_S", 0.01)
    worker.mailer.answer = lambda _address: None  # nothing is ever answered: only the pause ends the run
    looks = 0
    real = worker.made.campaigns.get

    def failing(ref: CampaignRef) -> Campaign:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise Unavailable("the disk is busy")
        if looks == 3:
            worker.made.campaigns.transition(real(ref), CampaignStatus.PAUSED)
        return real(ref)

    monkeypatch.setattr(worker.made.campaigns, "get", failing)
    worker.send(campaign)
    assert _counts(worker, campaign) == {"pending": 100}


def test_a_provider_that_is_to_be_tried_again_is_tried_with_one_batch(worker: Worker) -> None:
    """Or nothing would ever leave: the mailer connects only for what is in its line."""
    campaign = worker.made.campaign(people=300, batches=3)
    worker.mailer.closed = [Health(open=False, reason="refused", retry_in_s=0.0, connections=0, in_flight=0)] * 3
    worker.send(campaign)
    assert _counts(worker, campaign) == {"sent": 300}


def test_a_full_disk_gets_a_moment_and_loses_no_outcome(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = worker.made.campaign(people=20, batches=1)
    full = FullDisk(worker.made.messages, times=2)
    monkeypatch.setattr("postroom.pipeline.sender.batch._WRITE_WAIT_S", 0.0)
    worker.messages = full
    worker.send(campaign)
    assert full.times == 0
    assert _counts(worker, campaign) == {"sent": 20}


def test_a_disk_that_stays_full_ends_the_run_with_the_reason(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = worker.made.campaign(people=20, batches=1)
    monkeypatch.setattr("postroom.pipeline.sender.batch._WRITE_WAIT_S", 0.0)
    worker.messages = FullDisk(worker.made.messages, times=1_000)
    with pytest.raises(StorageFull, match="Make room"):
        worker.send(campaign)
    assert worker.mailer.accepted == []


def test_without_a_journal_nothing_is_handed_over(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = worker.made.campaign(people=20, batches=1)

    def no_room(_page: object, _key: Key) -> None:
        raise StorageFull("Cannot write the page. Make room.")

    monkeypatch.setattr("postroom.platform.embedded.journal.FilePage.handing", no_room)
    worker.send(campaign)
    assert worker.mailer.accepted == []
    assert _counts(worker, campaign) == {"pending": 20}


class FullDisk(SqliteMessages):
    """Refuses `record` so many times once a group was open."""

    def __init__(self, real: SqliteMessages, *, times: int) -> None:
        self.__dict__.update(real.__dict__)
        self.times = times

    def record(self, *args: Any, **kwargs: Any) -> None:
        settled: Sequence[Settlement] = args[3]
        if (settled or self.times > 100) and self.times:
            self.times -= 1
            raise StorageFull("Cannot write the ledger. Make room and go on.")
        super().record(*args, **kwargs)


def test_nothing_is_sent_that_nobody_can_stop(worker: Worker) -> None:
    """Where the record can be read no more, nobody would notice a pause."""
    campaign = worker.made.campaign(people=300, batches=2)
    worker.mailer.answer = lambda _address: None
    place = ItemKey(f"{campaign.ref.tenant}#campaigns", campaign.ref.campaign)
    worker.made.tables.write([Put(place, {"status": "odd"})])
    begun = time.monotonic()
    with pytest.raises(Corrupt):
        worker.send(campaign)
    assert time.monotonic() - begun < 10, "it went on until the test ended it"
    assert _counts(worker, campaign) == {"pending": 300}
