"""Bounces that may pass: a mailbox that is full today may take mail next week. After too many of them within some weeks the
person is left alone for a while.

One record a person, forgotten by itself. It counts messages, not reports: a mail that is reported again has bounced once,
and whoever was killed may say it again.

Which events put a person on the suppression list, and as what.

    bounced, hard       bounce
    bounced, soft       for a while, once it was too often (ledger.soft_bounces)
    complained          complaint
    unsubscribed        unsubscribe, of the campaign's topic where it has one

But for an unsubscribe that came through us: its entry was written before the person was answered, and maybe undone by them since.
The link names a key and no address; the event, once it has found its message, says whose that entry is (`wish_id`).

Where nobody knows the address any more (the person was erased, the campaign is gone) the entry has no words of the reporter's
either: servers like to repeat the address in them.

Addresses that a server refused for good while mail was handed over: on the suppression list before that is recorded.

So whoever is killed between the two settles the group again, from the journal's answers, and enters them again. The same
consequence as of a bounce that comes back later (ledger.incoming).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from postroom.clock import Clock, Instant
from postroom.errors import Conflict
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason, source
from postroom.ledger.tenants import Tenants
from postroom.model.address import parse_address
from postroom.model.campaign import CampaignRef
from postroom.model.event import BounceType, Event, EventKind
from postroom.model.ids import Key, recipient_key
from postroom.model.message import MessageStatus, Settlement
from postroom.model.provider_status import event_from_settlement, redact_event, reply_text
from postroom.model.stream import is_stream
from postroom.model.tokens import message_id
from postroom.platform.ports.messages import Messages
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables

_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class SoftBouncePolicy:
    """How many are too many."""

    bounces: int = 5
    """0: never."""
    window_ms: int = 30 * 86_400_000
    """Within so long."""
    hold_ms: int = 14 * 86_400_000
    """For how long nobody writes to them then."""


class SoftBounceCounts:
    """The counts of all tenants' people."""

    def __init__(self, tables: Tables, patience: SoftBouncePolicy, clock: Clock) -> None:
        self._tables = tables
        self._patience = patience
        self._clock = clock

    def note(self, tenant: str, key: Key, message: str) -> Instant | None:
        """A message to a person bounced; until when they are not to be written to, or None: not too many yet."""
        patience = self._patience
        if patience.bounces == 0:
            return None
        heard = self._heard(tenant, key, message)
        return Instant(self._clock.now() + patience.hold_ms) if len(heard) >= patience.bounces else None

    def _heard(self, tenant: str, key: Key, message: str) -> dict[str, int]:
        """Messages that bounced in the window, this one among them, and durably so."""
        place = ItemKey(f"{tenant}#soft-bounces", key.hex())
        for _ in range(_TRIES):
            now, item = self._clock.now(), self._tables.get(place)
            known = {} if item is None else item.data["heard"]
            heard = {name: at for name, at in known.items() if at > now - self._patience.window_ms} | {message: now}
            if message in known:
                return heard
            newest = dict(list(heard.items())[-self._patience.bounces :])
            expect = Expect.ABSENT if item is None else item.version
            try:
                self._tables.write([Put(place, {"heard": newest}, expect, Instant(now + self._patience.window_ms))])
            except Conflict:  # somebody noted another since: look again
                continue
            return newest
        raise Conflict(f"the soft bounces of {key.hex()} are being counted by others all the time; try again")


UNSUBSCRIBE_SOURCE: Final = "unsubscribe"


"""The source of events whose entry is there already."""


_REASONS = {EventKind.COMPLAINED: SuppressionReason.COMPLAINT, EventKind.UNSUBSCRIBED: SuppressionReason.UNSUBSCRIBE}


class SoftBounceCounter(Protocol):
    """Who counts the bounces that may pass."""

    def note(self, tenant: str, key: Key, message: str) -> Instant | None:
        """A message to a person bounced; until when they are not to be written to, or None: it was not too often."""
        ...


