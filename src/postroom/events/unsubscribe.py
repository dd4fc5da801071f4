"""People who want no more mail, or want it again: by the page, by their mail program's button (RFC 8058), by mail.

The suppression list first, then the answer; the event for the timeline and the callbacks after the list. Whoever is killed
between the two has the wish on the list, and the same wish again makes the event: its id comes from the list's entry, so that
two clicks make one event, and unsubscribing, taking it back and unsubscribing again make three. Taking back is told first and
done then, for the same reason: once the entry is gone nobody could tell of it again.

A token says all that is needed, so this works when the campaign is gone, and for a tenant that is disabled. It names a person by
their key alone: the list's entry has no address until the event has found the message (ledger.incoming).

Whose mail it was, for the person who holds a link of it: as the mail's own From said, else the tenant's name.

A campaign that is gone took its From along, and a single message's link does not name the message: then it is the tenant's name,
and nothing where the tenant has none.
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
_NOBODY: Final = ""


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """How somebody stands with a tenant's mail."""

    token: UnsubscribeTarget
    tenant: Tenant
    no_mail: SuppressionEntry | None
    """Their entry of all mail."""
    no_topic: SuppressionEntry | None
    """Their entry of the token's topic."""

    @property
    def topic(self) -> str | None:
        """What the mail was sent under."""
        return self.token.topic


class UnsubscribeService:
    """See the module's text. For several threads."""

    def __init__(self, tenants: Tenants, suppression: SuppressionList, arrivals: InboundEventQueue, clock: Clock) -> None:
        self._tenants = tenants
        self._suppression = suppression
        self._arrivals = arrivals
        self._clock = clock

    def look(self, token_text: str) -> SubscriptionState:
        """How whoever has this token stands; changes nothing. `Invalid`, `NotFound`: it is none of ours; `Unavailable`."""
        token = parse_unsubscribe_token(token_text, lambda number: self._tenants.by_number(number).secret)
        tenant = self._tenants.by_number(token.tenant)
        topic = None if token.topic is None else self._suppression.get(tenant.id, token.key, topic=token.topic)
        return SubscriptionState(token, tenant, self._suppression.get(tenant.id, token.key), topic)

    def unsubscribe(self, token_text: str, *, everything: bool | None = None, source: str = "by mail") -> SubscriptionState:
        """No more mail. `everything`: of any kind, else of the token's topic; None: as the token says, which of a mail without a
        topic is everything. `source`: how they said it, for people. On the list when it returns. Again: harmless. Raises as
        `look`."""
        wish = self.look(token_text)
        topic = None if everything else wish.topic
        self._suppression.add(wish.tenant.id, wish.token.key, address=_NOBODY, reason=SuppressionReason.UNSUBSCRIBE, topic=topic)
        now = self.look(token_text)
        if (entry := now.no_mail if topic is None else now.no_topic) is not None:
            self._tell(EventKind.UNSUBSCRIBED, now, entry, source=source)
        return now

    def resubscribe(self, token_text: str, *, everything: bool | None = None, source: str = BY_LINK) -> SubscriptionState:
        """Take it back. `everything`: what they said of all mail and of the token's topic; else of the topic; None: as the token
        says. Who is on the list for another reason stays there. Again: harmless. Raises as `look`."""
        wish = self.look(token_text)
        everything = wish.topic is None if everything is None else everything
        entries = [wish.no_mail, wish.no_topic] if everything else [wish.no_topic]
        willed = [entry for entry in entries if entry is not None and entry.reason is SuppressionReason.UNSUBSCRIBE]
        if willed:
            self._tell(EventKind.RESUBSCRIBED, wish, willed[0], source=source)
        for entry in willed:
            self._suppression.take_back(wish.tenant.id, wish.token.key, topic=entry.topic)
        return self.look(token_text)

    def _tell(self, kind: EventKind, wish: SubscriptionState, entry: SuppressionEntry, *, source: str) -> None:
        scope = "from all mail" if entry.topic is None else f"from {entry.topic}"
        event = Event(
            kind=kind,
            attempt=0,
            at=self._clock.now(),
            id=subscription_event_id(kind, entry),
            source=UNSUBSCRIBE_SOURCE,
            detail=f"{scope}, {source}" if kind is EventKind.UNSUBSCRIBED else source,
        )
        self._arrivals.put([InboundEvent.of_unsubscribe(wish.token, event)])


class SenderDisplay:
    """Of all tenants."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns

    def of(self, wish: SubscriptionState) -> str:
        """A name, or empty. `Unavailable`."""
        ref = CampaignRef(wish.tenant.id, wish.token.campaign)
        campaign = None if is_stream(ref.campaign) else self._campaigns.find(ref)
        return _name(campaign.content.from_) if campaign is not None else wish.tenant.name


def _name(sender: str) -> str:
    try:
        address = parse_address(sender)
    except AddressError:
        return ""
    return address.name or address.mailbox
