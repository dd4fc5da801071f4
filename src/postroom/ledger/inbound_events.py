"""What came back of messages, on its way to their records: who hears of something says it here, and is done once this returns.

A queue stands between hearing and recording, so that a listener answers fast, a burst waits, and what a crash interrupts is
handled again: an event's id makes the second time harmless. Many arrivals travel as one item.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from postroom.errors import Corrupt
from postroom.model.event import Event, EventCells, event_cells, event_from_cells
from postroom.model.ids import Key
from postroom.model.tokens import MessageRef, UnsubscribeTarget
from postroom.platform.ports.queues import MAX_BODY_BYTES, MAX_PER_CALL, Queues

FEEDBACK_QUEUE: Final = "feedback"
MAX_EVENTS_PER_ITEM: Final = 500
"""In one item: what one handling of it records."""

_Row = tuple[int, str, int | None, str, EventCells]


class InboundEvent(NamedTuple):
    """One event of one message."""

    tenant: int
    """The tenant's number, as it is on the wire."""
    campaign: str
    """A campaign's id, or a stream's."""
    batch: int | None
    """None: as the key says. An unsubscribe link outlives the batches, and does not name one."""
    key: Key
    event: Event

    @staticmethod
    def of(ref: MessageRef, event: Event) -> InboundEvent:
        """An event of the message that a token named."""
        return InboundEvent(ref.tenant, ref.campaign, ref.batch, ref.key, event)

    @staticmethod
    def of_unsubscribe(token: UnsubscribeTarget, event: Event) -> InboundEvent:
        """An event of whom an unsubscribe token named."""
        return InboundEvent(token.tenant, token.campaign, None, token.key, event)


class InboundEventQueue:
    """The way in."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def put(self, arrivals: Sequence[InboundEvent]) -> None:
        """Any number. Durable when it returns; after `Unavailable` some may be, and putting all again is harmless."""
        bodies = list(_bodies(arrivals))
        for at in range(0, len(bodies), MAX_PER_CALL):
            self._queues.send(FEEDBACK_QUEUE, bodies[at : at + MAX_PER_CALL])


def parse_inbound_events(body: str) -> list[InboundEvent]:
    """An item's arrivals; `Corrupt`."""
    try:
        rows = msgspec.json.decode(body, type=list[_Row])
        return [
            InboundEvent(tenant, name, batch, Key(bytes.fromhex(key)), event_from_cells(row))
            for tenant, name, batch, key, row in rows
        ]
    except (msgspec.DecodeError, ValueError) as error:
        raise Corrupt(f"what came back cannot be read: {error}") from error


def _bodies(arrivals: Sequence[InboundEvent]) -> Iterator[str]:
    """JSON arrays, each within an item's limits."""
    rows: list[bytes] = []
    size = 2
    for arrival in arrivals:
        row = msgspec.json.encode((*arrival[:3], arrival.key.hex(), event_cells(arrival.event)))
        if rows and (len(rows) == MAX_EVENTS_PER_ITEM or size + len(row) + 1 > MAX_BODY_BYTES):
            yield _body(rows)
            rows, size = [], 2
        rows.append(row)
        size += len(row) + 1
    if rows:
        yield _body(rows)


def _body(rows: Sequence[bytes]) -> str:
    return "[" + b",".join(rows).decode() + "]"
