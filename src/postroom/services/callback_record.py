"""Callbacks and deliveries as programs read them: the same over HTTP and on the command line. Never a secret."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from postroom.clock import rfc3339
from postroom.model.callback import CallbackDelivery, CallbackEndpoint, event_type
from postroom.model.event import EventKind


def callback_record(endpoint: CallbackEndpoint) -> dict[str, Any]:
    """In words of the API; times in RFC 3339."""
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "events": event_types(endpoint.kinds),
        "description": endpoint.description,
        "batch": endpoint.batch,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": rfc3339(endpoint.failing_since),
        "created_at": rfc3339(endpoint.created_at),
        "secret_changed_at": rfc3339(endpoint.secret_changed_at),
    }


def delivery_record(delivery: CallbackDelivery) -> dict[str, Any]:
    """Without what it says."""
    last = {
        "at": rfc3339(delivery.last_at),
        "status": delivery.last_status or None,
        "text": delivery.last_text,
        "took_ms": delivery.took_ms,
    }
    return {
        "id": delivery.id,
        "status": delivery.status.value,
        "events": delivery.events,
        "created_at": rfc3339(delivery.created_at),
        "tries": delivery.attempts,
        "next_at": rfc3339(delivery.due),
        "last": None if delivery.last_at is None else last,
    }


def whole_delivery(delivery: CallbackDelivery) -> dict[str, Any]:
    """With what it says, to the letter."""
    return {**delivery_record(delivery), "body": delivery.body}


def event_types(kinds: Collection[EventKind]) -> list[str]:
    """In the order of a message's life."""
    return [event_type(kind) for kind in EventKind if kind in kinds]
