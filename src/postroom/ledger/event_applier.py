"""What came back, made part of the records: the suppression list first, then the message.

Whoever is killed between the two is handled again, for the item is still queued: entering the list twice is harmless, and a
message knows its events by their ids. The other way round a message would stand as bounced and its address be written to again.
An event that the message knows already enters nobody: a notice that is replayed does not undo what people decided since.

A campaign may be gone before its last bounce comes. Its recipients' keys are the tenant's, so a token of ours still says who is
not to be written to any more. A message that its campaign does not have, or that no tenant's number leads to, is nobody's: the
event is dropped.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import NotFound
from postroom.ledger.auto_suppression import (
    UNSUBSCRIBE_SOURCE,
    SoftBounceCounter,
    SuppressionSubject,
    entry,
    may_suppress,
    subscription_event_id,
)
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.inbound_events import InboundEvent
from postroom.ledger.suppression import SuppressionList, source
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
from postroom.platform.ports.messages import MAX_REPORTS, Messages, Reported

MachineFilter = Callable[[Event, Instant | None], Event]
"""Tells a machine's hits from a person's: the event, flagged where it came too soon after the message arrived (None: unknown)."""

_REMEMBERED: Final = 1_000
_REMEMBERED_S: Final = 60.0
_PLAIN = frozenset({EventKind.QUEUED, EventKind.SENT, EventKind.DELAYED, EventKind.DELIVERED})
"""Most of what comes: nothing of the message needs to be known for them."""
_ARRIVED = frozenset({MessageStatus.SENT, MessageStatus.DELIVERED})
_Where = tuple[int, Key]
_log = logging.getLogger(__name__)


class AppliedEvent(NamedTuple):
    """An event that was new, and what those want to know who watch the rates."""

    ref: CampaignRef
    provider: str | None
    """Through which the campaign's mail leaves; None: a single message."""
    domain: str
    """Of the recipient; empty where nobody knows it any more, or nobody asked."""
    event: Event
    again: bool = False
    """The message knows one that says the same. Whoever has a token of it may write as many reports of it as they like."""


class _Facts(NamedTuple):
    """What of a campaign's record is needed again and again."""

    batches: int
    provider: str | None
    topic: str | None


class _Place(NamedTuple):
    """Where an arrival belongs."""

    tenant: Tenant
    ref: CampaignRef
    facts: _Facts | None
    """None: the campaign is gone."""
    where: _Where
    event: Event


