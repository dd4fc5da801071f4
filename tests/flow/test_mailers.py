"""What both mailers promise, over SMTP and SES alike: connections come and go as there is work, messages wait in the queue rather
than fail, and each is settled exactly once. What differs is in test_smtp_* and test_ses_*."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest

from postroom.errors import Conflict
from postroom.platform.mail._pooled_mailer import PooledMailer
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.connection_pool import ConnectionBudget
from postroom.platform.mail.port import Result, Verdict
from postroom.platform.mail.ses_url import SesConfig
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import SmtpConfig
from tests.fakes import smtp_rules
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliveries, send, until
from tests.fakes.ses_simulator import rules as ses_rules
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.smtp_sink import SmtpSink
from tests.flow.ses_kit import mailer_of

PATIENT = BreakerPolicy(threshold=3, first_wait_s=60, stubborn_wait_s=60)
Server = SmtpSink | SesSimulator


class Kind(ABC):
    """A provider that misbehaves at will, and the mailer for it."""

    @abstractmethod
    def server(self, action: str = "", *, seconds: float = 0.0, times: int = 0) -> AbstractContextManager[Server]:
        """`action`: `late`, `stall`, `accept_drop`, or `down` (it takes no message). `times`: 0 for always."""

    @abstractmethod
    def mailer(self, port: int, connections: int = 4, *, idle_s: float = 5.0, **options: Any) -> PooledMailer: ...


class Smtp(Kind):
    def server(self, action: str = "", *, seconds: float = 0.0, times: int = 0) -> AbstractContextManager[Server]:
        if action == "down":
            return SmtpSink([smtp_rules.Rule("connect", "hang_up", 421, "4.3.2 shutting down", times=times)])
        return SmtpSink([smtp_rules.Rule("dot", action, seconds=seconds, times=times)] if action else [])

    def mailer(self, port: int, connections: int = 4, *, idle_s: float = 5.0, **options: Any) -> PooledMailer:
        return SmtpMailer(SmtpConfig("127.0.0.1", port, connections=connections, idle_s=idle_s), **options)


class Ses(Kind):
    def server(self, action: str = "", *, seconds: float = 0.0, times: int = 0) -> AbstractContextManager[Server]:
        if action == "down":
            return SesSimulator([ses_rules.Rule("error", 403, "InvalidClientTokenId", "shutting down", times=times or None)])
        return SesSimulator([ses_rules.Rule(action, seconds=seconds, times=times or None)] if action else [])

    def mailer(self, port: int, connections: int = 4, *, idle_s: float = 5.0, **options: Any) -> PooledMailer:
        options_of_account = ses_rules.Options()
        config = SesConfig(
            "eu-west-1",
            configuration_set="postroom",
            access_key_id=options_of_account.access_key_id,
            secret_access_key=options_of_account.secret_access_key,
            endpoint=f"http://127.0.0.1:{port}",
        )
        return mailer_of(replace(config, connections=connections, idle_s=idle_s), **options)


@pytest.fixture(params=[Smtp(), Ses()], ids=["smtp", "ses"])
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture(params=list(RUNNERS.values()), ids=list(RUNNERS))
def runner(request: pytest.FixtureRequest) -> Runner:
    run: Runner = request.param
    return run


def accepted(items: list[FakeDelivery], server: Server) -> None:
    assert {item.verdict for item in items} == {Verdict.ACCEPTED}
    assert sorted(server.recipients()) == sorted(item.rcpt_to for item in items)


def submit(mailer: PooledMailer, items: list[FakeDelivery]) -> None:
    for item in items:
        mailer.submit(item)


def test_one_message_opens_one_connection_and_many_open_up_to_the_limit(kind: Kind) -> None:
    for count, most in ((1, 1), (200, 4)):
        items = deliveries(count)
        with kind.server("late", seconds=0.01) as server:
            asyncio.run(send(kind.mailer(server.port, policy=HASTY), items))
        accepted(items, server)
        assert server.connections == most


def test_idle_connections_are_closed_and_new_work_opens_new_ones(kind: Kind, runner: Runner) -> None:
    items = deliveries(8)

    async def go(server: Server) -> None:
        mailer = kind.mailer(server.port, 2, idle_s=0.1)
        await mailer.start()
        for half in (items[:4], items[4:]):
            submit(mailer, half)
            await until(lambda half=half: all(item.results for item in half))  # type: ignore[misc]
            await until(lambda: not server.open)
        assert mailer.health().connections == 0
        await mailer.close(1)

    with kind.server() as server:
        runner(go(server))
    accepted(items, server)


def test_a_provider_that_cannot_be_reached_is_a_reason_and_no_message_fails(kind: Kind) -> None:
    items = deliveries(5)

    async def go(port: int) -> None:
        mailer = kind.mailer(port, policy=replace(PATIENT, threshold=1))
        await mailer.start()
        submit(mailer, items)
        await until(lambda: not mailer.health().open)
        assert f"127.0.0.1:{port} refused the connection" in mailer.health().reason
        assert 0 < mailer.health().retry_in_s <= 60
        assert mailer.waiting == 5
        await mailer.close(0)

    with kind.server() as server:
        port = server.port
    asyncio.run(go(port))
    assert {item.verdict for item in items} == {Verdict.UNSENT}


def test_the_breaker_opens_says_why_and_closes_when_the_provider_is_back(kind: Kind, runner: Runner) -> None:
    items = deliveries(10)

    async def go(server: Server) -> None:
        mailer = kind.mailer(
            server.port, policy=replace(HASTY, threshold=2, first_wait_s=0.3, longest_wait_s=0.3, stubborn_wait_s=0.3)
        )
        await mailer.start()
        submit(mailer, items)
        await until(lambda: not mailer.health().open)
        assert "shutting down" in mailer.health().reason
        assert mailer.waiting == 10
        await until(lambda: all(item.results for item in items))
        assert (mailer.health().open, mailer.health().reason) == (True, "")
        await mailer.close(1)

    with kind.server("down", times=3) as server:
        runner(go(server))
    accepted(items, server)


def test_mailers_to_one_provider_divide_its_connections_and_have_them_back(kind: Kind) -> None:
    """A large campaign gives up what a second one needs. The provider sees one connection too many at most: the newcomer's first."""
    large, small = deliveries(600), deliveries(100)

    async def go(server: Server) -> None:
        budget = ConnectionBudget(4)
        first, second = (kind.mailer(server.port, budget=budget) for _ in range(2))
        await first.start()
        await second.start()
        submit(first, large)
        await until(lambda: first.health().connections == 4)
        submit(second, small)
        await until(lambda: second.health().connections == 2 and first.health().connections == 2)
        await until(lambda: all(item.results for item in small))
        await until(lambda: first.health().connections == 4 or all(item.results for item in large))
        await until(lambda: all(item.results for item in large), 30)
        await first.close(1)
        await second.close(1)

    with kind.server("late", seconds=0.01) as server:
        asyncio.run(go(server))
    accepted([*large, *small], server)
    assert server.most_at_once <= 5


