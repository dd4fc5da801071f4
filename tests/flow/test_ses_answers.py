"""What SES says becomes a verdict: about the message, or about the account, and never a recipient's fault where it is not."""

from __future__ import annotations

import asyncio
import email
import email.policy
from dataclasses import dataclass, replace

import pytest

from postroom.model.ids import Key
from postroom.model.tokens import MessageRef, parse_ses_tags
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.port import Verdict
from postroom.platform.ports.rates import RateLimit
from tests.fakes.delivery import FakeDelivery, deliveries, message, until
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.flow.ses_kit import deliver, mailer_of, to

PATIENT = BreakerPolicy(threshold=3, first_wait_s=60, stubborn_wait_s=60)


def test_a_message_arrives_as_it_was_composed_with_its_tags() -> None:
    content = b"From: =?utf-8?q?Caf=C3=A9?= <news@example.com>\r\nSubject: x\r\n\r\n.dot\r\nna\xc3\xafve\r\n"
    item = FakeDelivery("r@example.net", content=content, mail_from="b-token@bounces.example.com")
    item.ref = MessageRef(7, "abcdefgh23456722", 12, Key(b"k" * 12), 3)
    with SesSimulator() as ses:
        deliver(to(ses), [item])
    (taken,) = ses.accepted
    assert taken.content == content
    assert (taken.recipient, taken.sender, taken.configuration_set) == ("r@example.net", "news@example.com", "postroom")
    assert parse_ses_tags({name: [value] for name, value in taken.tags.items()}) == item.ref
    assert (item.verdict, item.result.code, item.result.provider_id) == (Verdict.ACCEPTED, 200, taken.message_id)
    assert ses.violations == []


def test_a_message_of_none_carries_no_tags_and_needs_no_configuration_set() -> None:
    item = FakeDelivery("r@example.net")
    with SesSimulator() as ses:
        deliver(to(ses, configuration_set=None), [item])
    (taken,) = ses.accepted
    assert (taken.tags, taken.configuration_set) == ({}, None)


@pytest.mark.parametrize(
    ("field", "sender"),
    [
        ("a@example.com", "a@example.com"),
        ("A Name <a@example.com>", "a@example.com"),
        ('"A <b@example.org>" <a@example.com>', "a@example.com"),
        ("=?utf-8?q?A?=\r\n =?utf-8?q?B?= <a@example.com>", "a@example.com"),
        ("A long name that is folded before its address\r\n <a@example.com>", "a@example.com"),
        ("ü@example.com", ""),
    ],
)
def test_the_sender_is_the_mailbox_in_from_as_a_mail_reader_sees_it(field: str, sender: str) -> None:
    content = f"From: {field}\r\nTo: x@example.net\r\n\r\nFrom: other@example.org\r\n".encode()
    item = FakeDelivery("r@example.net", content=content)
    with SesSimulator() as ses:
        deliver(to(ses), [item])
    assert ses.accepted[0].sender == sender
    if sender:
        seen = email.message_from_bytes(content, policy=email.policy.default)["From"].addresses
        assert [address.addr_spec for address in seen] == [sender]


@dataclass(frozen=True)
class Said:
    status: int
    kind: str
    text: str
    verdict: Verdict
    throttled: bool = False


SAID = [
    Said(429, "TooManyRequestsException", "Maximum sending rate exceeded.", Verdict.TEMPORARY, throttled=True),
    Said(400, "ThrottlingException", "Rate exceeded", Verdict.TEMPORARY, throttled=True),
    Said(429, "", "", Verdict.TEMPORARY, throttled=True),
    Said(429, "TooManyRequestsException", "Daily message quota exceeded.", Verdict.TEMPORARY, throttled=True),
    Said(400, "LimitExceededException", "too many", Verdict.TEMPORARY, throttled=True),
    Said(400, "SendingPausedException", "paused", Verdict.TEMPORARY),
    Said(400, "AccountSuspendedException", "suspended", Verdict.TEMPORARY),
    Said(403, "AccessDeniedException", "not authorized to perform ses:SendEmail", Verdict.TEMPORARY),
    Said(400, "MessageRejected", "Email address is not verified.", Verdict.PERMANENT),
    Said(400, "BadRequestException", "no", Verdict.PERMANENT),
    Said(400, "MailFromDomainNotVerifiedException", "no", Verdict.PERMANENT),
    Said(413, "", "", Verdict.PERMANENT),
    Said(400, "SomethingNewException", "?", Verdict.TEMPORARY),
    Said(409, "ConflictException", "?", Verdict.TEMPORARY),
    Said(500, "InternalFailure", "oops", Verdict.UNKNOWN),
    Said(503, "ServiceUnavailable", "", Verdict.UNKNOWN),
    Said(502, "", "", Verdict.UNKNOWN),
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: f"{said.status} {said.kind or 'plain'} {said.text[:5]}")
def test_an_answer_is_one_messages_verdict(said: Said) -> None:
    items = deliveries(3)
    with SesSimulator([Rule("error", said.status, said.kind, said.text, to="r1@*")]) as ses:
        deliver(to(ses), items)
    result = items[1].result
    assert (result.verdict, result.throttled, result.code) == (said.verdict, said.throttled, said.status)
    assert said.kind in result.text
    assert said.text in result.text
    assert [items[0].verdict, items[2].verdict] == [Verdict.ACCEPTED] * 2
    assert ses.calls == 3


