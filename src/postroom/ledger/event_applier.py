"""Applies inbound events to the records: the suppression list first, then the message.

A crash between the two leaves the event in its queue, and it is applied again: listing an address twice is harmless, and a
message knows its events by their ids. In the other order a message could be shown as bounced while its address is still sent to.
An event that the message has already never suppresses: a replayed notification does not undo what users decided since.

A campaign may be deleted before its last bounce comes. Recipient keys are the tenant's, so its tokens still say which address to
suppress. Events of a message that its campaign does not have, or of an unknown tenant number, are dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import NotFound
from postroom.ledger.auto_suppression import (
    UNSUBSCRIBE_SOURCE,
    SoftBounceCounts,
    SuppressionSubject,
    may_suppress,
    subscription_event_id,
    suppression_for,
)
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.inbound_events import InboundEvent
from postroom.ledger.suppression import SuppressionList, suppression_source
from postroom.ledger.tenants import Tenants
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.address import parse_address
from postroom.model.batch import batch_of
from postroom.model.campaign import CampaignRef
from postroom.model.event import BounceType, Event, EventKind
from postroom.model.ids import Key, recipient_key
from postroom.model.message import ERASED, Message, MessageStatus
from postroom.model.provider_status import reply_text
from postroom.model.stream import is_stream, stream_batches
from postroom.model.tenant import Tenant
from postroom.model.tokens import message_id
from postroom.platform.ports.messages import MAX_EVENTS_PER_CALL, Messages, ReportedEvent
from postroom.telemetry.logs import event_logger

MachineFilter = Callable[[Event, Instant | None], Event]
"""Takes an open or click and when its message arrived (None: unknown); returns it, with `machine` set if a scanner made it."""
_REMEMBERED: Final = 1_000
_REMEMBERED_S: Final = 60.0
_PLAIN = frozenset({EventKind.QUEUED, EventKind.SENT, EventKind.DELAYED, EventKind.DELIVERED})
"""Most events: they are recorded without reading the message."""
_ARRIVED = frozenset({MessageStatus.SENT, MessageStatus.DELIVERED})
_Where = tuple[int, Key]
_log = event_logger(__name__)


class AppliedEvent(NamedTuple):
    """An event that was new, with what the reputation rules need."""

    ref: CampaignRef
    provider: str | None
    """The campaign's provider; None: a transactional message."""
    domain: str
    """The recipient's domain; empty if it is not known."""
    event: Event
    again: bool = False
    """The message has an event that says the same. Not to be counted twice: with a token anyone can report."""


class _Facts(NamedTuple):
    """The parts of a campaign's record that events need, cached."""

    batches: int
    provider: str | None
    topic: str | None


class _Located(NamedTuple):
    """An inbound event and the record it belongs to."""

    tenant: Tenant
    ref: CampaignRef
    facts: _Facts | None
    """None: the campaign was deleted."""
    where: _Where
    event: Event


