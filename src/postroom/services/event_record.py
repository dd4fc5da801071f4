"""An event of a message as the API answers it and `--json` prints it."""

from __future__ import annotations

from postroom.model.event import Event
from postroom.services.status import rfc3339


def event_record(event: Event) -> dict[str, object]:
    """As in docs/reference/messages.md."""
    bounce = event.bounce
    return {
        "id": event.id,
        "kind": event.kind.value,
        "at": rfc3339(event.at),
        "attempt": event.attempt,
        "source": event.source,
        "bounce": None if bounce is None else {"type": bounce.type.value, "class": bounce.category.value, "code": bounce.code},
        "machine": event.machine,
        "detail": event.detail,
        "url": event.url or None,
        "raw": event.raw or None,
    }
