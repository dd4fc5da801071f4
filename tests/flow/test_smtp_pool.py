"""Connections come and go as there is work and as the relay allows; deliveries wait in line rather than fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from postroom.errors import Invalid
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.port import Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import SmtpConfig, Tls
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliver, deliveries, until
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink


def to(sink: SmtpSink, connections: int = 4, **changes: Any) -> SmtpConfig:
    return replace(SmtpConfig("127.0.0.1", sink.port, connections=connections), **changes)


def accepted(items: list[FakeDelivery], sink: SmtpSink) -> None:
    assert {item.verdict for item in items} == {Verdict.ACCEPTED}
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items)


def test_a_connection_is_replaced_after_its_share() -> None:
    items = deliveries(100)
    with SmtpSink() as sink:
        deliver(to(sink, 2, reuse=10), items)
    accepted(items, sink)
    carried = [sum(one.connection == number for one in sink.accepted) for number in range(1, sink.connections + 1)]
    assert max(carried) == 10
    assert sink.commands.count("QUIT") == sink.connections
    assert sink.violations == []


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_idle_connections_say_goodbye_and_new_work_opens_new_ones(runner: Runner) -> None:
    items = deliveries(8)

    async def go(sink: SmtpSink) -> None:
        mailer = SmtpMailer(to(sink, 2, idle_s=0.1))
        await mailer.start()
        for half in (items[:4], items[4:]):
            for item in half:
                mailer.submit(item)
            await until(lambda half=half: all(item.results for item in half))  # type: ignore[misc]
            await until(lambda: not sink.open)
        assert mailer.health().connections == 0
        await mailer.close(1)

    with SmtpSink() as sink:
        runner(go(sink))
    accepted(items, sink)
    assert sink.commands.count("QUIT") == sink.connections


def test_a_connection_the_server_closed_while_idle_costs_nothing() -> None:
    items = deliveries(2)

    async def go(sink: SmtpSink) -> None:
        mailer = SmtpMailer(to(sink))
        await mailer.start()
        mailer.submit(items[0])
        await until(lambda: bool(items[0].results))
        session = next(iter(sink.open))
        sink.loop.call_soon_threadsafe(session.say, 421, "4.4.2 idle for too long")
        sink.loop.call_soon_threadsafe(session.end)
        await until(lambda: mailer.health().connections == 0)
        mailer.submit(items[1])
        await until(lambda: bool(items[1].results))
        assert mailer.health().reason == ""
        await mailer.close(1)

    with SmtpSink() as sink:
        asyncio.run(go(sink))
    accepted(items, sink)
    assert items[1].composed == 1


@pytest.mark.parametrize("action", ["hang_up", "drop"])
def test_a_relay_that_takes_few_connections_shrinks_the_pool_and_fails_nobody(action: str) -> None:
    items = deliveries(300)

    async def go(sink: SmtpSink) -> None:
        mailer = SmtpMailer(to(sink, 16), policy=HASTY)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: mailer.health().reason != "")
        health = mailer.health()
        assert health.open
        assert health.connections <= 3
        assert "of 16 connections: 127.0.0.1" in health.reason
        await until(lambda: all(item.results for item in items))
        await mailer.close(1)

    options = Options(max_connections=3)
    with SmtpSink([Rule("dot", "late", seconds=0.01)], options) as sink:
        asyncio.run(go(sink))
    accepted(items, sink)
    assert sink.connections < 30


def test_a_relay_that_is_away_for_a_while_delays_and_fails_nobody() -> None:
    items = deliveries(30)
    rules = [Rule("connect", "hang_up", 421, "4.3.2 too many connections", times=3), Rule("ehlo", "drop", times=3)]
    with SmtpSink(rules) as sink:
        deliver(to(sink), items)
    accepted(items, sink)
    assert all(item.composed == 1 for item in items)


def test_while_the_relay_fails_it_is_tried_one_connection_at_a_time() -> None:
    async def go(sink: SmtpSink) -> int:
        mailer = SmtpMailer(to(sink, 16), policy=BreakerPolicy(threshold=3, first_wait_s=60))
        await mailer.start()
        for item in deliveries(50):
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        await mailer.close(0)
        return sink.connections

    with SmtpSink([Rule("connect", "drop")]) as sink:
        assert asyncio.run(go(sink)) == 3


def test_sessions_that_break_before_any_answer_open_the_breaker_too() -> None:
    """A relay that greets and then drops at the first MAIL is as good as none: the line must not be burnt through."""
    items = deliveries(40)

    async def go(sink: SmtpSink) -> None:
        mailer = SmtpMailer(to(sink, 8), policy=BreakerPolicy(threshold=3, first_wait_s=60))
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        assert mailer.waiting == 40
        assert sink.connections == 3
        await mailer.close(0)

    with SmtpSink([Rule("mail", "drop")]) as sink:
        asyncio.run(go(sink))
    assert {item.verdict for item in items} == {Verdict.UNSENT}


def test_closing_while_connecting_leaves_nothing_behind() -> None:
    items = deliveries(3)

    async def go(sink: SmtpSink) -> None:
        mailer = SmtpMailer(to(sink))
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: sink.connections > 0)
        await mailer.close(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with SmtpSink([Rule("connect", "stall")]) as sink:
        asyncio.run(go(sink))
    assert {item.verdict for item in items} == {Verdict.UNSENT}


def test_a_mailer_starts_only_with_a_readable_ca_file() -> None:
    async def go() -> None:
        with pytest.raises(Invalid, match="ca_file=/no/such"):
            await SmtpMailer(SmtpConfig("127.0.0.1", tls=Tls.TLS, ca_file="/no/such")).start()

    asyncio.run(go())


def _reason_of_waiting(config: SmtpConfig) -> str:
    """What is said while nothing can be sent; the message waits in line."""
    items, reasons = deliveries(1), list[str]()

    async def go() -> None:
        mailer = SmtpMailer(config, policy=BreakerPolicy(threshold=1, first_wait_s=60))
        await mailer.start()
        mailer.submit(items[0])
        await until(lambda: not mailer.health().open)
        reasons.append(mailer.health().reason)
        assert mailer.waiting == 1
        await mailer.close(0)

    asyncio.run(go())
    assert items[0].verdict is Verdict.UNSENT
    return reasons[0]


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_a_name_no_host_can_have_is_a_reason_in_words(host: str) -> None:
    assert f"{host} is not a valid host name" in _reason_of_waiting(SmtpConfig(host))


def test_no_failure_to_connect_is_lost_not_even_an_unforeseen_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("postroom.platform.mail.smtp.open_session", broken)
    assert _reason_of_waiting(SmtpConfig("127.0.0.1")) == "ZeroDivisionError: a mistake of ours"
    assert "ZeroDivisionError" in caplog.text