class EventApplier:
    """Applies inbound events. Safe to repeat after any error."""

    def __init__(
        self,
        messages: Messages,
        suppression: SuppressionList,
        *,
        tenants: Tenants,
        campaigns: Campaigns,
        soft_bounces: SoftBounceCounts,
        judge: MachineFilter,
        clock: Clock,
        noted: Callable[[CampaignRef], None] = lambda ref: None,
    ) -> None:
        """`noted` is called with each campaign that got an event, to have its batches recounted (ledger.recounts)."""
        self._messages = messages
        self._suppression = suppression
        self._tenants = tenants
        self._campaigns = campaigns
        self._soft_bounces = soft_bounces
        self._judge = judge
        self._clock = clock
        self._noted = noted
        self._facts: TtlCache[CampaignRef, _Facts] = TtlCache(clock, most=_REMEMBERED)

    def apply(self, events: Sequence[InboundEvent]) -> list[AppliedEvent]:
        """Apply any number of events, in any order; the new ones. Events recorded by an earlier, failed call are not new."""
        by_campaign: dict[CampaignRef, list[_Located]] = defaultdict(list)
        for inbound in events:
            if (place := self._locate(inbound)) is not None:
                by_campaign[place.ref].append(place)
        return [applied for group in by_campaign.values() for applied in self._apply(group)]

    def _locate(self, inbound: InboundEvent) -> _Located | None:
        try:
            tenant = self._tenants.by_number(inbound.tenant)
        except NotFound as error:
            _log.warning("event.dropped", tenant_number=inbound.tenant, reason=str(error))
            return None
        ref = CampaignRef(tenant.id, inbound.campaign)
        facts, batch = self._facts_of(ref), inbound.batch
        if batch is None:
            batch = batch_of(inbound.key, facts.batches) if facts else 0
        return _Located(tenant, ref, facts, (batch, inbound.key), inbound.event)

    def _facts_of(self, ref: CampaignRef) -> _Facts | None:
        if is_stream(ref.campaign):
            return _Facts(stream_batches(ref.campaign), None, None)
        facts = self._facts.get(ref)
        if facts is None and (campaign := self._campaigns.find(ref)) is not None:
            facts = _Facts(campaign.source.batches, campaign.spec.provider, campaign.spec.content.topic)
            self._facts.put(ref, facts, seconds=_REMEMBERED_S)
        return facts

    def _apply(self, group: Sequence[_Located]) -> Iterator[AppliedEvent]:
        """Apply the events of one campaign."""
        ref, facts = group[0].ref, group[0].facts
        detailed = [place for place in group if place.event.kind not in _PLAIN]
        records = self._records(ref, detailed) if facts else None
        known_events = self._known_events(detailed, records or {})
        if detailed:
            self._suppress(detailed, records, known_events)
        known = records or {}
        told = [place for place in group if place.event.kind in _PLAIN or place.where in known]
        reports = [ReportedEvent(*place.where, self._judged(place.event, known.get(place.where))) for place in told]
        news = self._report(ref, reports) if facts else []
        said = {(where, _saying(event)) for where, events in known_events.items() for event in events}
        for report, new in zip(reports, news, strict=False):
            if new:
                where = (report.batch, report.key)
                says = (where, _saying(report.event))
                yield AppliedEvent(ref, facts and facts.provider, _domain(known.get(where)), report.event, again=says in said)
                said.add(says)

    def _records(self, ref: CampaignRef, group: Sequence[_Located]) -> Mapping[_Where, Message] | None:
        """The messages that exist; None: the campaign's messages are deleted."""
        wanted = {place.where for place in group}
        try:
            found = {where: self._messages.get(ref, *where) for where in wanted}
        except NotFound:
            return None
        return {where: record for where, record in found.items() if record is not None}

    def _known_events(self, group: Sequence[_Located], records: Mapping[_Where, Message]) -> Mapping[_Where, Sequence[Event]]:
        """The earlier events of messages whose new events may suppress an address."""
        asked = {place.where: place.ref for place in group if place.where in records and may_suppress(place.event)}
        return {where: self._messages.timeline(ref, *where) for where, ref in asked.items()}

    def _suppress(
        self,
        group: Sequence[_Located],
        records: Mapping[_Where, Message] | None,
        known_events: Mapping[_Where, Sequence[Event]],
    ) -> None:
        tenant, now = group[0].tenant.id, self._clock.now()
        entries = []
        for place in group:
            known = any(event.id == place.event.id for event in known_events.get(place.where, ()))
            if known or not may_suppress(place.event) or (person := _person(place, records)) is None:
                continue
            if (entered := suppression_for(tenant, person, place.event, soft_bounces=self._soft_bounces, now=now)) is not None:
                entries.append(entered)
        if entries:
            self._suppression.add_all(tenant, entries)
        for place in group:
            if place.event.kind is EventKind.UNSUBSCRIBED and place.event.source == UNSUBSCRIBE_SOURCE:
                self._explain(place, _person(place, records))

    def _explain(self, place: _Located, person: SuppressionSubject | None) -> None:
        """Complete the entry of a link unsubscribe: it was stored without the address and source, which are known here."""
        if person is None or not person.address:
            return
        event = place.event
        self._suppression.explain(
            place.tenant.id,
            person.key,
            wanted=lambda entry: subscription_event_id(event.kind, entry) == event.id,
            address=person.address,
            note=reply_text(event),
            source=suppression_source(person.message, event),
        )

    def _judged(self, event: Event, record: Message | None) -> Event:
        return event if record is None else self._judge(event, record.at if record.status in _ARRIVED else None)

    def _report(self, ref: CampaignRef, reports: Sequence[ReportedEvent]) -> list[bool]:
        """Record events; which were new. None are if the campaign's messages are deleted."""
        now, new = self._clock.now(), list[bool]()
        try:
            for at in range(0, len(reports), MAX_EVENTS_PER_CALL):
                new += self._messages.record_events(ref, reports[at : at + MAX_EVENTS_PER_CALL], now)
        except NotFound:
            return [False] * len(reports)
        if reports:
            self._noted(ref)
        return new


def _saying(event: Event) -> tuple[EventKind, BounceType | None]:
    """What rates distinguish."""
    return event.kind, event.bounce.type if event.bounce else None


def _person(place: _Located, records: Mapping[_Where, Message] | None) -> SuppressionSubject | None:
    """The recipient; None: there is no such message, or its recipient is not known any more."""
    record = records.get(place.where) if records is not None else None
    address = "" if record is None or record.address == ERASED else record.address
    topic = place.facts.topic if place.facts else None
    name = message_id(place.ref, place.where[1])
    if is_stream(place.ref.campaign):  # its keys are not people's
        return (
            SuppressionSubject(recipient_key(place.tenant.secret, parse_address(address).normalised), address, topic, name)
            if address
            else None
        )
    return SuppressionSubject(place.where[1], address, topic, name) if record is not None or records is None else None


def _domain(record: Message | None) -> str:
    return "" if record is None or record.address == ERASED else record.address.rpartition("@")[2]
