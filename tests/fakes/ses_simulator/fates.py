"""Which notices a message gets: by its recipient, where that is one of SES's mailbox simulator, else by a script."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.rules import Options

Step = Callable[[Accepted, float], dict[str, Any]]

STEPS: dict[str, Step] = {
    "send": notices.send,
    "delivery": notices.delivery,
    "bounce": notices.bounce,
    "mailbox_full": lambda message, at: notices.bounce(message, at, "Transient", "MailboxFull", status="5.2.2", code="552"),
    "suppressed": lambda message, at: notices.bounce(message, at, "Permanent", "Suppressed", status="5.1.1"),
    "auto_reply": lambda message, at: notices.bounce(message, at, "Transient", "General", status=""),
    "undetermined": lambda message, at: notices.bounce(message, at, "Undetermined", "Undetermined", status=""),
    "complaint": notices.complaint,
    "delay": notices.delay,
    "reject": notices.reject,
    "rendering_failure": notices.rendering_failure,
    "open": notices.opened,
    "click": notices.clicked,
    "unsubscribe": notices.subscription,
}

MAILBOXES = {
    "success": ("send", "delivery"),
    "bounce": ("send", "bounce"),
    "ooto": ("send", "delivery", "auto_reply"),
    "complaint": ("send", "delivery", "complaint"),
    "suppressionlist": ("send", "suppressed"),
}
"""https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html; a label (`bounce+x@`) is ignored."""

Script = Callable[[Accepted], Iterable[str]]


def delivered(_message: Accepted) -> Iterable[str]:
    """What happens to whoever is in no script."""
    return ("send", "delivery")


@dataclass
class Fates:
    """See the module's text."""

    script: Script = delivered
    """The names of `STEPS`, in their order."""
    repeats: int = 1
    """How often each notice comes."""
    shuffled: bool = False
    """They come in any order."""
    older: bool = False
    """In the format of identity notifications."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def of(self, message: Accepted, options: Options) -> list[dict[str, Any]]:
        """The notices, in the order in which they leave. Without a configuration set there are none, as with SES."""
        if message.configuration_set is None and not self.older:
            return []
        local, _, domain = message.recipient.partition("@")
        mailbox = MAILBOXES.get(local.partition("+")[0]) if domain == "simulator.amazonses.com" else None
        made = [STEPS[name](message, message.at + after) for after, name in enumerate(mailbox or self.script(message))]
        if self.older:
            made = [notices.notification(notice) for notice in made if notice["eventType"] in ("Delivery", "Bounce", "Complaint")]
        made *= self.repeats
        if self.shuffled:
            self.chance.shuffle(made)
        return made
