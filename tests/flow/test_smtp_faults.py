"""When connections break, only a message whose final dot was out is in doubt; what stood behind it is sent anew, once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from postroom.platform.mail.port import Stage, Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import SmtpConfig
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliver, deliveries, message, send
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink


def to(sink: SmtpSink, connections: int = 2, **changes: Any) -> SmtpConfig:
    return replace(SmtpConfig("127.0.0.1", sink.port, connections=connections, idle_s=0.2), **changes)


def verdicts(items: list[FakeDelivery]) -> list[Verdict]:
    return [item.verdict for item in items]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one at a time"])
@pytest.mark.parametrize(
    ("action", "accepted"),
    [
        ("drop", False),
        ("reset", False),
        ("cut", False),
        ("garble", False),
        ("accept_drop", True),
        ("accept_cut", True),
        ("accept_garble", True),
    ],
)
def test_no_whole_answer_to_the_dot_is_unknown_and_only_that(
    action: str, accepted: bool, pipelining: bool, runner: Runner
) -> None:
    items = deliveries(12)
    with SmtpSink([Rule("dot", action, to="r5@*")], Options(pipelining=pipelining)) as sink:
        runner(send(SmtpMailer(to(sink), policy=HASTY), items))
    assert verdicts(items[:5] + items[6:]) == [Verdict.ACCEPTED] * 11
    assert items[5].verdict is Verdict.UNKNOWN
    assert items[5].result.code == 0
    assert items[5].result.text.startswith("the final dot went out and no answer came: ")
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items if item is not items[5] or accepted)


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one at a time"])
@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("action", ["drop", "reset", "cut", "garble", "hang_up"])
def test_what_broke_before_the_dot_is_sent_anew(action: str, stage: str, pipelining: bool) -> None:
    rule = Rule(stage, action, 421, "4.3.0 shutting down", sender="b5@*", to="*" if stage == "mail" else "r5@*", times=2)
    items = deliveries(12)
    with SmtpSink([rule], Options(pipelining=pipelining)) as sink:
        deliver(to(sink), items)
    # A reset also destroys what the server had answered to the dot before it.
    assert set(verdicts(items)) <= {Verdict.ACCEPTED, Verdict.UNKNOWN if action == "reset" else Verdict.ACCEPTED}
    assert items[5].verdict is Verdict.ACCEPTED
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items)
    assert items[5].composed == 3
    assert items[5].handed_over == 1


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_message_that_breaks_every_connection_is_given_back_unsent(stage: str) -> None:
    rule = Rule(stage, "drop", sender="b1@*", to="*" if stage == "mail" else "r1@*")
    items = deliveries(4)
    with SmtpSink([rule]) as sink:
        deliver(to(sink), items)
    assert items[1].verdict is Verdict.UNSENT
    assert "connections in a row broke on it or refused it" in items[1].result.text
    assert verdicts(items[:1] + items[2:]) == [Verdict.ACCEPTED] * 3
    assert sorted(sink.recipients()) == ["r0@example.net", "r2@example.net", "r3@example.net"]


def test_a_message_answered_421_again_and_again_is_temporary() -> None:
    items = deliveries(4)
    with SmtpSink([Rule("rcpt", "hang_up", 421, "4.3.0 no", to="r1@*")]) as sink:
        deliver(to(sink), items)
    assert (items[1].verdict, items[1].result.code, items[1].result.stage) == (Verdict.TEMPORARY, 421, Stage.RCPT)
    assert verdicts(items[:1] + items[2:]) == [Verdict.ACCEPTED] * 3


def test_421_to_the_dot_is_an_answer_and_what_stood_behind_is_sent_anew() -> None:
    items = deliveries(12)
    with SmtpSink([Rule("dot", "hang_up", 421, "4.3.2 shutting down", every=4)]) as sink:
        deliver(to(sink), items)
    refused = [item for item in items if item.verdict is Verdict.TEMPORARY]
    assert len(refused) == 3
    assert {(item.result.code, item.result.stage, item.result.throttled) for item in refused} == {(421, Stage.CONTENT, True)}
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items if item not in refused)


def test_an_answered_dot_counts_though_the_server_closes_after_each() -> None:
    items = deliveries(20)
    with SmtpSink([Rule("dot", "accept_close")]) as sink:
        deliver(to(sink), items)
    assert verdicts(items) == [Verdict.ACCEPTED] * 20
    assert len(sink.accepted) == 20


def test_a_new_connection_answered_by_a_throttling_421_is_the_senders_pace() -> None:
    items = deliveries(1)
    with SmtpSink([Rule("mail", "hang_up", 421, "4.7.0 too many messages", times=1)]) as sink:
        deliver(to(sink), items)
    assert (items[0].verdict, items[0].result.throttled) == (Verdict.TEMPORARY, True)


def test_throttling_is_said_and_never_permanent() -> None:
    items = deliveries(30)
    with SmtpSink(options=Options(rate=10)) as sink:
        deliver(to(sink), items)
    slowed = [item for item in items if item.verdict is Verdict.TEMPORARY]
    assert 10 <= len(slowed) <= 20
    assert all(item.result.throttled for item in slowed)
    assert len(sink.accepted) == 30 - len(slowed)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("action", ["stall", "drip", "accept_stall"])
def test_a_server_that_never_ends_its_answer_to_the_dot_holds_nothing_up(action: str, runner: Runner) -> None:
    items = deliveries(6)
    began = time.monotonic()
    with SmtpSink([Rule("dot", action, to="r3@*")]) as sink:
        runner(send(SmtpMailer(to(sink, dot_s=0.4, idle_s=5)), items))
    assert time.monotonic() - began < 4
    assert items[3].verdict is Verdict.UNKNOWN
    assert "did not answer the final dot within 0.4 s" in items[3].result.text
    assert verdicts(items[:3] + items[4:]) == [Verdict.ACCEPTED] * 5


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data"])
@pytest.mark.parametrize("action", ["stall", "drip"])
def test_a_server_that_never_ends_its_answer_to_a_command_is_left(stage: str, action: str) -> None:
    items = deliveries(3)
    with SmtpSink([Rule(stage, action, times=1, seconds=0.02)]) as sink:
        deliver(to(sink, command_s=0.3, greeting_s=0.3), items)
    assert verdicts(items) == [Verdict.ACCEPTED] * 3
    assert len(sink.accepted) == 3


def test_a_server_that_takes_no_content_is_left_and_nothing_was_risked() -> None:
    item = FakeDelivery("r@x", content=message("x" * 70 + "\r\n") * 100_000)
    with SmtpSink([Rule("content", "deafen", times=1)]) as sink:
        deliver(to(sink, 1, command_s=0.4), [item])
    assert item.verdict is Verdict.ACCEPTED
    assert (item.composed, item.handed_over) == (2, 1)
    assert len(sink.accepted) == 1


@pytest.mark.parametrize(
    ("action", "code", "verdict"),
    [("hang_up", 552, Verdict.PERMANENT), ("hang_up", 452, Verdict.TEMPORARY), ("drop", 0, Verdict.UNSENT)],
)
def test_a_refusal_in_the_middle_of_large_content_is_the_answer(action: str, code: int, verdict: Verdict) -> None:
    item = FakeDelivery("r@x", content=message("x" * 70 + "\r\n") * 100_000)
    with SmtpSink([Rule("content", action, code, "5.3.4 too big")]) as sink:
        deliver(to(sink, 1), [item])
    assert item.verdict is verdict
    assert item.result.code == code
    assert item.handed_over == 0
    assert sink.accepted == []


def test_replies_to_nothing_never_become_an_acceptance() -> None:
    """A server out of step: one reply too many behind 354 must not be taken for the answer to the dot."""
    items = deliveries(3)
    with SmtpSink([Rule("data", "reply", 354, "go\r\n250 2.0.0 ok", times=1)]) as sink:
        deliver(to(sink, 1), items)
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items if item.verdict is Verdict.ACCEPTED)
    assert verdicts(items) == [Verdict.ACCEPTED] * 3


def test_a_delivery_that_raises_costs_its_connection_only() -> None:
    class Broken(FakeDelivery):
        def compose(self) -> bytes | None:
            raise ValueError("a bug")

    class BrokenLater(FakeDelivery):
        tries = 0

        def handing_over(self) -> bool:
            self.tries += 1
            if self.tries == 1:
                raise ValueError("a bug")
            return True

    broken, later = Broken("broken@x"), BrokenLater("later@x")
    items = [*deliveries(4), broken, later, *deliveries(4)]
    heard: list[dict[str, Any]] = []

    async def go(config: SmtpConfig) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        await send(SmtpMailer(config, policy=HASTY), items)

    for runner in RUNNERS.values():
        for item in items:
            item.results.clear()
        later.tries = 0
        heard.clear()
        with SmtpSink() as sink:
            runner(go(to(sink)))
        assert broken.verdict is Verdict.UNSENT
        assert {item.verdict for item in items if item is not broken} == {Verdict.ACCEPTED}
        assert len(sink.accepted) == len(items) - 1
        assert len(heard) == 2