@pytest.mark.parametrize(
    "kind", ["SendingPausedException", "AccountSuspendedException", "AccessDeniedException", "LimitExceededException"]
)
def test_an_account_that_may_not_send_costs_one_message_at_a_time(kind: str) -> None:
    """The others wait in line, and somebody is told why."""
    items = deliveries(20)

    async def go(ses: SesSimulator) -> None:
        mailer = mailer_of(to(ses, 1), policy=PATIENT)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        health = mailer.health()
        assert kind in health.reason
        assert health.retry_in_s > 20
        assert mailer.waiting == 19
        await mailer.close(0)

    with SesSimulator([Rule("error", 400, kind, "no")]) as ses:
        asyncio.run(go(ses))
    assert [item.verdict for item in items].count(Verdict.TEMPORARY) == 1
    assert ses.calls == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("UnrecognizedClientException", Options(access_key_id="ANOTHER")),
        ("InvalidSignatureException", Options(secret_access_key="another")),
        ("NotFoundException", Options(configuration_sets=())),
    ],
)
def test_who_is_not_let_in_costs_nobody_anything(kind: str, options: Options) -> None:
    items = deliveries(10)

    async def go(ses: SesSimulator) -> None:
        config = replace(to(ses), access_key_id="AKIDEXAMPLE", secret_access_key=Options().secret_access_key)
        mailer = mailer_of(config, policy=PATIENT)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        assert kind in mailer.health().reason
        assert mailer.waiting == 10
        await mailer.close(0)

    with SesSimulator(options=options) as ses:
        asyncio.run(go(ses))
    assert {item.verdict for item in items} == {Verdict.UNSENT}
    assert ses.accepted == []


def test_an_account_that_may_send_again_goes_on_by_itself() -> None:
    items = deliveries(20)
    with SesSimulator([Rule("error", 400, "SendingPausedException", "paused", times=3)]) as ses:
        deliver(to(ses), items)
    verdicts = [item.verdict for item in items]
    assert (verdicts.count(Verdict.TEMPORARY), verdicts.count(Verdict.ACCEPTED)) == (3, 17)


def test_throttling_is_said_and_fails_nobody() -> None:
    items = deliveries(40)
    with SesSimulator(options=Options(rate=10)) as ses:
        deliver(to(ses), items)
    slowed = [item for item in items if item.verdict is Verdict.TEMPORARY]
    assert 20 <= len(slowed) <= 30
    assert all(item.result.throttled for item in slowed)
    assert len(ses.accepted) == 40 - len(slowed)


@pytest.mark.parametrize(
    ("item", "enhanced"),
    [
        (FakeDelivery("two words@example.net"), "5.1.3"),
        (FakeDelivery("no-domain"), "5.1.3"),
        (FakeDelivery('a"},{"b@example.net'), "5.1.3"),
        (FakeDelivery("jürgen@example.net"), "5.6.7"),
        (FakeDelivery("r@example.net", content=message("x") + b"x" * 41 * 1024 * 1024), "5.3.4"),
    ],
    ids=["a space", "no domain", "JSON", "not ASCII", "too large"],
)
def test_what_cannot_be_sent_is_refused_before_a_byte_leaves(item: FakeDelivery, enhanced: str) -> None:
    other = FakeDelivery("r@example.net")
    with SesSimulator() as ses:
        deliver(to(ses), [item, other])
    assert (item.verdict, item.result.enhanced, item.handed_over) == (Verdict.PERMANENT, enhanced, 0)
    assert other.verdict is Verdict.ACCEPTED
    assert ses.calls == 1


def test_what_the_account_allows_is_read() -> None:
    async def go(ses: SesSimulator) -> RateLimit:
        return await mailer_of(to(ses)).read_limits()

    with SesSimulator(options=Options(rate=14, quota=50_000)) as ses:
        assert asyncio.run(go(ses)) == RateLimit(14.0, 50_000)
    with SesSimulator(options=Options(rate=14)) as ses:
        assert asyncio.run(go(ses)) == RateLimit(14.0, None)


def test_a_running_mailer_follows_what_the_account_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.platform.mail.ses._ACCOUNT_S", 0.02)
    told: list[RateLimit] = []

    async def go(ses: SesSimulator) -> None:
        mailer = mailer_of(to(ses), on_limits=told.append)
        await mailer.start()
        await until(lambda: RateLimit(14.0, None) in told)
        ses.options.rate = 28.0
        await until(lambda: RateLimit(28.0, None) in told)
        await mailer.close(0)

    with SesSimulator(options=Options(rate=14)) as ses:
        asyncio.run(go(ses))
