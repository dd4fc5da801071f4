"""What a message costs on AWS: docs/reference/aws-table.md says it, this counts it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from postroom.model.event import Event, EventKind
from postroom.model.message import MessageState, NewMessage, Settlement
from postroom.platform.aws.messages import DynamoMessages
from postroom.platform.ports.messages import Reported
from tests.contract.aws_home import TABLE, AwsHome
from tests.contract.messages_kit import CAMPAIGN, LEASE_MS, NOW, at, key

VALUES = '["Annabelle","Featherstonehaugh","2026-11-30","https://example.org/offers/spring/2026?customer=4711","EUR 1,234.56"]'
REPLY = "2.0.0 Ok: queued as 4ZxYbW2qTHz9vKp " + "x" * 60
MESSAGES = 12


def size(item: dict[str, Any]) -> int:
    """Bytes that DynamoDB bills: names and values; a number is about half its digits and one."""
    total = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        total += len(name) + (len(content) // 2 + 2 if kind == "N" else len(content.encode() if kind == "S" else content))
    return total


def test_a_message_costs_one_write_of_one_unit_a_change_and_a_group_one_more(home: AwsHome) -> None:
    table = home.table()
    messages = DynamoMessages(table)
    calls: Counter[str] = Counter()
    table._client.meta.events.register(
        "before-send.dynamodb.*", lambda event_name, **_: calls.update([event_name.split(".")[-1]])
    )

    def writes(*names: str) -> list[int]:
        counted = [calls[name] for name in names]
        calls.clear()
        return counted

    messages.create(CAMPAIGN, 1)
    writes()
    rows = [
        NewMessage(0, key(n), n + 1, f"annabelle.featherstonehaugh.{n}@example.org", "Annabelle", VALUES) for n in range(MESSAGES)
    ]
    messages.store(CAMPAIGN, rows, NOW)
    assert writes("PutItem", "UpdateItem", "TransactWriteItems") == [MESSAGES, 0, 0]
    fence = messages.open(CAMPAIGN, 0, "w1", NOW, lease_ms=LEASE_MS)
    assert fence is not None
    keys = [row.key for row in rows]
    messages.record(CAMPAIGN, 0, fence.fence, [], keys, NOW, lease_ms=LEASE_MS)
    assert writes("PutItem", "UpdateItem", "TransactWriteItems") == [0, 2, 0]
    settled = [Settlement(one, MessageState.SENT, 1, at(5), None, 250, REPLY, "0100018f-provider-id-000000") for one in keys]
    messages.record(CAMPAIGN, 0, fence.fence, settled, [], NOW, lease_ms=LEASE_MS)
    assert writes("PutItem", "UpdateItem", "TransactWriteItems") == [0, MESSAGES + 1, 0]
    messages.record(CAMPAIGN, 0, fence.fence, settled, [], NOW, lease_ms=LEASE_MS)
    assert writes("PutItem", "UpdateItem", "TransactWriteItems") == [0, 1, 0], "a repeat writes no message"
    delivered = Event(kind=EventKind.DELIVERED, attempt=1, at=at(9), id="0100018f-provider-id-000000-delivered", source="ses")
    messages.report(CAMPAIGN, [Reported(0, one, delivered) for one in keys], NOW)
    assert writes("PutItem", "UpdateItem", "TransactWriteItems") == [0, 1, MESSAGES], (
        "an event and its message, and once the batch"
    )
    messages.report(CAMPAIGN, [Reported(0, one, delivered) for one in keys], NOW)
    assert writes("PutItem", "UpdateItem", "TransactWriteItems") == [0, 1, 0], "a repeat writes no event"
    items = table._client.scan(TableName=TABLE, ConsistentRead=True)["Items"]
    sizes = [size(item) for item in items if item["sk"]["S"] in {one.hex() for one in keys}]
    assert len(sizes) == MESSAGES
    assert max(sizes) <= 700, "well under the 1,024 bytes of one write unit"
