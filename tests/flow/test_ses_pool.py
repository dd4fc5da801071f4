"""Connections to SES come and go as there is work; deliveries wait in line rather than fail."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from postroom.clock import Instant, SystemClock
from postroom.errors import Conflict, Denied, Unavailable
from postroom.platform.mail._aws_auth import AwsCredentials
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import Verdict
from postroom.platform.mail.ses import SesMailer
from postroom.platform.mail.ses_url import SesConfig
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliveries, until
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.flow.ses_kit import deliver, mailer_of, to

PATIENT = BreakerPolicy(threshold=3, first_wait_s=60, stubborn_wait_s=60)
KEYS = AwsCredentials("AKIDEXAMPLE", Options().secret_access_key)


def accepted(items: list[FakeDelivery], ses: SesSimulator) -> None:
    assert {item.verdict for item in items} == {Verdict.ACCEPTED}
    assert sorted(ses.recipients()) == sorted(item.rcpt_to for item in items)


def test_one_message_opens_one_connection_and_many_open_up_to_the_limit() -> None:
    for count, most in ((1, 1), (200, 4)):
        items = deliveries(count)
        with SesSimulator([Rule("late", seconds=0.01)]) as ses:
            deliver(to(ses), items)
        accepted(items, ses)
        assert ses.connections == most


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_idle_connections_are_closed_and_new_work_opens_new_ones(runner: Runner) -> None:
    items = deliveries(8)

    async def go(ses: SesSimulator) -> None:
        mailer = mailer_of(to(ses, 2, idle_s=0.1))
        await mailer.start()
        for half in (items[:4], items[4:]):
            for item in half:
                mailer.submit(item)
            await until(lambda half=half: all(item.results for item in half))  # type: ignore[misc]
            await until(lambda: not ses.open)
        assert mailer.health().connections == 0
        await mailer.close(1)

    with SesSimulator() as ses:
        runner(go(ses))
    accepted(items, ses)


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


def test_an_endpoint_that_cannot_be_reached_is_a_reason_and_nobody_is_failed() -> None:
    items = deliveries(5)

    async def go(port: int) -> None:
        config = SesConfig("eu-west-1", endpoint=f"http://127.0.0.1:{port}")
        mailer = SesMailer(config, source=lambda: KEYS, policy=replace(PATIENT, threshold=1))
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        assert f"127.0.0.1:{port} cannot be reached" in mailer.health().reason
        assert mailer.waiting == 5
        await mailer.close(0)

    with SesSimulator() as ses:
        port = ses.port
    asyncio.run(go(port))
    assert {item.verdict for item in items} == {Verdict.UNSENT}


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
        mailer = SesMailer(to(ses), source=lambda: given.pop(0) if len(given) > 1 else given[0], policy=HASTY)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: all(item.results for item in items))
        await mailer.close(1)

    with SesSimulator(options=Options(session_token="new")) as ses:
        asyncio.run(go(ses))
    accepted(items, ses)


def test_keys_are_renewed_before_they_run_out() -> None:
    clock, asked = SystemClock(), list[AwsCredentials]()

    def source() -> AwsCredentials:
        minutes = 1 if not asked else 60
        asked.append(replace(KEYS, expires_at=Instant(clock.now() + minutes * 60_000)))
        return asked[-1]

    async def go(ses: SesSimulator) -> None:
        mailer = SesMailer(to(ses, 1), source=source)
        await mailer.start()
        mailer.submit(FakeDelivery("a@x"))
        await until(lambda: len(ses.accepted) == 1)
        mailer._pool._keys._not_before = 0.0  # type: ignore[union-attr] # half a minute has passed
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
        mailer = SesMailer(to(ses), source=source, policy=replace(PATIENT, threshold=1))
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


def test_mailers_of_one_account_divide_its_connections() -> None:
    large, small = deliveries(400), deliveries(60)

    async def go(ses: SesSimulator) -> None:
        share = ConnectionBudget(4)
        first, second = (mailer_of(to(ses, 4), share=share) for _ in range(2))
        await first.start()
        await second.start()
        for item in large:
            first.submit(item)
        await until(lambda: first.health().connections == 4)
        for item in small:
            second.submit(item)
        await until(lambda: second.health().connections == 2 and first.health().connections == 2)
        await until(lambda: all(item.results for item in [*large, *small]), 30)
        await first.close(1)
        await second.close(1)

    with SesSimulator([Rule("late", seconds=0.01)]) as ses:
        asyncio.run(go(ses))
    accepted([*large, *small], ses)
    assert ses.most_at_once <= 5


def test_a_mailer_starts_once() -> None:
    async def go() -> None:
        mailer = SesMailer(SesConfig("eu-west-1"), source=lambda: KEYS)
        with pytest.raises(Conflict):
            mailer.submit(FakeDelivery("r@x"))
        mailer.recall()
        assert (mailer.waiting, mailer.health().open) == (0, True)
        await mailer.start()
        with pytest.raises(Conflict):
            await mailer.start()
        await mailer.close(0)

    asyncio.run(go())
