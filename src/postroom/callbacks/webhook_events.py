"""Builds webhook events from message changes, and deliveries (requests) from webhook events.

A change that was reported from outside carries its event. A change made by our own worker is an event too, with the same id as on
the message's timeline: `queued`, `sent`, `delayed`, `rejected`, and `bounced` if the address was refused at hand-over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from postroom.clock import Instant, rfc3339
from postroom.model.callback import MAX_BATCH, CallbackDelivery, CallbackEndpoint, EventPayload, batch_payload, event_payload
from postroom.model.event import Event, EventKind
from postroom.model.ids import encode
from postroom.model.message import ERASED, MessageStatus, Settlement
from postroom.model.provider_status import event_from_settlement, queued_event, redact_event
from postroom.model.stream import is_stream
from postroom.model.tokens import message_id
from postroom.platform.ports.feed import MessageChange

_TIME_LENGTH: Final = 10
_DIGEST_LENGTH: Final = 20
_LAST: Final = Instant(253_402_300_799_999)
"""The end of the year 9999, the last time RFC 3339 can write. Reported times can be arbitrary."""
_MAX_STORED: Final = 80_000
"""Bytes of a stored body. A record may have 100 KB; the rest is for the response."""
_REPORTED_ONLY = frozenset({MessageStatus.DELIVERED, MessageStatus.COMPLAINED})


class WebhookEvent(NamedTuple):
    """One event of one message, as endpoints receive it."""

    kind: EventKind
    at: Instant
    identity: str
    """Message id and event id: unique among all events."""
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointEvents:
    """Events for one endpoint."""

    endpoint: CallbackEndpoint
    events: Sequence[WebhookEvent]


def event_from_change(change: MessageChange) -> Event | None:
    """The change's event; None if endpoints are not notified of it."""
    if change.event is not None:
        return change.event
    if change.status is MessageStatus.PENDING and change.attempt == 0:
        return queued_event(change.at)
    if change.status in _REPORTED_ONLY or (change.status is MessageStatus.BOUNCED and not change.code):
        return None  # our own outcome of an event that was reported before
    return event_from_settlement(
        Settlement(change.key, change.status, change.attempt, change.at, code=change.code, reply=change.reply)
    )


def build_webhook_event(change: MessageChange, event: Event, address: str | None) -> WebhookEvent | None:
    """The webhook event of a change; None if the change is the erasure of the person itself.

    `address` is the recipient's, None if the message is gone. Without an address the detail and the link are left out too: they
    may contain personal data that an erasure would not find there.
    """
    if address == ERASED and change.event is None:
        return None
    if address is None or address == ERASED:
        event = redact_event(event)
    name = message_id(change.ref, change.key)
    bounce = event.bounce
    data = EventPayload(
        event_id=event.id,
        message_id=name,
        campaign_id=None if is_stream(change.ref.campaign) else change.ref.campaign,
        recipient="" if address is None or address == ERASED else address,
        sequence=change.sequence,
        attempt=event.attempt,
        status=change.status.label,
        machine=event.machine,
        bounce=None if bounce is None else {"type": bounce.type, "class": bounce.category, "code": bounce.code},
        url=event.url or None,
        detail=event.detail,
    )
    return WebhookEvent(event.kind, event.at, f"{name}/{event.id}", event_payload(event.kind, _time(event.at), data))


def _time(at: Instant) -> str:
    return rfc3339(Instant(min(max(at, 0), _LAST))) or ""


def build_deliveries(group: EndpointEvents, now: Instant) -> Iterator[CallbackDelivery]:
    """The requests for these events: one each, or batches if the endpoint takes them. The same events make the same ids."""
    wanted = [each for each in group.events if each.kind in group.endpoint.kinds]
    if not group.endpoint.batch:
        for each in wanted:
            yield _delivery(group.endpoint, [each], each.content, now)
        return
    for part in _batches(wanted):
        content = batch_payload([each.content for each in part], rfc3339(now) or "")
        yield _delivery(group.endpoint, part, content, now)


def _batches(events: Sequence[WebhookEvent]) -> Iterator[list[WebhookEvent]]:
    """Up to `MAX_BATCH` events, and as many as fit one record."""
    batch: list[WebhookEvent] = []
    room = _MAX_STORED
    for each in events:
        takes = _stored_bytes(each)
        if batch and (len(batch) >= MAX_BATCH or takes > room):
            yield batch
            batch, room = [], _MAX_STORED
        batch.append(each)
        room -= takes
    if batch:
        yield batch


def _stored_bytes(event: WebhookEvent) -> int:
    """A body is stored as a string in a JSON document, so its quotes and backslashes are escaped once more."""
    text = orjson.dumps(event.content)
    return len(text) + text.count(b'"') + text.count(b"\\") + 1


def delivery_id(at: Instant, parts: Iterable[str]) -> str:
    """An id that begins with the time, so that ids sort by it."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=13).digest()
    return encode(min(max(at, 0), _LAST), _TIME_LENGTH) + encode(int.from_bytes(digest, "big") >> 4, _DIGEST_LENGTH)


def _delivery(
    endpoint: CallbackEndpoint, events: Sequence[WebhookEvent], content: dict[str, Any], now: Instant
) -> CallbackDelivery:
    identity = delivery_id(events[0].at, [endpoint.id, *(each.identity for each in events)])
    return CallbackDelivery(
        id=identity,
        endpoint=endpoint.id,
        tenant=endpoint.tenant,
        body=orjson.dumps(content).decode(),
        events=len(events),
        created_at=now,
        since=now,
        due=now,
    )
