"""The sender as a worker has it, from a campaign's record to its last outcome: what of the record reaches each message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.events.reputation import ReputationGuard
from postroom.ledger.audit import AuditLog
from postroom.ledger.providers import Providers
from postroom.ledger.rate_windows import RateCounts, RateWindows
from postroom.ledger.suppression import SuppressionEntry, SuppressionReason
from postroom.model.campaign import Campaign, CampaignStatus
from postroom.model.ids import recipient_key
from postroom.model.reputation import ReputationLimits
from postroom.pipeline.sender.context import StopSignal
from postroom.platform.mail.port import Result, Stage, Verdict
from tests.fakes.ledger import SECRET
from tests.fakes.mailer import ACCEPTED
from tests.fakes.secrets import PlainSecrets
from tests.fakes.transactional import TransactionalBench, request, transactional_bench

REFUSED = Result(Verdict.PERMANENT, 550, "5.1.1", "no such user", Stage.RCPT)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    with transactional_bench(tmp_path) as opened:
        yield opened


def campaign(made: TransactionalBench, *, topic: str | None = None, people: int = 10) -> Campaign:
    made.objects.put("default/html", b"<p>Hello</p>")
    stored = made.made.campaign(people=people)
    spec = replace(stored.spec, content=replace(stored.spec.content, topic=topic))
    return made.made.campaigns.change(stored, spec=spec, files=replace(stored.files, html_key="default/html"))


def send(made: TransactionalBench, wanted: Campaign) -> None:
    """Until the campaign is completed."""
    asyncio.run(made.sender().send(wanted.ref, StopSignal(), lambda _reason: None))
    assert made.made.campaigns.get(wanted.ref).status is CampaignStatus.COMPLETED


def leave_topic(made: TransactionalBench, address: str, topic: str | None) -> None:
    entry = SuppressionEntry(
        recipient_key(SECRET, address), address, SuppressionReason.UNSUBSCRIBE, made.clock.now(), topic=topic
    )
    made.suppression.add_all("default", [entry])


def test_whoever_left_a_campaigns_topic_since_its_import_gets_none_of_it(made: TransactionalBench) -> None:
    offers = campaign(made, topic="offers")
    leave_topic(made, "person2@example.com", "offers")
    leave_topic(made, "person3@example.com", "news")
    leave_topic(made, "person4@example.com", None)
    send(made, offers)
    assert sorted(made.mailer.accepted) == sorted(f"person{n}@example.com" for n in (3, *range(5, 12)))
    assert made.made.messages.counts(offers.ref).skipped == 2


def test_who_left_a_topic_gets_mail_without_one(made: TransactionalBench) -> None:
    leave_topic(made, "person2@example.com", "offers")
    send(made, campaign(made))
    assert len(made.mailer.accepted) == 10


def test_what_is_sent_and_what_is_refused_is_tallied_under_the_provider(made: TransactionalBench) -> None:
    made.mailer.answer = lambda address: REFUSED if address in ("person2@example.com", "p2@b.example") else ACCEPTED
    sent = campaign(made)
    send(made, sent)
    made.accept(request("p1@a.example"), request("p2@b.example"))
    made.send(lambda: "pending" not in made.states())
    minute = RateWindows(made.made.tables).read(made.clock.now() // 60_000)["default"]
    assert minute.campaigns == {sent.ref: RateCounts(10, hard=1), made.ref: RateCounts(2, hard=1)}
    assert minute.domains == {
        "example.com": RateCounts(10, hard=1),
        "a.example": RateCounts(1),
        "b.example": RateCounts(1, hard=1),
    }


def test_a_campaign_that_the_guard_pauses_stops_by_itself(made: TransactionalBench) -> None:
    """As with a pause by hand: the worker that sends it sees the record."""
    refused = {f"person{n}@example.com" for n in range(2, 302, 5)}
    answered: list[str] = []

    def answer(address: str) -> Result | None:
        if len(answered) >= 250:
            return None
        answered.append(address)
        return REFUSED if address in refused else ACCEPTED

    made.mailer.answer = answer
    wanted = campaign(made, people=300)
    made.made.campaigns.change(wanted, sending_since=made.clock.now())
    providers = Providers(made.made.tables, PlainSecrets(), made.clock, default_url="inbox:")
    audit = AuditLog(made.made.tables, PlainSecrets(), made.clock)
    guard = ReputationGuard(
        made.made.tables, made.made.campaigns, providers, audit=audit, clock=made.clock, limits=ReputationLimits()
    )

    async def sending() -> None:
        run = asyncio.create_task(made.sender().send(wanted.ref, StopSignal(), lambda _reason: None))
        async with asyncio.timeout(20):
            while len(answered) < 250:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(made.tally.flush)
            await asyncio.to_thread(guard.check)
            await run

    asyncio.run(sending())
    ended = made.made.campaigns.get(wanted.ref)
    assert ended.status is CampaignStatus.PAUSED
    assert "of messages bounced for good" in (ended.reason or "")
    counts = made.made.messages.counts(wanted.ref)
    assert (counts.sent + counts.bounced, counts.pending) == (250, 50)
