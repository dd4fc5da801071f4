"""Whatever a server does to whichever messages, each settles exactly once, and its verdict is what the server really did."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.platform.mail.port import Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import SmtpConfig
from tests.fakes.delivery import HASTY, RUNNERS, FakeDelivery, deliveries, send
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink

COUNT = 24
BEFORE = ("reply", "hang_up", "drop", "cut", "garble")
AT_DOT = (*BEFORE, "accept_drop", "accept_cut", "accept_garble", "accept_close")

codes = st.sampled_from(
    [(421, "4.3.0 bye"), (450, "4.2.0 later"), (452, "4.7.0 too fast"), (550, "5.1.1 no"), (554, "5.7.1 spam")]
)


@st.composite
def faults(draw: st.DrawFn) -> Rule:
    """One way to treat one recipient, once, twice or always; or every so manieth message, whoever it is for."""
    stage = draw(st.sampled_from(["mail", "rcpt", "data", "content", "dot", "dot"]))
    action = draw(st.sampled_from(AT_DOT if stage == "dot" else ["hang_up", "drop"] if stage == "content" else BEFORE))
    code, text = draw(codes)
    times = draw(st.sampled_from([0, 1, 2]))
    rule = Rule(stage, action, code, text, times=times)
    if draw(st.booleans()):
        return replace(rule, every=draw(st.integers(3, 9)))
    number = draw(st.integers(0, COUNT - 1))
    return replace(rule, sender=f"b{number}@example.com", to="*" if stage == "mail" else f"r{number}@example.net")


servers = st.builds(
    Options,
    pipelining=st.booleans(),
    multiline=st.booleans(),
    bare_lf=st.booleans(),
    data_without_recipient=st.booleans(),
    split=st.sampled_from([0, 0, 0, 11]),
    max_connections=st.sampled_from([0, 0, 2]),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rules=st.lists(faults(), max_size=10),
    options=servers,
    connections=st.integers(1, 5),
    reuse=st.sampled_from([1, 3, 1000]),
    withheld=st.sets(st.integers(0, COUNT - 1), max_size=3),
    large=st.sets(st.integers(0, COUNT - 1), max_size=2),
    runner=st.sampled_from(sorted(RUNNERS)),
)
def test_every_delivery_settles_once_and_as_the_server_did(
    rules: list[Rule],
    options: Options,
    connections: int,
    reuse: int,
    withheld: set[int],
    large: set[int],
    runner: str,
) -> None:
    items = deliveries(COUNT)
    for number in withheld:
        items[number].lets_go = False
    for number in large:
        items[number].content = b"x" * 70 + b"\r\n" + b".y\r\n" * 50_000
    with SmtpSink(rules, options) as sink:
        config = SmtpConfig("127.0.0.1", sink.port, connections=connections, reuse=reuse, idle_s=0.1)
        RUNNERS[runner](send(SmtpMailer(config, policy=HASTY), items, seconds=30))
    accepted = Counter(sink.recipients())
    assert max(accepted.values(), default=0) <= 1
    for number, item in enumerate(items):
        check(sink, item, number, accepted=bool(accepted[item.rcpt_to]))
    assert sink.violations == []


def check(sink: SmtpSink, item: FakeDelivery, number: int, *, accepted: bool) -> None:
    """What the server's own record says about one message, against the verdict."""
    answers = [one for one in sink.answers if one.recipient in (item.rcpt_to, item.mail_from)]
    last = answers[-1].code if answers else 0
    match item.verdict:  # which also checks that there is exactly one
        case Verdict.ACCEPTED:
            assert accepted
            assert item.result.code == last == 250
        case Verdict.TEMPORARY | Verdict.PERMANENT:
            assert not accepted
            assert item.result.code == last
            assert (item.verdict is Verdict.PERMANENT) == (last >= 500)
        case Verdict.UNKNOWN:
            assert item.handed_over == 1
            assert last in (0, 250)
        case Verdict.UNSENT:
            assert not accepted
    assert item.handed_over <= 1, number
