"""Automatic suppression: which outcomes put an address on the suppression list, and for how long.

    bounced, hard       bounce
    bounced, soft       bounce with an end, after too many soft bounces (`SoftBouncePolicy`)
    complained          complaint
    unsubscribed        unsubscribe, of the campaign's topic if it has one

Exception: unsubscribes through our own page or header. Their entry was written before the recipient got an answer, and may have
been undone since. The link carries a recipient key but no address; once its event has found the message, it completes the
entry (`subscription_event_id`).

If the address is not known any more (the recipient was erased, the campaign deleted), the entry does not keep the report's text
either: servers often repeat the address in it.

An address that a server rejects while mail is handed over (`AutoSuppression`) is listed before its outcome is recorded. After a
crash between the two, the next worker settles the group from the journal's answers and lists the address again: harmless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.ledger.collection import expect_of, write_retrying
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason, suppression_source
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
from postroom.platform.ports.tables import ItemKey, Put, Tables

UNSUBSCRIBE_SOURCE: Final = "unsubscribe"
"""`Event.source` of unsubscribes through our own page or header: their entry exists already."""
_REASONS = {
    EventKind.COMPLAINED: SuppressionReason.COMPLAINT,
    EventKind.UNSUBSCRIBED: SuppressionReason.UNSUBSCRIBE,
}


@dataclass(frozen=True, slots=True)
class SoftBouncePolicy:
    """When repeated soft bounces suppress an address."""

    bounces: int = 5
    """That many messages must bounce; 0: never suppress."""
    window_ms: int = 30 * 86_400_000
    """Within this time. Default: 30 days."""
    hold_ms: int = 14 * 86_400_000
    """How long the address is suppressed then. Default: 14 days."""


class SoftBounceCounts:
    """Counts soft bounces per recipient. One record each, which expires by itself.

    It counts messages, not reports: a message that is reported twice has bounced once.
    """

    def __init__(self, tables: Tables, policy: SoftBouncePolicy, clock: Clock) -> None:
        self._tables = tables
        self._policy = policy
        self._clock = clock

    def record(self, tenant: str, key: Key, message: str) -> Instant | None:
        """Record that a message to the recipient bounced. Until when to suppress the address, or None while below the limit."""
        if self._policy.bounces == 0:
            return None
        counted = self._count(tenant, key, message)
        return Instant(self._clock.now() + self._policy.hold_ms) if len(counted) >= self._policy.bounces else None

    def _count(self, tenant: str, key: Key, message: str) -> dict[str, int]:
        """The messages that bounced within the window, this one included, once that is stored."""
        place, window_ms = ItemKey(f"{tenant}#soft-bounces", key.hex()), self._policy.window_ms

        def plan() -> tuple[list[Put], dict[str, int]]:
            now, item = self._clock.now(), self._tables.get(place)
            known = {} if item is None else item.data["heard"]
            counted = {name: at for name, at in known.items() if at > now - window_ms} | {message: now}
            if message in known:
                return [], counted
            newest = dict(list(counted.items())[-self._policy.bounces :])
            return [Put(place, {"heard": newest}, expect_of(item), Instant(now + window_ms))], newest

        return write_retrying(self._tables, plan, f"the soft bounce count of {key.hex()}")


class SuppressionSubject(NamedTuple):
    """The recipient that an event is about."""

    key: Key
    address: str
    """Empty if it is not known any more."""
    topic: str | None
    """The topic of the message."""
    message: str
    """The message's id."""


def subscription_event_id(kind: EventKind, entry: SuppressionEntry) -> str:
    """The id of the event that an entry was added (unsubscribed) or taken back (resubscribed): the same for one entry."""
    mark = hashlib.sha256(f"{entry.added_at}\0{entry.topic or ''}".encode()).hexdigest()[:16]
    return f"{kind}.{mark}"


def may_suppress(event: Event) -> bool:
    """Whether the event can suppress an address at all. Cheap; False for most events."""
    if event.kind is EventKind.BOUNCED:
        return event.bounce is not None and event.bounce.type is not BounceType.UNDETERMINED
    return event.kind in _REASONS and event.source != UNSUBSCRIBE_SOURCE


def suppression_for(
    tenant: str, subject: SuppressionSubject, event: Event, *, soft_bounces: SoftBounceCounts, now: Instant
) -> SuppressionEntry | None:
    """The entry that the event adds to the suppression list, or None."""
    if not may_suppress(event):
        return None
    reason, topic, until = _REASONS.get(event.kind, SuppressionReason.BOUNCE), None, None
    if reason is SuppressionReason.UNSUBSCRIBE:
        topic = subject.topic
    elif event.bounce is not None and event.bounce.type is BounceType.SOFT:
        until = soft_bounces.record(tenant, subject.key, subject.message)
        if until is None:
            return None
    note = reply_text(event if subject.address else redact_event(event))
    source = suppression_source(subject.message, event)
    return SuppressionEntry(subject.key, subject.address, reason, now, note, topic, expires_at=until, source=source)


class AutoSuppression:
    """Suppresses addresses that a server rejects while mail is handed over."""

    def __init__(self, messages: Messages, suppression: SuppressionList, tenants: Tenants, clock: Clock) -> None:
        self._messages = messages
        self._suppression = suppression
        self._tenants = tenants
        self._clock = clock

    def add_rejected(self, ref: CampaignRef, batch: int, settled: Sequence[Settlement]) -> None:
        """List the addresses of a batch whose settlement is `bounced`. Costs nothing if there is none."""
        rejected = {each.key: each for each in settled if each.status is MessageStatus.BOUNCED}
        if rejected:
            self._suppression.add_all(ref.tenant, list(self._entries(ref, batch, rejected)))

    def _entries(self, ref: CampaignRef, batch: int, rejected: dict[Key, Settlement]) -> Iterator[SuppressionEntry]:
        now = self._clock.now()
        for recipient in self._messages.find(ref, batch, list(rejected)):
            settlement = rejected[recipient.key]
            event = event_from_settlement(settlement)
            if event is not None and not recipient.erased:
                key = self._recipient_key(ref, recipient.key, recipient.address)
                source = suppression_source(message_id(ref, recipient.key), event)
                reason = SuppressionReason.BOUNCE
                yield SuppressionEntry(key, recipient.address, reason, now, settlement.reply, source=source)

    def _recipient_key(self, ref: CampaignRef, key: Key, address: str) -> Key:
        """The recipient's key. In a daily stream a message's key is not derived from the address."""
        if not is_stream(ref.campaign):
            return key
        return recipient_key(self._tenants.get(ref.tenant).secret, parse_address(address).normalised)
