"""Which events put a person on the suppression list, and as what.

    bounced, hard       bounce
    bounced, soft       for a while, once it was too often (ledger.soft_bounces)
    complained          complaint
    unsubscribed        unsubscribe, of the campaign's topic where it has one

But for an unsubscribe that came through us: its entry was written before the person was answered, and maybe undone by them since.
The link names a key and no address; the event, once it has found its message, says whose that entry is (`wish_id`).

Where nobody knows the address any more (the person was erased, the campaign is gone) the entry has no words of the reporter's
either: servers like to repeat the address in them.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple, Protocol

from postroom.clock import Instant
from postroom.ledger.suppression import Reason, Suppressed, source
from postroom.model.event import BounceType, Event, EventKind
from postroom.model.news import nameless, reply_of
from postroom.model.shard import Key

LISTED: Final = "unsubscribe"
"""The source of events whose entry is there already."""
_REASONS = {EventKind.COMPLAINED: Reason.COMPLAINT, EventKind.UNSUBSCRIBED: Reason.UNSUBSCRIBE}


class SoftBounces(Protocol):
    """Who counts the bounces that may pass."""

    def note(self, tenant: str, key: Key, message: str) -> Instant | None:
        """A message to a person bounced; until when they are not to be written to, or None: it was not too often."""
        ...


class Person(NamedTuple):
    """Whom an event is about."""

    key: Key
    address: str
    """Empty where nobody knows it any more."""
    topic: str | None
    """What the message was sent under."""
    message: str
    """Its id."""


def wish_id(kind: EventKind, entry: Suppressed) -> str:
    """The id of the event that this entry was made, or is taken back: the same for as long as the entry stands."""
    mark = hashlib.sha256(f"{entry.added_at}\0{entry.topic or ''}".encode()).hexdigest()[:16]
    return f"{kind}.{mark}"


def may_enter(event: Event) -> bool:
    """Whether it can have a consequence at all: of most events this is all that is asked."""
    if event.kind is EventKind.BOUNCED:
        return event.bounce is not None and event.bounce.type is not BounceType.UNDETERMINED
    return event.kind in _REASONS and event.source != LISTED


def entry(tenant: str, person: Person, event: Event, *, soft_bounces: SoftBounces, now: Instant) -> Suppressed | None:
    """What the event makes of the person's standing with the tenant; None: nothing."""
    if not may_enter(event):
        return None
    if event.bounce is not None:
        return _of_bounce(tenant, person, event, lasting=event.bounce.type, soft_bounces=soft_bounces, now=now)
    reason = _REASONS[event.kind]
    topic = person.topic if reason is Reason.UNSUBSCRIBE else None
    return Suppressed(person.key, person.address, reason, now, _note(person, event), topic, source=source(person.message, event))


def _note(person: Person, event: Event) -> str:
    return reply_of(event if person.address else nameless(event))


def _of_bounce(
    tenant: str, person: Person, event: Event, *, lasting: BounceType, soft_bounces: SoftBounces, now: Instant
) -> Suppressed | None:
    if lasting is BounceType.HARD:
        return Suppressed(
            person.key, person.address, Reason.BOUNCE, now, _note(person, event), source=source(person.message, event)
        )
    if lasting is BounceType.SOFT and (until := soft_bounces.note(tenant, person.key, person.message)) is not None:
        return Suppressed(
            person.key,
            person.address,
            Reason.BOUNCE,
            now,
            _note(person, event),
            expires_at=until,
            source=source(person.message, event),
        )
    return None