def test_a_mailer_without_work_leaves_its_share_to_the_others(kind: Kind) -> None:
    items = deliveries(40)

    async def go(server: Server) -> None:
        budget = ConnectionBudget(4)
        idle, busy = (kind.mailer(server.port, budget=budget) for _ in range(2))
        await idle.start()
        await send(busy, items)
        assert idle.health().connections == 0
        await idle.close(1)

    with kind.server("late", seconds=0.02) as server:
        asyncio.run(go(server))
    assert server.connections == 4


def test_close_settles_everything_as_it_stands(kind: Kind, runner: Runner) -> None:
    items = deliveries(20)
    settled: list[Result] = []

    async def go(server: Server) -> None:
        mailer = kind.mailer(server.port, 2)
        await mailer.start()
        for item in items:
            item.then = settled.append
        submit(mailer, items)
        await until(lambda: mailer.health().in_flight >= 1)
        in_flight = mailer.health().in_flight
        await mailer.close(0.2)
        assert len(settled) == len(items)
        assert [item.verdict for item in items].count(Verdict.UNKNOWN) >= in_flight
        assert asyncio.all_tasks() == {asyncio.current_task()}
        late = FakeDelivery("late@x")
        mailer.submit(late)
        assert late.verdict is Verdict.UNSENT

    with kind.server("stall") as server:
        runner(go(server))
    assert {item.verdict for item in items} == {Verdict.UNKNOWN, Verdict.UNSENT}
    assert all(item.verdict is Verdict.UNKNOWN for item in items if item.handed_over)
    assert server.accepted == []