class SuppressionSubject(NamedTuple):
    """Whom an event is about."""

    key: Key
    address: str
    """Empty where nobody knows it any more."""
    topic: str | None
    """What the message was sent under."""
    message: str
    """Its id."""


def subscription_event_id(kind: EventKind, entry: SuppressionEntry) -> str:
    """The id of the event that this entry was made, or is taken back: the same for as long as the entry stands."""
    mark = hashlib.sha256(f"{entry.added_at}\0{entry.topic or ''}".encode()).hexdigest()[:16]
    return f"{kind}.{mark}"


def may_suppress(event: Event) -> bool:
    """Whether it can have a consequence at all: of most events this is all that is asked."""
    if event.kind is EventKind.BOUNCED:
        return event.bounce is not None and event.bounce.type is not BounceType.UNDETERMINED
    return event.kind in _REASONS and event.source != UNSUBSCRIBE_SOURCE


def entry(
    tenant: str, person: SuppressionSubject, event: Event, *, soft_bounces: SoftBounceCounter, now: Instant
) -> SuppressionEntry | None:
    """What the event makes of the person's standing with the tenant; None: nothing."""
    if not may_suppress(event):
        return None
    if event.bounce is not None:
        return _of_bounce(tenant, person, event, lasting=event.bounce.type, soft_bounces=soft_bounces, now=now)
    reason = _REASONS[event.kind]
    topic = person.topic if reason is SuppressionReason.UNSUBSCRIBE else None
    return SuppressionEntry(
        person.key, person.address, reason, now, _note(person, event), topic, source=source(person.message, event)
    )


def _note(person: SuppressionSubject, event: Event) -> str:
    return reply_text(event if person.address else redact_event(event))


def _of_bounce(
    tenant: str, person: SuppressionSubject, event: Event, *, lasting: BounceType, soft_bounces: SoftBounceCounter, now: Instant
) -> SuppressionEntry | None:
    if lasting is BounceType.HARD:
        return SuppressionEntry(
            person.key, person.address, SuppressionReason.BOUNCE, now, _note(person, event), source=source(person.message, event)
        )
    if lasting is BounceType.SOFT and (until := soft_bounces.note(tenant, person.key, person.message)) is not None:
        return SuppressionEntry(
            person.key,
            person.address,
            SuppressionReason.BOUNCE,
            now,
            _note(person, event),
            expires_at=until,
            source=source(person.message, event),
        )
    return None


class AutoSuppression:
    """Of all tenants' mail."""

    def __init__(self, messages: Messages, suppression: SuppressionList, tenants: Tenants, clock: Clock) -> None:
        self._messages = messages
        self._suppression = suppression
        self._tenants = tenants
        self._clock = clock

    def enter(self, ref: CampaignRef, batch: int, settled: Sequence[Settlement]) -> None:
        """Those of a batch whose addresses were refused. Costs nothing where none was."""
        refused = {each.key: each for each in settled if each.status is MessageStatus.BOUNCED}
        if refused:
            self._suppression.add_all(ref.tenant, list(self._entries(ref, batch, refused)))

    def _entries(self, ref: CampaignRef, batch: int, refused: dict[Key, Settlement]) -> Iterator[SuppressionEntry]:
        now = self._clock.now()
        for recipient in self._messages.find(ref, batch, list(refused)):
            settlement = refused[recipient.key]
            event = event_from_settlement(settlement)
            if event is not None and not recipient.erased:
                person = self._person(ref, recipient.key, recipient.address)
                told_by = source(message_id(ref, recipient.key), event)
                yield SuppressionEntry(person, recipient.address, SuppressionReason.BOUNCE, now, settlement.reply, source=told_by)

    def _person(self, ref: CampaignRef, key: Key, address: str) -> Key:
        if not is_stream(ref.campaign):
            return key
        return recipient_key(self._tenants.get(ref.tenant).secret, parse_address(address).normalised)
