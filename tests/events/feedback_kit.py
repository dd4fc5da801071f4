"""A campaign whose mail went out, and what comes back of it, on the real embedded stores."""

from __future__ import annotations

from postroom.clock import Instant
from postroom.events.feedback import FeedbackWorker
from postroom.ledger.auto_suppression import SoftBounceCounts, SoftBouncePolicy
from postroom.ledger.event_applier import AppliedEvent, EventApplier
from postroom.ledger.inbound_events import InboundEvent, InboundEventQueue
from postroom.ledger.recounts import Recounts
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.message import Message, MessageStatus, Settlement
from tests.fakes.faults import Faults
from tests.fakes.ledger import Bench

HARD = Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1")
SOFT = Bounce(BounceType.SOFT, BounceClass.QUOTA, "4.2.2")


class FeedbackSetup:
    """The feedback side over a bench; `faults` counts every call it makes of a store."""

    def __init__(self, made: Bench, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.made = made
        self.observed: list[AppliedEvent] = []
        self.tenants = Tenants(made.tables, made.clock)
        self.suppression = SuppressionList(made.tables, made.clock)
        self.arrivals = InboundEventQueue(made.queues)
        self.judged: list[Instant | None] = []
        self.incoming = EventApplier(
            faults.wrap(made.messages),
            SuppressionList(faults.wrap(made.tables), made.clock),
            tenants=self.tenants,
            campaigns=made.campaigns,
            soft_bounces=SoftBounceCounts(made.tables, SoftBouncePolicy(bounces=2, hold_ms=60_000), made.clock),
            judge=self._judge,
            clock=made.clock,
            noted=Recounts(faults.wrap(made.tables), made.messages, made.clock).note,
        )
        self.feedback = FeedbackWorker(faults.wrap(made.queues), self.incoming, self.observed.append)

    def _judge(self, event: Event, sent_at: Instant | None) -> Event:
        self.judged.append(sent_at)
        return event

    def send_all(self, campaign: Campaign) -> list[Message]:
        """Record every message of the campaign as sent; them."""
        messages, now = self.made.messages, self.made.clock.now()
        for batch in range(campaign.source.batches):
            opened = messages.open(campaign.ref, batch, "w", now, lease_ms=10_000)
            assert opened is not None
            work = messages.load(campaign.ref, batch, now, 1_000)
            settled = [Settlement(each.key, MessageStatus.SENT, 1, now) for each in work]
            messages.record(campaign.ref, batch, opened.fence, settled, [], now, lease_ms=10_000)
            messages.close(campaign.ref, batch, opened.fence)
        return list(messages.list(campaign.ref).messages)

    def arrival(self, campaign: Campaign, message: Message, kind: EventKind, **fields: object) -> InboundEvent:
        """An event of it, of an id of its kind's unless `id` is given."""
        given = {"attempt": 1, "at": self.made.clock.now(), "id": f"e-{kind}", "source": "dsn", **fields}
        if kind is EventKind.BOUNCED:
            given.setdefault("bounce", HARD)
        number = self.tenants.get(campaign.ref.tenant).number
        return InboundEvent(number, campaign.ref.campaign, message.batch, message.key, Event(kind=kind, **given))  # type: ignore[arg-type]  # of a test's own making

    def hear(self, *arrivals: InboundEvent) -> None:
        """Put and handled."""
        self.arrivals.put(arrivals)
        while self.feedback.once():
            pass
