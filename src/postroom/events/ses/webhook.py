"""Receives Amazon SES events from SNS, by HTTP or from a queue, and matches them to our messages.

- By HTTP (`SesWebhook.receive`) the SNS signature is the proof. Subscriptions are confirmed; events are stored before SNS is
  answered.
- On an SQS queue to which only SNS may send, the queue's policy is the proof (`parse_queued`).
- On top of that, an event's recipient must be the address that the tagged message was sent to.
- Events that match no message of ours are logged and acknowledged: they are no error of SNS's.
- A crash before the answer makes SNS send the same again. Events have ids, so applying one twice changes nothing.

If a person unsubscribes on SES's own page, the suppression entry exists before the event is stored. An unsubscribe event that the
message's timeline already has was entered then, so a repeated one does not undo what the person decided since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from postroom.errors import Invalid, NotFound
from postroom.events.ses.ses_event import RecipientEvent, parse_ses_event
from postroom.events.ses.sns import SnsEnvelope, SnsType, SnsVerifier
from postroom.ledger.auto_suppression import UNSUBSCRIBE_SOURCE
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.inbound_events import InboundEvent
from postroom.ledger.suppression import SuppressionList, SuppressionReason, suppression_source
from postroom.ledger.tenants import Tenants
from postroom.model.address import AddressError, parse_address
from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.model.ids import Key, recipient_key
from postroom.model.message import ERASED
from postroom.model.provider_status import reply_text
from postroom.model.stream import is_stream
from postroom.model.tokens import message_id
from postroom.platform.ports.messages import Messages
from postroom.telemetry.logs import event_logger

_log = event_logger(__name__)


@dataclass(frozen=True, slots=True)
class SesRecords:
    """The stores that events are matched against."""

    tenants: Tenants
    campaigns: Campaigns
    messages: Messages
    suppression: SuppressionList


class SesEventMatcher:
    """Turns SES events into inbound events of our messages. Thread-safe."""

    def __init__(self, records: SesRecords) -> None:
        self._records = records

    def inbound_events(self, text: str) -> list[InboundEvent]:
        """The inbound events in an SES event; what matches no message is logged and left out. Raises `Invalid`."""
        return [found for event in parse_ses_event(text) if (found := self._match(event)) is not None]

    def _match(self, event: RecipientEvent) -> InboundEvent | None:
        try:
            campaign_ref, key = self._recipient(event)
        except (NotFound, Invalid) as error:
            _log.warning("ses.event_ignored", ses_message_id=event.ses_message_id, reason=str(error))
            return None
        if event.event.kind is not EventKind.UNSUBSCRIBED:
            return InboundEvent.from_message_ref(event.ref, event.event)
        self._suppress(campaign_ref, key, event)
        return InboundEvent.from_message_ref(event.ref, replace(event.event, source=UNSUBSCRIBE_SOURCE))

    def _recipient(self, event: RecipientEvent) -> tuple[CampaignRef, Key]:
        """Raises `NotFound` or `Invalid` unless the tagged message was sent to the event's recipient."""
        ref = event.ref
        tenant = self._records.tenants.by_number(ref.tenant)
        campaign_ref, key = CampaignRef(tenant.id, ref.campaign), recipient_key(tenant.secret, _normalised(event.recipient))
        if is_stream(ref.campaign):  # a stream's message keys are not recipient keys
            record = self._records.messages.get(campaign_ref, ref.batch, ref.key)
            matches = record is not None and recipient_key(tenant.secret, parse_address(record.address).normalised) == key
        else:
            matches = key == ref.key
        if not matches:
            raise Invalid(f"its tags name a message of campaign {ref.campaign} that was for another recipient")
        return campaign_ref, key

    def _suppress(self, campaign_ref: CampaignRef, key: Key, event: RecipientEvent) -> None:
        ref, messages, address = event.ref, self._records.messages, event.recipient
        with suppress(NotFound):
            if any(known.id == event.event.id for known in messages.timeline(campaign_ref, ref.batch, ref.key)):
                return
            record = messages.get(campaign_ref, ref.batch, ref.key)
            if record is not None and record.address == ERASED:
                address = ""
        self._records.suppression.add(
            campaign_ref.tenant,
            key,
            address=address,
            reason=SuppressionReason.UNSUBSCRIBE,
            note=reply_text(event.event),
            topic=None if event.all_mail else self._topic(campaign_ref),
            source=suppression_source(message_id(campaign_ref, ref.key), event.event),
        )

    def _topic(self, campaign_ref: CampaignRef) -> str | None:
        """The campaign's topic. None (all mail) for streams, and for a campaign that was deleted."""
        campaign = None if is_stream(campaign_ref.campaign) else self._records.campaigns.find(campaign_ref)
        return None if campaign is None else campaign.spec.content.topic


def _normalised(recipient: str) -> str:
    """Raises `Invalid` without the address, because the error is logged."""
    try:
        return parse_address(recipient).normalised
    except AddressError:
        raise Invalid("its recipient is no address") from None


class _QueuedEnvelope(msgspec.Struct):
    """The fields of an SNS envelope that count on a queue."""

    Type: str | None = None
    Message: str | None = None
    MessageId: str = ""


_QUEUED = msgspec.json.Decoder(_QueuedEnvelope)


class SesWebhook:
    """The webhook that SNS posts SES events to. Thread-safe."""

    def __init__(self, verifier: SnsVerifier, records: SesRecords, put: Callable[[Sequence[InboundEvent]], None]) -> None:
        """`put` stores events durably before it returns (events.group_commit)."""
        self._verifier = verifier
        self._matcher = SesEventMatcher(records)
        self._put = put

    def receive(self, body: bytes) -> None:
        """Process a POST of SNS. Raises `Invalid`, `TooLarge` or `Denied` if it is not SNS's or not for us, `Unavailable` if SNS
        must try again; nothing is changed then."""
        envelope = self._verifier.verify(body)
        if envelope.kind is SnsType.NOTIFICATION:
            self._store(envelope)
            return
        self._verifier.confirm(envelope)
        _log.warning("sns.subscription_changed", type=envelope.kind.value, topic=envelope.topic)

    def parse_queued(self, body: str) -> list[InboundEvent]:
        """The inbound events of an item on a queue that only SNS can send to, in an SNS envelope or raw. Raises `Unavailable`."""
        try:
            envelope = _QUEUED.decode(body)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):  # raw delivery of plain text, or of some other shape
            envelope = _QueuedEnvelope()
        if envelope.Type == SnsType.NOTIFICATION and envelope.Message is not None:
            return self._events(envelope.Message, envelope.MessageId)
        return self._events(body, "")

    def _store(self, envelope: SnsEnvelope) -> None:
        if events := self._events(envelope.message, envelope.message_id):
            self._put(events)

    def _events(self, text: str, sns_message_id: str) -> list[InboundEvent]:
        try:
            return self._matcher.inbound_events(text)
        except Invalid as error:  # SES sends a plain text when a topic is set up
            _log.info("sns.message_ignored", sns_message_id=sns_message_id[:40], reason=str(error))
            return []
