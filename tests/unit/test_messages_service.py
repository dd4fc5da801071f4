"""Single messages at the call: each accepted or refused by itself, composed once before it is accepted, and stored once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.errors import Denied, Invalid, NotFound, RecipientSuppressed, StorageFull, TooLarge
from postroom.ledger import scheduler_messages
from postroom.ledger.suppression import SuppressionReason
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key, recipient_key
from postroom.model.message import MessageRow, MessageStatus
from postroom.model.stream import TransactionalValues
from postroom.platform.embedded.messages import SqliteMessages
from postroom.services.message_acceptance import (
    AcceptedMessage,
    AttachedUpload,
    MessageAcceptance,
    RefusedMessage,
)
from tests.fakes.faults import Faults, Killed
from tests.fakes.ledger import Bench
from tests.fakes.transactional import PUBLIC_URL, TransactionalBench, request, transactional_bench


@pytest.fixture
def made(tmp_path: Path) -> Iterator[TransactionalBench]:
    with transactional_bench(tmp_path) as opened:
        yield opened


def refused(made: TransactionalBench, **fields: Any) -> Exception:
    (result,) = made.submit(request(**fields))
    assert isinstance(result, RefusedMessage)
    return result.error


def test_an_accepted_message_is_stored_due_and_watched(made: TransactionalBench) -> None:
    (accepted,) = made.accept(request("Anna Müller <Anna@Example.ORG>"))
    message = made.message(accepted)
    assert (message.address, message.name, message.status) == ("Anna@example.org", "Anna Müller", MessageStatus.PENDING)
    assert made.made.messages.next_due(accepted.ref) == 0
    (run,) = made.made.workflows.running(scheduler_messages.STREAM)
    assert scheduler_messages.parse_ref(run.input) == accepted.ref == made.ref


def test_two_messages_to_the_same_address_are_two_messages(made: TransactionalBench) -> None:
    first, second = made.accept(request(), request())
    assert first.key != second.key
    assert made.states() == ["pending", "pending"]


def test_messages_that_are_alike_share_one_content(made: TransactionalBench) -> None:
    made.template("welcome")
    fields: dict[str, Any] = {"template_id": "welcome", "subject": None, "html": None}
    made.accept(*(request(f"p{n}@example.org", variables={"name": f"N{n}", "code": n}, **fields) for n in range(5)))
    assert len(made.objects.list("default/streams/").objects) == 1


def test_only_the_variables_that_are_used_are_kept(made: TransactionalBench) -> None:
    (accepted,) = made.accept(request(variables={"name": "Anna", "code": 1, "iban": "DE00"}))
    assert TransactionalValues.parse(made.message(accepted).values).variables == {"name": "Anna", "code": "1"}


def test_values_become_text_and_false_is_as_good_as_absent(made: TransactionalBench) -> None:
    html = "{% if vip %}VIP {{ vip }}{% endif %}{% if old %}OLD{% endif %} {{ price }}"
    variables = {"vip": True, "old": False, "price": 12.5, "gone": None}
    (accepted,) = made.accept(request(html=html, subject="x", variables=variables))
    assert TransactionalValues.parse(made.message(accepted).values).variables == {"vip": "true", "price": "12.5"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"to": "nobody"}, "to: .*@"),
        ({"to": "a@b.example, c@d.example"}, "to: "),
        ({"from_": "shop"}, "from: "),
        ({"reply_to": "nobody"}, "Reply-To: "),
        ({"variables": {"name": "Anna"}}, "subject, line 1: 'code' is missing or empty"),
        ({"variables": {"name": ["Anna"], "code": 1}}, "name is a list or an object"),
        ({"variables": {"na me": "x"}}, "is no name"),
        ({"html": "{{ name"}, "HTML template, line 1"),
        ({"html": "{{ name|nothing }}"}, "HTML template, line 1"),
        ({"html": "<img src='cid:logo'>"}, "cid:logo"),
        ({"subject": None}, "subject"),
        ({"html": None}, "template_id, or from html"),
        ({"template_id": "welcome"}, "one of the two"),
        ({"unsubscribe": True}, "POSTROOM_PUBLIC_URL"),
        ({"topic": "news"}, "POSTROOM_PUBLIC_URL"),
        ({"variables": {"name": "x" * 40_000, "code": 1}}, "40001 characters"),
    ],
)
def test_what_cannot_be_composed_is_refused_at_the_call(made: TransactionalBench, fields: dict[str, Any], says: str) -> None:
    error = refused(made, **fields)
    assert isinstance(error, Invalid)
    with pytest.raises(Invalid, match=says):
        raise error
    assert made.states() == []


def test_whoever_may_not_send_as_that_address_is_refused(made: TransactionalBench) -> None:
    assert isinstance(refused(made, from_="ceo@bank.example"), Denied)


def test_a_template_that_nobody_has_is_refused(made: TransactionalBench) -> None:
    assert isinstance(refused(made, template_id="nothing", html=None), NotFound)


def test_each_message_of_a_call_stands_alone(made: TransactionalBench) -> None:
    results = made.submit(request(), request("nobody"), request("b@example.org"))
    assert [type(result) for result in results] == [AcceptedMessage, RefusedMessage, AcceptedMessage]
    assert made.states() == ["pending", "pending"]


def test_a_suppressed_address_is_told_and_nothing_is_stored(made: TransactionalBench) -> None:
    key = recipient_key(made.tenants.get("default").secret, "anna@example.org")
    made.suppression.add("default", key, address="anna@example.org", reason=SuppressionReason.UNSUBSCRIBE)
    results = made.submit(request("ANNA@example.org"), request("b@example.org"))
    assert isinstance(results[0], RefusedMessage)
    assert isinstance(results[0].error, RecipientSuppressed)
    assert str(results[0].error) == "ANNA@example.org is on the suppression list: they unsubscribed"
    assert made.states() == ["pending"]


def test_who_left_a_topic_is_refused_mail_of_it_alone(tmp_path: Path) -> None:
    with transactional_bench(tmp_path, public_url=PUBLIC_URL) as made:
        key = recipient_key(made.tenants.get("default").secret, "anna@example.org")
        made.suppression.add("default", key, address="", reason=SuppressionReason.UNSUBSCRIBE, topic="offers")
        asked = ("nobody", None), ("anna@example.org", "offers"), ("anna@example.org", "news"), ("anna@example.org", None)
        results = made.submit(*(request(to, topic=topic) for to, topic in asked))
        assert [type(result) for result in results] == [RefusedMessage, RefusedMessage, AcceptedMessage, AcceptedMessage]


def test_attachments_go_by_reference_and_are_bounded(made: TransactionalBench) -> None:
    made.upload("a", b"x" * 6_000_000)
    made.upload("b", b"y" * 6_000_000)
    (accepted,) = made.accept(request(attachments=(AttachedUpload("a", "Terms.pdf"),)))
    content = made.service.content("default", made.service.get("default", accepted.id))
    assert content is not None
    ((attachment, version, size),) = content.attachments
    assert (attachment.object_key, attachment.filename, size) == ("default/uploads/a", "Terms.pdf", 6_000_000)
    assert version == made.uploads["a"].object_version
    assert isinstance(refused(made, attachments=(AttachedUpload("a"), AttachedUpload("b"))), TooLarge)


def test_more_than_a_hundred_in_one_call_are_refused(made: TransactionalBench) -> None:
    with pytest.raises(TooLarge):
        made.submit(*[request()] * 101)


def test_a_call_that_is_repeated_makes_the_same_messages(made: TransactionalBench) -> None:
    seed = made.service.new_seed()
    first = made.submit(request(), request("b@example.org"), seed=seed)
    made.clock.advance(86_400)  # the day is the seed's
    assert made.submit(request(), request("b@example.org"), seed=seed) == first
    assert len(made.service.list("default", made.service.today() - 1).records) == 2
    assert made.states() == []


def test_what_was_accepted_stays_accepted_whatever_has_changed(made: TransactionalBench) -> None:
    """Its first answer was lost, and the message is on its way: to refuse it now would be a lie."""
    made.template("welcome")
    seed = made.service.new_seed()
    asked = request(template_id="welcome", html=None)
    first = made.submit(asked, seed=seed)
    made.templates.clear()
    assert made.submit(asked, seed=seed) == first


def test_another_tenants_message_is_a_message_that_nobody_has(made: TransactionalBench) -> None:
    (accepted,) = made.accept(request())
    with pytest.raises(NotFound):
        made.service.get("other", accepted.id)


def test_a_campaigns_message_is_no_single_message(made: TransactionalBench) -> None:
    with pytest.raises(NotFound):
        made.service.get("default", "2" * 16 + "-" + "2" * 20)


def test_a_foreign_cursor_is_refused(made: TransactionalBench) -> None:
    made.accept(request())
    with pytest.raises(Invalid):
        made.service.list("default", made.service.today(), cursor="nonsense")


def _stored(made: TransactionalBench) -> int:
    return len(made.service.list("default", made.service.today()).records)


class _Wrapped(Bench):
    """A bench whose stores count their calls."""

    def __init__(self, real: Bench, faults: Faults) -> None:
        self.__dict__.update(real.__dict__)
        self.messages = faults.wrap(real.messages)
        self.workflows = faults.wrap(real.workflows)
        self.queues = faults.wrap(real.queues)


LINES = ["create", "store", "recount", "get", "restart"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("line", range(len(LINES)), ids=LINES)
def test_a_call_that_dies_at_any_line_is_mended_by_its_repetition(made: TransactionalBench, line: int, after: bool) -> None:
    seed, asked = made.service.new_seed(), [request(), request("b@example.org")]
    made.build(_Wrapped(made.made, Faults(line + 1, after=after)))
    with pytest.raises(Killed):
        made.submit(*asked, seed=seed)
    made.build(made.made)
    assert all(isinstance(result, AcceptedMessage) for result in made.submit(*asked, seed=seed))
    assert _stored(made) == 2
    assert made.made.messages.next_due(made.ref) == 0
    assert len(made.made.workflows.running(scheduler_messages.STREAM)) == 1


def test_these_are_all_the_lines_that_a_call_can_die_at(made: TransactionalBench) -> None:
    faults = Faults()
    made.build(_Wrapped(made.made, faults))
    made.submit(request())
    assert [call.partition(".")[2] for call in faults.calls] == LINES


def test_twenty_identical_calls_at_once_store_once(made: TransactionalBench) -> None:
    seed = made.service.new_seed()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: made.submit(request(), seed=seed), range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert _stored(made) == 1


class _Gate(SqliteMessages):
    """Messages whose store waits at a gate, the first time."""

    def __init__(self, real: SqliteMessages) -> None:
        self.__dict__.update(real.__dict__)
        self.entered, self.opened = threading.Event(), threading.Event()
        self.stores: list[int] = []
        self.fails: Exception | None = None

    def store(self, ref: CampaignRef, rows: Sequence[MessageRow], now: Instant) -> list[int]:
        self.stores.append(len(rows))
        if not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(10)
        elif self.fails is not None:
            raise self.fails
        return super().store(ref, rows, now)


def _together(made: TransactionalBench, gate: _Gate, calls: int) -> list[StorageFull | None]:
    """One call that stores, and `calls` that come meanwhile; what each answered or raised."""
    intake = MessageAcceptance(gate, made.streams, made.clock)
    rows = [MessageRow(n % 32, Key(bytes([n]) * 12), 1, f"p{n}@example.org", None, "[]") for n in range(calls + 1)]

    def store(row: MessageRow) -> StorageFull | None:
        try:
            intake.store(made.ref, [row])
        except StorageFull as error:
            return error
        return None

    with ThreadPoolExecutor(calls + 1) as pool:
        first = pool.submit(store, rows[0])
        assert gate.entered.wait(10)
        others = [pool.submit(store, row) for row in rows[1:]]
        while len(intake._queues[made.ref].waiting) < calls:
            threading.Event().wait(0.001)
        gate.opened.set()
        return [future.result() for future in (first, *others)]


def test_calls_that_come_while_another_is_stored_share_the_next_store(made: TransactionalBench) -> None:
    gate = _Gate(made.made.messages)
    assert _together(made, gate, 15) == [None] * 16
    assert gate.stores == [1, 15]
    assert _count(made) == 16


def test_a_store_that_fails_fails_for_all_who_shared_it_and_for_nobody_else(made: TransactionalBench) -> None:
    gate = _Gate(made.made.messages)
    gate.fails = StorageFull("no room")
    answers = _together(made, gate, 5)
    assert answers[0] is None
    assert all(isinstance(answer, StorageFull) for answer in answers[1:])
    assert _count(made) == 1


def _count(made: TransactionalBench) -> int:
    return made.made.messages.counts(made.ref).total
