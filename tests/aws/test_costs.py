"""What a message costs on AWS: docs/reference/aws-table.md says it, this counts it as DynamoDB bills it."""

from __future__ import annotations

from collections import Counter

import pytest

from postroom.model.batch import GROUP_SIZE
from postroom.model.event import Event, EventKind
from postroom.model.ids import Key
from postroom.model.message import MessageRow, MessageStatus, Settlement
from postroom.platform.aws._ledger import FULL_BYTES
from postroom.platform.aws.messages import DynamoMessages
from postroom.platform.ports.messages import ReportedEvent
from tests.aws.meter import Meter
from tests.contract.aws_backend import TABLE, AwsBackend
from tests.contract.messages_kit import CAMPAIGN, LEASE_MS, NOW, at, key

VALUES = '["Annabelle","Featherstonehaugh","2026-11-30","https://example.org/offers/spring/2026?customer=4711","EUR 1,234.56"]'
REPLY = "2.0.0 Ok: queued as 4ZxYbW2qTHz9vKp " + "x" * 60
PROVIDER_ID = "0100018f3a5b7c9d-0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9-000000"
MESSAGES = 12


def rows(count: int) -> list[MessageRow]:
    return [
        MessageRow(0, key(n), n + 1, f"annabelle.featherstonehaugh.{n}@example.org", "Annabelle", VALUES) for n in range(count)
    ]


def sent(keys: list[Key]) -> list[Settlement]:
    return [Settlement(one, MessageStatus.SENT, 1, at(5), None, 250, REPLY, PROVIDER_ID) for one in keys]


def told(keys: list[Key], kind: EventKind = EventKind.DELIVERED, *, raw: str = "", ms: int = 9) -> list[ReportedEvent]:
    """As SES tells: an id of 44 characters, the receiving server's answer."""
    detail = "250 2.0.0 OK  1790000000 d75a77b69052e-4f1b2c3d4e5si1234567qta.123 - gsmtp"
    return [
        ReportedEvent(0, one, Event(kind=kind, attempt=1, at=at(ms), id=f"ses-{ms:040}", source="ses", detail=detail, raw=raw))
        for one in keys
    ]


def test_a_message_costs_one_write_a_change_and_a_group_one_more(backend: AwsBackend) -> None:
    table = backend.table()
    messages, meter = DynamoMessages(table), Meter(table)
    messages.create(CAMPAIGN, 1)
    meter.calls()
    messages.store(CAMPAIGN, rows(MESSAGES), NOW)
    assert meter.calls() == Counter(GetItem=1, PutItem=MESSAGES)
    fence = messages.open(CAMPAIGN, 0, "w1", NOW, lease_ms=LEASE_MS)
    assert fence is not None
    keys = [row.key for row in rows(MESSAGES)]
    meter.calls()
    messages.record(CAMPAIGN, 0, fence.fence, [], keys, NOW, lease_ms=LEASE_MS)
    assert meter.calls() == Counter(GetItem=1, UpdateItem=1)
    messages.record(CAMPAIGN, 0, fence.fence, sent(keys), [], NOW, lease_ms=LEASE_MS)
    assert meter.calls() == Counter(GetItem=1, BatchGetItem=1, UpdateItem=MESSAGES + 1)
    messages.record(CAMPAIGN, 0, fence.fence, sent(keys), [], NOW, lease_ms=LEASE_MS)
    assert meter.calls() == Counter(GetItem=1, BatchGetItem=1, UpdateItem=1), "a repeat writes no message"
    assert list(messages.record_events(CAMPAIGN, told(keys), NOW)) == [True] * MESSAGES
    assert meter.calls() == Counter(GetItem=1, BatchGetItem=2, UpdateItem=MESSAGES + 1), "and once the batch"
    messages.record_events(CAMPAIGN, told(keys, EventKind.OPENED, ms=10), NOW)
    assert meter.calls() == Counter(GetItem=1, BatchGetItem=2, UpdateItem=MESSAGES), "the batch is marked already"
    messages.record_events(CAMPAIGN, told(keys), NOW)
    assert meter.calls() == Counter(GetItem=1, BatchGetItem=2), "a repeat writes nothing"
    assert max(meter.sizes({one.hex() for one in keys})) <= 1_024


@pytest.mark.parametrize("group", [7, GROUP_SIZE])
def test_a_batch_that_is_stored_sent_and_delivered_costs_three_units_a_message(backend: AwsBackend, group: int) -> None:
    """All of it: the batch's record, its groups, the count after each phase; events by the ten, as a queue brings them."""
    count = 500
    table = backend.table()
    messages, meter = DynamoMessages(table), Meter(table)
    messages.create(CAMPAIGN, 1)
    keys = [row.key for row in rows(count)]
    messages.store(CAMPAIGN, rows(count), NOW)
    messages.recount(CAMPAIGN)
    opened = messages.open(CAMPAIGN, 0, "w1", NOW, lease_ms=LEASE_MS)
    assert opened is not None
    assert len(messages.load(CAMPAIGN, 0, NOW, 2_000)) == count
    groups = [keys[first : first + group] for first in range(0, count, group)]
    for before, now in zip([[], *groups], [*groups, []], strict=True):
        messages.record(CAMPAIGN, 0, opened.fence, sent(before), now, NOW, lease_ms=LEASE_MS)
    messages.close(CAMPAIGN, 0, opened.fence)
    for first in range(0, count, 10):
        messages.record_events(CAMPAIGN, told(keys[first : first + 10]), NOW)
    messages.recount(CAMPAIGN)
    assert messages.counts(CAMPAIGN).delivered == count
    written, read = meter.write_units / count, meter.read_units / count
    print(f"groups of {group}: {written:.3f} write units and {read:.2f} read units a message")
    assert written <= (3.04 if group == GROUP_SIZE else 3.17)
    assert read <= (2.7 if group == GROUP_SIZE else 2.9)


def test_what_the_item_has_no_room_for_stands_beside_it_and_is_told_of_all_the_same(backend: AwsBackend) -> None:
    table = backend.table()
    messages, meter = DynamoMessages(table), Meter(table)
    messages.create(CAMPAIGN, 1)
    messages.store(CAMPAIGN, rows(1), NOW)
    one = [key(0)]
    for ms in range(4):
        report = told(one, EventKind.DELIVERED if ms < 3 else EventKind.BOUNCED, raw="r" * 1_500, ms=ms)
        assert list(messages.record_events(CAMPAIGN, report, NOW)) == [True]
        assert list(messages.record_events(CAMPAIGN, report, NOW)) == [False]
    assert meter.calls()["TransactWriteItems"] == 2
    assert max(meter.sizes({key(0).hex()})) <= FULL_BYTES
    assert list(messages.record_events(CAMPAIGN, told(one, EventKind.OPENED, ms=7), NOW)) == [True], "there is room for this one"
    assert meter.calls()["TransactWriteItems"] == 0
    assert [(event.at, len(event.raw)) for event in messages.timeline(CAMPAIGN, 0, key(0))] == [
        *((at(ms), 1_500) for ms in range(4)),
        (at(7), 0),
    ]
    found = messages.get(CAMPAIGN, 0, key(0))
    assert found is not None
    assert (found.status, found.opened_at) == (MessageStatus.BOUNCED, at(7))
    messages.drop(CAMPAIGN)
    assert table._client.scan(TableName=TABLE, ConsistentRead=True)["Items"] == []
