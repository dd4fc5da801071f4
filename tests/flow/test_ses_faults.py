"""When connections break, only a message whose call was out is in doubt; no call is ever made twice behind the sender's back."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from postroom.platform.mail.port import Verdict
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliveries, message, send
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.flow.ses_kit import deliver, mailer_of, to


def verdicts(items: list[FakeDelivery]) -> list[Verdict]:
    return [item.verdict for item in items]


def large() -> FakeDelivery:
    return FakeDelivery("large@example.net", content=message(("x" * 70 + "\r\n") * 100_000))


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(
    ("action", "accepted"),
    [
        ("drop", False),
        ("cut", False),
        ("garble", False),
        ("accept_drop", True),
        ("accept_cut", True),
        ("accept_garble", True),
    ],
)
def test_no_whole_answer_is_unknown_and_only_that(action: str, accepted: bool, runner: Runner) -> None:
    items = deliveries(12)
    with SesSimulator([Rule(action, to="r5@*")]) as ses:
        runner(send(mailer_of(to(ses), policy=HASTY), items))
    assert verdicts(items[:5] + items[6:]) == [Verdict.ACCEPTED] * 11
    assert items[5].verdict is Verdict.UNKNOWN
    assert items[5].result.code == 0
    assert items[5].result.text.startswith("the request was sent and no answer came: ")
    assert (items[5].composed, items[5].handed_over) == (1, 1)
    assert sorted(ses.recipients()) == sorted(item.rcpt_to for item in items if item is not items[5] or accepted)
    assert ses.calls == 12


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("action", ["stall", "accept_stall"])
def test_an_answer_that_does_not_come_in_time_is_unknown_and_holds_nothing_up(action: str, runner: Runner) -> None:
    items = deliveries(6)
    began = time.monotonic()
    with SesSimulator([Rule(action, to="r3@*")]) as ses:
        runner(send(mailer_of(to(ses, answer_s=0.4)), items))
    assert time.monotonic() - began < 4
    assert items[3].verdict is Verdict.UNKNOWN
    assert "SES did not answer within 0.4 s" in items[3].result.text
    assert verdicts(items[:3] + items[4:]) == [Verdict.ACCEPTED] * 5
    assert ses.calls == 6


def test_two_answers_to_one_call_never_become_an_acceptance_of_the_next() -> None:
    items = deliveries(4)
    with SesSimulator([Rule("accept_twice", to="r1@*")]) as ses:
        deliver(to(ses, 1), items)
    assert verdicts(items) == [Verdict.ACCEPTED, Verdict.UNKNOWN, Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert [items[number].result.provider_id for number in (0, 2, 3)] == [ses.accepted[number].message_id for number in (0, 2, 3)]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("action", ["accept_close", "accept_hang_up"])
def test_an_answered_call_counts_though_the_connection_closes_after_each(action: str, runner: Runner) -> None:
    items = deliveries(1)
    with SesSimulator([Rule(action)]) as ses:
        runner(send(mailer_of(to(ses), policy=HASTY), items))
    assert verdicts(items) == [Verdict.ACCEPTED]


def test_connections_that_are_closed_as_announced_put_nothing_in_doubt() -> None:
    items = deliveries(40)
    with SesSimulator(options=Options(max_calls=3)) as ses:
        deliver(to(ses, 2), items)
    assert verdicts(items) == [Verdict.ACCEPTED] * 40
    assert ses.connections >= 13


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_large_call_that_breaks_on_the_way_has_risked_nothing(runner: Runner) -> None:
    item = large()
    with SesSimulator([Rule("drop_head", times=2)]) as ses:
        runner(send(mailer_of(to(ses, 1), policy=HASTY), [item]))
    assert item.verdict is Verdict.ACCEPTED
    assert (item.composed, item.handed_over) == (3, 1)
    assert len(ses.accepted) == 1


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_large_call_that_is_not_read_in_time_has_risked_nothing(runner: Runner) -> None:
    item = large()
    with SesSimulator([Rule("deafen", times=1)]) as ses:
        runner(send(mailer_of(to(ses, 1, answer_s=1.0), policy=HASTY), [item]))
    assert item.verdict is Verdict.ACCEPTED
    assert item.composed >= 2
    assert item.handed_over == 1


def test_a_message_that_breaks_every_connection_is_given_back_unsent() -> None:
    item = large()
    with SesSimulator([Rule("drop_head")]) as ses:
        deliver(to(ses, 1), [item])
    assert (item.verdict, item.handed_over) == (Verdict.UNSENT, 0)
    assert ses.accepted == []


def test_a_refusal_in_the_middle_of_a_large_call_is_the_answer() -> None:
    item = large()
    with SesSimulator([Rule("refuse", 400, "BadRequestException", "too large")]) as ses:
        deliver(to(ses, 1), [item])
    assert item.verdict in (Verdict.PERMANENT, Verdict.UNSENT)  # a reset may overtake the answer
    assert item.handed_over == 0


def test_a_delivery_that_may_not_be_handed_over_is_unsent_and_never_leaves() -> None:
    items = [*deliveries(3), large()]
    items[1].lets_go = items[3].lets_go = False
    with SesSimulator() as ses:
        deliver(to(ses, 1), items)
    assert verdicts(items) == [Verdict.ACCEPTED, Verdict.UNSENT, Verdict.ACCEPTED, Verdict.UNSENT]
    assert sorted(ses.recipients()) == ["r0@example.net", "r2@example.net"]


def test_a_delivery_that_raises_costs_itself_only() -> None:
    class Broken(FakeDelivery):
        def compose(self) -> bytes | None:
            raise ValueError("a bug")

    class BrokenLater(FakeDelivery):
        def handing_over(self) -> bool:
            raise ValueError("a bug")

    broken = [Broken("broken@example.net"), BrokenLater("later@example.net")]
    items = [*deliveries(4), *broken, *deliveries(4)]
    heard: list[dict[str, Any]] = []

    async def go(ses: SesSimulator) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        await send(mailer_of(to(ses)), items)

    with SesSimulator() as ses:
        asyncio.run(go(ses))
    assert verdicts(broken) == [Verdict.UNSENT] * 2
    assert {item.verdict for item in items if item not in broken} == {Verdict.ACCEPTED}
    assert len(heard) == 2
