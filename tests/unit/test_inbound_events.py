"""What came back, on its way to the records."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.errors import Corrupt
from postroom.ledger.inbound_events import (
    FEEDBACK_QUEUE,
    MAX_EVENTS_PER_ITEM,
    InboundEvent,
    InboundEventQueue,
    parse_inbound_events,
)
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.ids import Key
from postroom.platform.ports.queues import MAX_BODY_BYTES, MAX_PER_CALL


class _Queues:
    """Keeps what is sent, and the limits."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def send(self, queue: str, bodies: list[str], *, delay_s: int = 0) -> None:
        assert queue == FEEDBACK_QUEUE
        assert 1 <= len(bodies) <= MAX_PER_CALL
        assert all(len(body.encode()) <= MAX_BODY_BYTES for body in bodies)
        self.calls.append(list(bodies))


def _arrival(number: int, raw: str = "") -> InboundEvent:
    event = Event(
        kind=EventKind.BOUNCED,
        attempt=1,
        at=Instant(1_000),
        id=f"e{number}",
        source="dsn",
        bounce=Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1"),
        raw=raw,
    )
    return InboundEvent(7, "c" * 16, None if number % 2 else 3, Key(number.to_bytes(12, "big")), event)


@pytest.mark.parametrize(("count", "raw"), [(1, ""), (1_201, ""), (600, "é" * 4_000), (11_000, "")])
def test_what_is_put_comes_out_the_same_within_the_queue_s_limits(count: int, raw: str) -> None:
    queues, arrivals = _Queues(), [_arrival(number, raw) for number in range(count)]
    InboundEventQueue(queues).put(arrivals)  # type: ignore[arg-type]  # of a queue it only sends
    items = [parse_inbound_events(body) for call in queues.calls for body in call]
    assert all(len(item) <= MAX_EVENTS_PER_ITEM for item in items)
    assert [arrival for item in items for arrival in item] == arrivals


def test_nothing_is_put_for_nothing() -> None:
    queues = _Queues()
    InboundEventQueue(queues).put([])  # type: ignore[arg-type]  # of a queue it only sends
    assert queues.calls == []


@pytest.mark.parametrize("body", ["", "{}", "[[1]]", '[[1, "c", null, "zz", []]]', '[["1", "c", 1, "00", []]]'])
def test_a_damaged_item_is_corrupt(body: str) -> None:
    with pytest.raises(Corrupt):
        parse_inbound_events(body)