def test_close_gives_what_is_in_flight_its_time(kind: Kind) -> None:
    items = deliveries(6)

    async def go(server: Server) -> None:
        mailer = kind.mailer(server.port, 1)
        await mailer.start()
        submit(mailer, items)
        await until(lambda: mailer.health().in_flight == 1)
        await mailer.close(5)

    with kind.server("late", seconds=0.3) as server:
        asyncio.run(go(server))
    sent = [item for item in items if item.verdict is Verdict.ACCEPTED]
    assert 1 <= len(sent) <= 2
    assert [item.rcpt_to for item in sent] == server.recipients()
    assert {item.verdict for item in items[len(sent) :]} == {Verdict.UNSENT}


def test_recall_settles_the_queue_at_once_and_leaves_what_has_begun(kind: Kind) -> None:
    items = deliveries(10)

    async def go(server: Server) -> None:
        mailer = kind.mailer(server.port, 1)
        await mailer.start()
        submit(mailer, items)
        assert mailer.waiting == 10
        await until(lambda: mailer.health().in_flight == 1)
        waiting = mailer.waiting
        mailer.recall()
        assert mailer.waiting == 0
        assert sum(bool(item.results) for item in items) == waiting
        await until(lambda: all(item.results for item in items))
        again = FakeDelivery("again@x")
        mailer.submit(again)
        await until(lambda: bool(again.results))
        assert again.verdict is Verdict.ACCEPTED
        await mailer.close(1)

    with kind.server("late", seconds=0.2, times=2) as server:
        asyncio.run(go(server))
    assert {item.verdict for item in items} == {Verdict.ACCEPTED, Verdict.UNSENT}


def test_a_message_with_nothing_to_send_holds_nothing_up(kind: Kind) -> None:
    items = deliveries(5)
    items[2].content = None
    asked = items[:2] + items[3:]

    async def go(server: Server) -> None:
        mailer = kind.mailer(server.port, 1)
        await mailer.start()
        submit(mailer, items)
        await until(lambda: all(item.results for item in asked))
        await mailer.close(1)

    with kind.server() as server:
        asyncio.run(go(server))
    accepted(asked, server)
    assert items[2].results == []


def test_a_message_that_may_not_be_handed_over_is_unsent_and_never_sent(kind: Kind) -> None:
    items = deliveries(4)
    items[1].lets_go = items[3].lets_go = False
    with kind.server() as server:
        asyncio.run(send(kind.mailer(server.port, 1, policy=HASTY), items))
    assert [item.verdict for item in items] == [Verdict.ACCEPTED, Verdict.UNSENT, Verdict.ACCEPTED, Verdict.UNSENT]
    assert sorted(server.recipients()) == ["r0@example.net", "r2@example.net"]


def test_a_message_that_cannot_be_composed_costs_itself_only(kind: Kind, runner: Runner) -> None:
    class Broken(FakeDelivery):
        def compose(self) -> bytes | None:
            raise ValueError("a bug")

    broken = Broken("broken@example.net")
    items = [*deliveries(4), broken]
    reported: list[dict[str, Any]] = []

    async def go(server: Server) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        await send(kind.mailer(server.port, 1), items)

    with kind.server() as server:
        runner(go(server))
    assert broken.verdict is Verdict.UNSENT
    accepted(items[:4], server)
    assert len(reported) == 1


def test_a_mailer_starts_once(kind: Kind) -> None:
    async def go() -> None:
        mailer = kind.mailer(1)
        with pytest.raises(Conflict):
            mailer.submit(FakeDelivery("r@x"))
        mailer.recall()
        assert (mailer.waiting, mailer.health().open) == (0, True)
        await mailer.start()
        with pytest.raises(Conflict):
            await mailer.start()
        await mailer.close(0)

    asyncio.run(go())
