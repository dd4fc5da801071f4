"""Unsubscribes people and takes it back: by page, by the mail program's button (RFC 8058), or by mail.

To unsubscribe, the suppression entry is written first, then the event for timeline and callbacks is queued. After a crash in
between the entry exists, and the same request again queues the event. The event's id comes from the entry, so two clicks make one
event, and unsubscribe, resubscribe, unsubscribe make three. To resubscribe, the event comes first for the same reason: once the
entry is gone it could no longer be made.

A token is all that is needed, so this works for deleted campaigns and disabled tenants. It names a person by key only: the entry
gets its address when the event is applied. `SenderDisplay` falls back to the tenant's name if the campaign was deleted, and for
single messages, because their link does not name the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.clock import Clock
from postroom.ledger.auto_suppression import UNSUBSCRIBE_SOURCE, subscription_event_id
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.inbound_events import InboundEvent, InboundEventQueue
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.address import AddressError, parse_address
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event, EventKind
from postroom.model.stream import is_stream
from postroom.model.tenant import Tenant
from postroom.model.tokens import UnsubscribeTarget, parse_unsubscribe_token

BY_LINK: Final = "by the link"
BY_BUTTON: Final = "by the mail program's button"
_NO_ADDRESS: Final = ""


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """A person's suppression entries of one tenant."""

    token: UnsubscribeTarget
    tenant: Tenant
    no_mail: SuppressionEntry | None
    """The entry for all mail."""
    no_topic: SuppressionEntry | None
    """The entry for the token's topic."""

    @property
    def topic(self) -> str | None:
        """The topic of the mail that has the token; None if it has none."""
        return self.token.topic


class UnsubscribeService:
    """Unsubscribes and resubscribes people by their token. Thread-safe."""

    def __init__(self, tenants: Tenants, suppression: SuppressionList, inbound_events: InboundEventQueue, clock: Clock) -> None:
        self._tenants = tenants
        self._suppression = suppression
        self._inbound_events = inbound_events
        self._clock = clock

    def state(self, token_text: str) -> SubscriptionState:
        """The state of the person with this token. Raises `Invalid` or `NotFound` if it is not ours, `Unavailable`."""
        token = parse_unsubscribe_token(token_text, lambda number: self._tenants.by_number(number).secret)
        tenant = self._tenants.by_number(token.tenant)
        topic = None if token.topic is None else self._suppression.get(tenant.id, token.key, topic=token.topic)
        return SubscriptionState(token, tenant, self._suppression.get(tenant.id, token.key), topic)

    def unsubscribe(self, token_text: str, *, everything: bool | None = None, source: str = "by mail") -> SubscriptionState:
        """Suppress the person; durable when it returns, and idempotent. Raises as `state`.

        `everything`: True for all mail, False for the token's topic, None for the topic if the token has one, else all mail.
        `source`: how they asked, for people.
        """
        before = self.state(token_text)
        topic = None if everything else before.topic
        self._suppression.add(
            before.tenant.id, before.token.key, address=_NO_ADDRESS, reason=SuppressionReason.UNSUBSCRIBE, topic=topic
        )
        now = self.state(token_text)
        if (entry := now.no_mail if topic is None else now.no_topic) is not None:
            self._queue_event(EventKind.UNSUBSCRIBED, now, entry, source=source)
        return now

    def resubscribe(self, token_text: str, *, everything: bool | None = None, source: str = BY_LINK) -> SubscriptionState:
        """Take an unsubscribe back; idempotent. Entries with another reason stay. Raises as `state`.

        `everything`: True for all mail and the token's topic, False for the topic, None for the topic if the token has one.
        """
        before = self.state(token_text)
        everything = before.topic is None if everything is None else everything
        entries = [before.no_mail, before.no_topic] if everything else [before.no_topic]
        removable = [entry for entry in entries if entry is not None and entry.reason is SuppressionReason.UNSUBSCRIBE]
        if removable:
            self._queue_event(EventKind.RESUBSCRIBED, before, removable[0], source=source)
        for entry in removable:
            self._suppression.take_back(before.tenant.id, before.token.key, topic=entry.topic)
        return self.state(token_text)

    def _queue_event(self, kind: EventKind, state: SubscriptionState, entry: SuppressionEntry, *, source: str) -> None:
        scope = "from all mail" if entry.topic is None else f"from {entry.topic}"
        event = Event(
            kind=kind,
            attempt=0,
            at=self._clock.now(),
            id=subscription_event_id(kind, entry),
            source=UNSUBSCRIBE_SOURCE,
            detail=f"{scope}, {source}" if kind is EventKind.UNSUBSCRIBED else source,
        )
        self._inbound_events.put([InboundEvent.from_unsubscribe(state.token, event)])


class SenderDisplay:
    """The sender name shown on the unsubscribe page."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns

    def name_for(self, state: SubscriptionState) -> str:
        """The campaign's From name or address, else the tenant's name, else empty. Raises `Unavailable`."""
        ref = CampaignRef(state.tenant.id, state.token.campaign)
        campaign = None if is_stream(ref.campaign) else self._campaigns.find(ref)
        return _from_name(campaign.spec.content.from_) if campaign is not None else state.tenant.name


def _from_name(sender: str) -> str:
    try:
        address = parse_address(sender)
    except AddressError:
        return ""
    return address.name or address.mailbox