class EventApplier:
    """Applies what came back."""

    def __init__(
        self,
        messages: Messages,
        suppression: SuppressionList,
        *,
        tenants: Tenants,
        campaigns: Campaigns,
        soft_bounces: SoftBounceCounter,
        judge: MachineFilter,
        clock: Clock,
        noted: Callable[[CampaignRef], None] = lambda ref: None,
    ) -> None:
        """`noted` is told of each home of which something was reported, again where it is repeated (ledger.recounts)."""
        self._messages = messages
        self._suppression = suppression
        self._tenants = tenants
        self._campaigns = campaigns
        self._soft_bounces = soft_bounces
        self._judge = judge
        self._clock = clock
        self._noted = noted
        self._facts: TtlCache[CampaignRef, _Facts] = TtlCache(clock, most=_REMEMBERED)

    def apply(self, arrivals: Sequence[InboundEvent]) -> list[AppliedEvent]:
        """Any number, in any order: the new ones. Again after any error: harmless, and what was noted before is not new."""
        by_home: dict[CampaignRef, list[_Place]] = defaultdict(list)
        for arrival in arrivals:
            if (place := self._place(arrival)) is not None:
                by_home[place.ref].append(place)
        return [applied for group in by_home.values() for applied in self._apply(group)]

    def _place(self, arrival: InboundEvent) -> _Place | None:
        try:
            tenant = self._tenants.by_number(arrival.tenant)
        except NotFound as error:
            _log.warning("what came back is dropped: %s", error)
            return None
        ref = CampaignRef(tenant.id, arrival.campaign)
        facts, batch = self._facts_of(ref), arrival.batch
        if batch is None:
            batch = batch_of(arrival.key, facts.batches) if facts else 0
        return _Place(tenant, ref, facts, (batch, arrival.key), arrival.event)

    def _facts_of(self, ref: CampaignRef) -> _Facts | None:
        if is_stream(ref.campaign):
            return _Facts(stream_batches(ref.campaign), None, None)
        facts = self._facts.get(ref)
        if facts is None and (campaign := self._campaigns.find(ref)) is not None:
            facts = _Facts(campaign.source.batches, campaign.provider, campaign.content.topic)
            self._facts.put(ref, facts, seconds=_REMEMBERED_S)
        return facts

    def _apply(self, group: Sequence[_Place]) -> Iterator[AppliedEvent]:
        """All of one home."""
        ref, facts = group[0].ref, group[0].facts
        telling = [place for place in group if place.event.kind not in _PLAIN]
        records = self._records(ref, telling) if facts else None
        heard = self._heard(telling, records or {})
        if telling:
            self._suppress(telling, records, heard)
        known = records or {}
        told = [place for place in group if place.event.kind in _PLAIN or place.where in known]
        reports = [Reported(*place.where, self._judged(place.event, known.get(place.where))) for place in told]
        news = self._report(ref, reports) if facts else []
        said = {(where, _saying(event)) for where, events in heard.items() for event in events}
        for report, new in zip(reports, news, strict=False):
            if new:
                where = (report.batch, report.key)
                says = (where, _saying(report.event))
                yield AppliedEvent(ref, facts and facts.provider, _domain(known.get(where)), report.event, again=says in said)
                said.add(says)

    def _records(self, ref: CampaignRef, group: Sequence[_Place]) -> Mapping[_Where, Message] | None:
        """Of the messages that there are; None: the home is gone with all of them, as far as anybody asked."""
        wanted = {place.where for place in group}
        try:
            found = {where: self._messages.get(ref, *where) for where in wanted}
        except NotFound:
            return None
        return {where: record for where, record in found.items() if record is not None}

    def _heard(self, group: Sequence[_Place], records: Mapping[_Where, Message]) -> Mapping[_Where, Sequence[Event]]:
        """What the messages know already of which something came that has consequences."""
        asked = {place.where: place.ref for place in group if place.where in records and may_suppress(place.event)}
        return {where: self._messages.timeline(ref, *where) for where, ref in asked.items()}

    def _suppress(
        self,
        group: Sequence[_Place],
        records: Mapping[_Where, Message] | None,
        heard: Mapping[_Where, Sequence[Event]],
    ) -> None:
        tenant, now = group[0].tenant.id, self._clock.now()
        entries = []
        for place in group:
            known = any(event.id == place.event.id for event in heard.get(place.where, ()))
            if known or not may_suppress(place.event) or (person := _person(place, records)) is None:
                continue
            if (entered := entry(tenant, person, place.event, soft_bounces=self._soft_bounces, now=now)) is not None:
                entries.append(entered)
        if entries:
            self._suppression.add_all(tenant, entries)
        for place in group:
            if place.event.kind is EventKind.UNSUBSCRIBED and place.event.source == UNSUBSCRIBE_SOURCE:
                self._explain(place, _person(place, records))

    def _explain(self, place: _Place, person: SuppressionSubject | None) -> None:
        """Whoever unsubscribed by a link is on the list without an address and without a source: here both are known."""
        if person is None or not person.address:
            return
        event = place.event
        self._suppression.explain(
            place.tenant.id,
            person.key,
            wanted=lambda entry: subscription_event_id(event.kind, entry) == event.id,
            address=person.address,
            note=reply_text(event),
            source=source(person.message, event),
        )

    def _judged(self, event: Event, record: Message | None) -> Event:
        return event if record is None else self._judge(event, record.at if record.status in _ARRIVED else None)

    def _report(self, ref: CampaignRef, reports: Sequence[Reported]) -> list[bool]:
        """Which were new: none of a home that is gone."""
        now, new = self._clock.now(), list[bool]()
        try:
            for at in range(0, len(reports), MAX_REPORTS):
                new += self._messages.report(ref, reports[at : at + MAX_REPORTS], now)
        except NotFound:
            return [False] * len(reports)
        if reports:
            self._noted(ref)
        return new


def _saying(event: Event) -> tuple[EventKind, BounceType | None]:
    """What a report says, as far as rates go."""
    return event.kind, event.bounce.type if event.bounce else None


def _person(place: _Place, records: Mapping[_Where, Message] | None) -> SuppressionSubject | None:
    """Whom it is about; None: there never was such a message, or nobody knows any more whose it was."""
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
