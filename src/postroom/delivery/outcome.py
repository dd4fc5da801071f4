"""What the provider's answer makes of a message, and when a deferred one is tried again.

accepted                                → sent
refused for good, the address (5.1.x)   → bounced     (RFC 3463: 5.1.1 bad mailbox, 5.1.2 bad system, 5.1.6 moved …)
refused for good, the sender            → failed, whatever the code and the stage: many servers say it only at RCPT
refused for good, anything else         → failed
refused for now                         → deferred, until `give_up_at`, then failed
refused as too fast                     → deferred, always: it is about the sender, no recipient fails for it
no answer to the final dot              → unknown; at its `due` the campaign's policy decides
never handed over                       → unchanged (None)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postroom.clock import Instant
from postroom.model.campaign import Policies
from postroom.model.message import MessageStatus, Recipient, Settlement
from postroom.platform.mail.port import Result, Stage, Verdict

_DOUBLINGS = 20  # enough to pass any cap: keeps the power small
_ADDRESS_STATUS = re.compile(r"5\.1\.(?:[0-46]|10)$")  # 5.1.7 and 5.1.8 are about the sender's address
_PLAIN_ADDRESS_CODES = frozenset({550, 551, 553})  # without an enhanced code, at RCPT: mailbox unavailable, moved, bad name
_SENDER = re.compile(r"\bsender\b|\bfrom[ -]address|\breturn[ -]?path|\bmail[ -]?from\b|\benvelope[ -]from", re.IGNORECASE)
_MAILBOX = re.compile(r"<[^<>]*>|\S+@\S+")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling waits with jitter, from minutes (greylisting, RFC 6647 §4.5) to an hour (a full mailbox)."""

    first_ms: int
    """The first wait: the setting `retry_after`, 1 minute by default."""
    most_ms: int = 3_600_000
    jitter: float = 0.2
    """A wait is up to this fraction shorter or longer, so that messages deferred together do not return together."""

    def due(self, attempt: int, now: Instant, chance: float) -> Instant:
        """When to try again after `attempt` (from 1) failed at `now`; `chance` from 0 to 1 picks the jitter."""
        wait = min(self.first_ms << min(attempt - 1, _DOUBLINGS), self.most_ms)
        return Instant(now + round(wait * (1 + self.jitter * (2 * chance - 1))))


THROTTLED = Backoff(first_ms=2_000, most_ms=60_000, jitter=0.5)
"""After "too fast", which says nothing about the recipient. The rate bucket is slowed as well."""


@dataclass(frozen=True, slots=True)
class OutcomeRules:
    """A campaign's rules."""

    policies: Policies
    give_up_at: Instant
    backoff: Backoff

    def settle(self, recipient: Recipient, result: Result, now: Instant, chance: float) -> Settlement | None:
        """The settlement of one attempt. None: nothing was tried. `chance`: from 0 to 1, picks the jitter."""
        attempt = recipient.attempt + 1
        match result.verdict:
            case Verdict.UNSENT:
                return None
            case Verdict.ACCEPTED:
                state, due = MessageStatus.SENT, None
            case Verdict.UNKNOWN:
                state, due = MessageStatus.UNKNOWN, self.policies.unknown_due(now)
            case Verdict.PERMANENT:
                state, due = MessageStatus.BOUNCED if refuses_address(result) else MessageStatus.FAILED, None
            case Verdict.TEMPORARY:
                due = (THROTTLED if result.throttled else self.backoff).due(attempt, now, chance)
                waits = result.throttled or due <= self.give_up_at
                state, due = (MessageStatus.DEFERRED, due) if waits else (MessageStatus.FAILED, None)
        return Settlement(recipient.key, state, attempt, now, due, result.code, _reply(result), result.provider_id)


def refuses_address(result: Result) -> bool:
    """Whether a permanent refusal is about the recipient's address. A refusal of the sender must not suppress recipients."""
    if result.stage is Stage.MAIL or _SENDER.search(_MAILBOX.sub("", result.text)):
        return False
    if result.enhanced:
        return _ADDRESS_STATUS.match(result.enhanced) is not None
    return result.stage is Stage.RCPT and result.code in _PLAIN_ADDRESS_CODES


def _reply(result: Result) -> str:
    return f"{result.enhanced} {result.text}" if result.enhanced else result.text
