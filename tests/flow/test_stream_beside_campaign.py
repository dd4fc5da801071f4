"""A single message leaves while a campaign runs in the same worker, whatever the campaign has in line before it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import SystemClock
from postroom.model.campaign import Campaign
from postroom.model.message import MessageStatus
from postroom.pipeline.sender.context import StopSignal
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import parse_smtp_url
from postroom.platform.ports.rates import RateLimit
from tests.fakes.delivery import until
from tests.fakes.smtp_sink import Options, SmtpSink
from tests.fakes.transactional import TransactionalBench, request, transactional_bench

QUIET = Options(keep_content=False)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    with transactional_bench(tmp_path) as opened:
        yield opened


def campaign(made: TransactionalBench, people: int) -> Campaign:
    """One that is sending."""
    made.objects.put("html", b"<p>News</p>")
    return made.made.campaign(people=people, batches=max(2, people // 500))


async def single_beside(made: TransactionalBench, sink: SmtpSink, people: int) -> int:
    """Submit a single message in the middle of a campaign; how many of the campaign had been accepted when it was."""
    bulk = campaign(made, people)
    sender, stopping = made.sender(SystemClock()), asyncio.Event()
    sending = asyncio.create_task(sender.send(bulk.ref, StopSignal(stopping), lambda _reason: None))
    stream = asyncio.create_task(sender.send_stream(made.ref, StopSignal(stopping), lambda _reason: None))
    try:
        made.streams.make(made.ref)
        await until(lambda: len(sink.accepted) >= people // 10, 20)
        (accepted,) = await asyncio.to_thread(made.accept, request("single@example.org"))
        await until(lambda: made.message(accepted).status is MessageStatus.SENT, 20)
        await until(sending.done, 30)
    finally:
        stopping.set()
        await asyncio.gather(sending, stream)
    return sink.recipients().index("single@example.org")


def test_it_does_not_wait_for_the_end_of_the_campaign(made: TransactionalBench) -> None:
    people = 8_000
    with SmtpSink([], QUIET) as sink:
        made.mailers = lambda: SmtpMailer(parse_smtp_url(f"smtp://127.0.0.1:{sink.port}?tls=none&connections=8"))
        before = asyncio.run(single_beside(made, sink, people))
    assert len(sink.accepted) == people + 1
    assert before < people * 0.9


def test_it_finds_room_where_the_campaign_takes_all_of_the_rate_it_may(made: TransactionalBench) -> None:
    people = 400
    made.limit = RateLimit(per_second=100)
    with SmtpSink([], QUIET) as sink:
        made.mailers = lambda: SmtpMailer(parse_smtp_url(f"smtp://127.0.0.1:{sink.port}?tls=none&connections=8"))
        before = asyncio.run(single_beside(made, sink, people))
    assert before < people * 0.7
