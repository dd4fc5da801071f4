"""What mail servers and mailbox providers say when they refuse, by meaning, each group with its reason."""

from __future__ import annotations

from postroom.events.bounce_parser.phrases import message, recipient, sender, vague, way
from postroom.events.bounce_parser.phrases.saying import Saying

__all__ = ["CLEAR", "VAGUE", "Saying"]

CLEAR = (
    sender.RATE,
    sender.LISTED,
    sender.SENDER,
    message.SIZE,
    recipient.QUOTA,
    message.CONTENT,
    way.UNREACHED,
    way.UNRESOLVED,
    recipient.PAUSED,
    recipient.DISABLED,
    way.DOMAIN,
    recipient.MAILBOX,
)
"""They outrank codes. In this order: what would be a mistake to take for a dead mailbox comes before it."""

VAGUE = (
    way.NETWORK,
    way.PROTOCOL,
    vague.NO_ADDRESS,
    vague.UNAVAILABLE,
    vague.REFUSED,
)
"""Asked only where no code has spoken."""
