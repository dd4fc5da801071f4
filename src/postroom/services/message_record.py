"""A message as `--json` prints it, whoever lists it."""

from __future__ import annotations

from postroom.clock import rfc3339
from postroom.model.message import Message


def message_facts(message: Message) -> dict[str, object]:
    """What is the same of a campaign's message and of a single one."""
    return {
        "address": message.address,
        "name": message.name,
        "status": message.status.label,
        "attempts": message.attempt,
        "at": rfc3339(message.at),
        "due": rfc3339(message.due),
        "code": message.code or None,
        "reply": message.reply or None,
        "provider_id": message.provider_id,
        "opened_at": rfc3339(message.opened_at),
        "clicked_at": rfc3339(message.clicked_at),
        "unsubscribed_at": rfc3339(message.unsubscribed_at),
    }
