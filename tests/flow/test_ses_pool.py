"""Connections to SES come and go as there is work; deliveries wait in line rather than fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from postroom.clock import Instant
from postroom.errors import Denied, Unavailable
from postroom.platform.mail._aws_auth import AwsCredentials
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.port import Verdict
from postroom.platform.mail.ses import SesMailer
from tests.fakes.clock import ManualClock
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliveries, until
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.flow.ses_kit import FakeCredentials, mailer_of, to

PATIENT = BreakerPolicy(threshold=3, first_wait_s=60, stubborn_wait_s=60)
KEYS = AwsCredentials("AKIDEXAMPLE", Options().secret_access_key)


def accepted(items: list[FakeDelivery], ses: SesSimulator) -> None:
    assert {item.verdict for item in items} == {Verdict.ACCEPTED}
    assert sorted(ses.recipients()) == sorted(item.rcpt_to for item in items)


def test_a_connection_that_is_closed_while_idle_costs_nothing() -> None:
    items = deliveries(2)

    async def go(ses: SesSimulator) -> None:
        mailer = mailer_of(to(ses))
        await mailer.start()
        mailer.submit(items[0])
        await until(lambda: bool(items[0].results))
        session = next(iter(ses.open))
        ses.loop.call_soon_threadsafe(session.transport.close)
        await until(lambda: mailer.health().connections == 0)
        mailer.submit(items[1])
        await until(lambda: bool(items[1].results))
        assert mailer.health().reason == ""
        await mailer.close(1)

    with SesSimulator() as ses:
        asyncio.run(go(ses))
    accepted(items, ses)


def test_answers_that_are_lost_one_after_the_other_open_the_breaker() -> None:
    """An outage must not put a whole campaign in doubt."""
    items = deliveries(200)

    async def go(ses: SesSimulator) -> None:
        mailer = mailer_of(to(ses), policy=PATIENT)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open and mailer.health().in_flight == 0)
        assert mailer.waiting >= 190
        await mailer.close(0)

    with SesSimulator([Rule("error", 503, "ServiceUnavailable", "down")]) as ses:
        asyncio.run(go(ses))
    assert 3 <= [item.verdict for item in items].count(Verdict.UNKNOWN) <= 10


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_the_breaker_tries_with_one_and_closes_when_ses_is_back(runner: Runner) -> None:
    items = deliveries(60)

    async def go(ses: SesSimulator) -> None:
        mailer = mailer_of(to(ses), policy=HASTY)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: all(item.results for item in items))
        assert (mailer.health().open, mailer.health().reason) == (True, "")
        await mailer.close(1)

    with SesSimulator([Rule("error", 500, "InternalFailure", "down", times=12)]) as ses:
        runner(go(ses))
    assert [item.verdict for item in items].count(Verdict.UNKNOWN) == 12
    assert len(ses.accepted) == 48


def test_keys_that_ran_out_are_replaced_and_no_message_is_lost() -> None:
    items = deliveries(30)
    given = [
        AwsCredentials("AKIDEXAMPLE", KEYS.secret_access_key, "old"),
        AwsCredentials("AKIDEXAMPLE", KEYS.secret_access_key, "new"),
    ]

    async def go(ses: SesSimulator) -> None:
        mailer = SesMailer(to(ses), source=FakeCredentials(lambda: given.pop(0) if len(given) > 1 else given[0]), policy=HASTY)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: all(item.results for item in items))
        await mailer.close(1)

    with SesSimulator(options=Options(session_token="new")) as ses:
        asyncio.run(go(ses))
    accepted(items, ses)


def test_keys_are_renewed_before_they_run_out() -> None:
    clock, asked = ManualClock(), list[AwsCredentials]()

    def source() -> AwsCredentials:
        minutes = 2 if not asked else 60
        asked.append(replace(KEYS, expires_at=Instant(clock.now() + minutes * 60_000)))
        return asked[-1]

    async def go(ses: SesSimulator) -> None:
        mailer = SesMailer(to(ses, 1), source=FakeCredentials(source), clock=clock)
        await mailer.start()
        mailer.submit(FakeDelivery("a@x"))
        await until(lambda: len(ses.accepted) == 1)
        clock.advance(31)
        mailer.submit(FakeDelivery("b@x"))
        await until(lambda: len(ses.accepted) == 2 and len(asked) == 2)
        mailer.submit(FakeDelivery("c@x"))
        await until(lambda: len(ses.accepted) == 3)
        await mailer.close(1)

    with SesSimulator() as ses:
        asyncio.run(go(ses))
    assert len(asked) == 2


@pytest.mark.parametrize("error", [Denied("no credentials for AWS were found"), Unavailable("the role gives no credentials")])
def test_without_keys_deliveries_wait_and_somebody_is_told(error: Exception) -> None:
    items = deliveries(3)

    def source() -> AwsCredentials:
        raise error

    async def go(ses: SesSimulator) -> None:
        mailer = SesMailer(to(ses), source=FakeCredentials(source), policy=replace(PATIENT, threshold=1))
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        assert mailer.health().reason == str(error)
        assert mailer.waiting == 3
        await mailer.close(0)

    with SesSimulator() as ses:
        asyncio.run(go(ses))
    assert {item.verdict for item in items} == {Verdict.UNSENT}
    assert ses.connections == 0
