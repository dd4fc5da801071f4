"""The queue of inbound events: what receivers, providers and recipients report about messages, until it is applied to the
records.

The queue lets listeners answer fast and absorbs bursts. After a crash an item is applied again; event ids make that harmless.
One item carries many events.
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
"""Events in one item: they are applied in one go."""
_Row = tuple[int, str, int | None, str, EventCells]


class InboundEvent(NamedTuple):
    """One event of one message."""

    tenant: int
    """The tenant's number (model.tokens)."""
    campaign: str
    """The id of a campaign or daily stream."""
    batch: int | None
    """None: computed from the key. Unsubscribe links do not carry it."""
    key: Key
    event: Event

    @staticmethod
    def from_message_ref(ref: MessageRef, event: Event) -> InboundEvent:
        """An event of the message that a token names."""
        return InboundEvent(ref.tenant, ref.campaign, ref.batch, ref.key, event)

    @staticmethod
    def from_unsubscribe(token: UnsubscribeTarget, event: Event) -> InboundEvent:
        """An event of the recipient that an unsubscribe token names."""
        return InboundEvent(token.tenant, token.campaign, None, token.key, event)


class InboundEventQueue:
    """Sends inbound events to the queue."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def put(self, inbound_events: Sequence[InboundEvent]) -> None:
        """Queue any number of events. They are durable when it returns; after `Unavailable` some may be, and repeating is
        harmless."""
        bodies = list(_bodies(inbound_events))
        for at in range(0, len(bodies), MAX_PER_CALL):
            self._queues.send(FEEDBACK_QUEUE, bodies[at : at + MAX_PER_CALL])


def parse_inbound_events(body: str) -> list[InboundEvent]:
    """The events in an item. Raises `Corrupt`."""
    try:
        rows = msgspec.json.decode(body, type=list[_Row])
        return [
            InboundEvent(tenant, name, batch, Key(bytes.fromhex(key)), event_from_cells(row))
            for tenant, name, batch, key, row in rows
        ]
    except (msgspec.DecodeError, ValueError) as error:
        raise Corrupt(f"an inbound event cannot be read: {error}") from error


def _bodies(inbound_events: Sequence[InboundEvent]) -> Iterator[str]:
    """JSON arrays, each within an item's limits."""
    rows: list[bytes] = []
    size = 2
    for inbound in inbound_events:
        row = msgspec.json.encode((*inbound[:3], inbound.key.hex(), event_cells(inbound.event)))
        if rows and (len(rows) == MAX_EVENTS_PER_ITEM or size + len(row) + 1 > MAX_BODY_BYTES):
            yield _body(rows)
            rows, size = [], 2
        rows.append(row)
        size += len(row) + 1
    if rows:
        yield _body(rows)


def _body(rows: Sequence[bytes]) -> str:
    return "[" + b",".join(rows).decode() + "]"
