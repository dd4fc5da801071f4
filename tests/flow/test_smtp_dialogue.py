"""Every message comes to the end the server gave it, whatever the server's manners, and the standard is kept on the way."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import Dsn, SmtpConfig
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, Runner, deliver, deliveries, message, send
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink


def to(sink: SmtpSink, connections: int = 4) -> SmtpConfig:
    return SmtpConfig("127.0.0.1", sink.port, connections=connections)


MANNERS = {
    "pipelining": Options(),
    "one command at a time": Options(pipelining=False),
    "HELO only": Options(esmtp=False, pipelining=False),
    "many lines": Options(multiline=True),
    "bare LF": Options(bare_lf=True),
    "byte by byte": Options(split=1),
    "seven bytes at a time": Options(split=7, multiline=True),
    "354 to nobody": Options(data_without_recipient=True),
    "354 to nobody, one at a time": Options(data_without_recipient=True, pipelining=False),
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("options", MANNERS.values(), ids=MANNERS)
def test_every_message_ends_as_the_server_said(options: Options, runner: Runner) -> None:
    rules = [
        Rule("mail", "reply", 550, "5.1.8 bad sender", sender="b1@*"),
        Rule("mail", "reply", 451, "4.3.0 later", sender="b2@*"),
        Rule("rcpt", "reply", 550, "5.1.1 no such user", to="r3@*"),
        Rule("rcpt", "reply", 450, "4.2.0 Greylisted", to="r4@*"),
        Rule("data", "reply", 554, "5.5.0 no", to="r5@*"),
        Rule("data", "reply", 451, "4.5.0 no", to="r6@*"),
        Rule("dot", "reply", 554, "5.7.1 spam", to="r7@*"),
        Rule("dot", "reply", 452, "4.3.1 disk full", to="r8@*"),
        Rule("rcpt", "reply", 550, "5.1.1 no such user", to="r17@*"),
        Rule("rcpt", "reply", 550, "5.1.1 no such user", to="r18@*"),
        Rule("rcpt", "take", 251, "2.1.5 will forward", to="r19@*"),
    ]
    expected = {
        1: (Verdict.PERMANENT, 550, Stage.MAIL),
        2: (Verdict.TEMPORARY, 451, Stage.MAIL),
        3: (Verdict.PERMANENT, 550, Stage.RCPT),
        4: (Verdict.TEMPORARY, 450, Stage.RCPT),
        5: (Verdict.PERMANENT, 554, Stage.DATA),
        6: (Verdict.TEMPORARY, 451, Stage.DATA),
        7: (Verdict.PERMANENT, 554, Stage.CONTENT),
        8: (Verdict.TEMPORARY, 452, Stage.CONTENT),
        17: (Verdict.PERMANENT, 550, Stage.RCPT),
        18: (Verdict.PERMANENT, 550, Stage.RCPT),
    }
    items = deliveries(40)
    with SmtpSink(rules, options) as sink:
        runner(send(SmtpMailer(to(sink), policy=HASTY), items))
    for number, item in enumerate(items):
        result = item.result
        assert (result.verdict, result.code, result.stage) == expected.get(number, (Verdict.ACCEPTED, 250, Stage.CONTENT))
        assert not result.throttled
        assert item.composed == 1
        assert item.handed_over == (result.stage is Stage.CONTENT)
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items if item.verdict is Verdict.ACCEPTED)
    assert sink.violations == []
    assert items[0].result.provider_id
    assert items[3].result.enhanced == "5.1.1"
    assert items[3].result.text.endswith("no such user")


def test_one_message_costs_one_round_trip() -> None:
    """Every group after the first holds content, dot, MAIL, RCPT and DATA: as many reads at the server as messages."""
    with SmtpSink() as sink:
        deliver(to(sink, 1), deliveries(50))
    assert sink.reads == 1 + 1 + 50 + 1  # EHLO, the first envelope, fifty contents, QUIT


@pytest.mark.parametrize(
    "content",
    [
        b".\r\n",
        b"..\r\n.\r\n\r\n.a\r\n",
        b"a\r\n.\r\nMAIL FROM:<x@y>\r\n",
        b"a",
        b"\r\n",
        message("ä" * 500),
        message("x" * 70 + "\r\n.dot") * 4_000,
        b"." * 65_535 + b"\r\n" + b".\r\n" * 70_000,
    ],
    ids=["dot", "dots", "smuggling", "no line end", "empty", "eight bits", "large", "large with dots"],
)
@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_content_arrives_byte_for_byte(content: bytes, runner: Runner) -> None:
    items = [FakeDelivery(f"r{number}@x", content=content) for number in range(5)]
    with SmtpSink() as sink:
        runner(send(SmtpMailer(to(sink)), items))
    arrived = content if content.endswith(b"\r\n") else content + b"\r\n"
    assert [one.digest for one in sink.accepted] == [hashlib.sha256(arrived).hexdigest()] * 5
    assert sink.violations == []


def test_parameters_go_only_where_they_are_offered() -> None:
    items = [FakeDelivery("jürgen@x", content=message("ä")), FakeDelivery("r@x")]
    with SmtpSink() as sink:
        deliver(SmtpConfig("127.0.0.1", sink.port, dsn=Dsn.NEVER, connections=1), items)
    first, second = sink.accepted
    assert first.recipient == "jürgen@x"
    assert {"SMTPUTF8", "BODY=8BITMIME", "RET=HDRS"} <= set(first.mail_params.split())
    assert first.rcpt_params == second.rcpt_params == "NOTIFY=NEVER"
    assert not {"SMTPUTF8", "BODY=8BITMIME"} & set(second.mail_params.split())


def test_what_the_server_cannot_take_is_refused_without_sending_it() -> None:
    items = [
        FakeDelivery("jürgen@x"),
        FakeDelivery("a@x", content=message("ä")),
        FakeDelivery("b@x", content=message("x" * 2000)),
    ]
    items.append(FakeDelivery("r@x"))
    with SmtpSink(options=Options(smtputf8=False, eightbit=False, size=1000)) as sink:
        deliver(to(sink, 1), items)
    assert [(item.verdict, item.result.enhanced) for item in items[:3]] == [
        (Verdict.PERMANENT, "5.6.7"),
        (Verdict.PERMANENT, "5.6.3"),
        (Verdict.PERMANENT, "5.3.4"),
    ]
    assert sink.recipients() == ["r@x"]
    assert not any(command.startswith("RCPT TO:<b@x>") for command in sink.commands)


def test_a_server_that_takes_a_recipient_of_a_refused_sender_gets_no_empty_message() -> None:
    """MAIL 550, RCPT 250, DATA 354: a lone dot would be an empty message to somebody."""
    rules = [Rule("mail", "take", 550, "5.1.8 no", sender="b0@*")]
    items = deliveries(3)
    with SmtpSink(rules, Options(data_without_recipient=True)) as sink:
        deliver(to(sink, 1), items)
    assert items[0].verdict is Verdict.PERMANENT
    assert sorted(sink.recipients()) == ["r1@example.net", "r2@example.net"]
    assert sink.dots == sink.recipients()


def test_a_delivery_that_is_not_to_be_sent_after_all_is_passed_over() -> None:
    items = deliveries(6)
    for item in items[::2]:
        item.content = None

    async def go(config: SmtpConfig) -> None:
        mailer = SmtpMailer(config)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        while not all(item.results for item in items[1::2]):
            await asyncio.sleep(0.01)
        await mailer.close(1)

    with SmtpSink() as sink:
        asyncio.run(go(to(sink, 1)))
    assert [len(item.results) for item in items] == [0, 1, 0, 1, 0, 1]
    assert sorted(sink.recipients()) == [item.rcpt_to for item in items[1::2]]


def test_a_withheld_message_never_ends_and_settles_unsent() -> None:
    items = deliveries(20)
    for item in items[3::4]:
        item.lets_go = False
    with SmtpSink() as sink:
        deliver(to(sink, 2), items)
    for item in items:
        assert item.verdict is (Verdict.ACCEPTED if item.lets_go else Verdict.UNSENT)
    assert sorted(sink.recipients()) == sorted(item.rcpt_to for item in items if item.lets_go)
    assert sorted(sink.dots) == sorted(sink.recipients())


def test_a_large_message_is_withheld_before_its_last_piece() -> None:
    """The lease may be lost while ten megabytes leave: the dot must still not."""
    item = FakeDelivery("r@x", content=message("x" * 70 + "\r\n") * 30_000)
    item.lets_go = False
    with SmtpSink() as sink:
        deliver(to(sink, 1), [item])
    assert item.verdict is Verdict.UNSENT
    assert sink.dots == []


def test_deliveries_submitted_by_a_settling_one_are_sent() -> None:
    items = deliveries(30)

    async def go(config: SmtpConfig) -> None:
        mailer = SmtpMailer(config)
        await mailer.start()
        done = asyncio.get_running_loop().create_future()
        rest = iter(items[1:])

        def following(_: Result) -> None:
            following_one = next(rest, None)
            if following_one is None:
                done.set_result(None)
            else:
                mailer.submit(following_one)

        for item in items:
            item.then = following
        mailer.submit(items[0])
        await asyncio.wait_for(done, 10)
        await mailer.close(1)

    with SmtpSink() as sink:
        asyncio.run(go(to(sink)))
    assert {item.verdict for item in items} == {Verdict.ACCEPTED}
    assert sink.connections == 1
