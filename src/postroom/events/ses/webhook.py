"""What a notice of SES is about, once it is believed that SES said it: arrivals of messages of ours.

On top of what proves it (a signature, or a queue's policy) the mail must have gone to the very address that the message was for.
Who unsubscribes at SES's own page is on the suppression list before this returns. An unsubscribe that the message knows already
was entered then: a notice that is replayed does not undo what the person decided since.

Takes what SNS posts: subscriptions are confirmed, notices of SES become arrivals, stored before SNS is answered.

Whoever is killed before the answer is sent the same again by SNS, and events have ids, so twice is as once. A notice's tags are
believed because SNS signed it (sns) for a topic of ours; what it then says of whom is read in `believed`. What fits no message of
ours is no error of SNS's: it is answered like everything else, with a line in the log.

Where SNS puts its notices on a queue of ours that nobody else may put anything on, the queue's policy is the proof (`heard`).
"""

from __future__ import annotations

import logging
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

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SesRecords:
    """What a notice is held against."""

    tenants: Tenants
    campaigns: Campaigns
    messages: Messages
    suppression: SuppressionList


class SesEventMatcher:
    """See the module's text. For several threads."""

    def __init__(self, records: SesRecords) -> None:
        self._records = records

    def arrivals(self, message: str) -> list[InboundEvent]:
        """Of the messages that it is about. What fits none of ours is left out, with a line in the log. `Invalid`: it is no
        notice of SES."""
        return [arrival for charge in parse_ses_event(message) if (arrival := self._arrival(charge)) is not None]

    def _arrival(self, charge: RecipientEvent) -> InboundEvent | None:
        """None: it is of no message of ours."""
        try:
            person = self._person(charge)
        except (NotFound, Invalid) as error:
            _log.warning("a notice of SES (message %s) is ignored: %s", charge.provider_id, error)
            return None
        if charge.event.kind is not EventKind.UNSUBSCRIBED:
            return InboundEvent.of(charge.ref, charge.event)
        self._enter(person, charge)
        return InboundEvent.of(charge.ref, replace(charge.event, source=UNSUBSCRIBE_SOURCE))

    def _person(self, charge: RecipientEvent) -> tuple[CampaignRef, Key]:
        """Whom it is about. `NotFound`, `Invalid`: the tags name nobody, or somebody else than the mail went to."""
        ref = charge.ref
        tenant = self._records.tenants.by_number(ref.tenant)
        campaign_ref, key = CampaignRef(tenant.id, ref.campaign), recipient_key(tenant.secret, _normalised(charge.recipient))
        if is_stream(ref.campaign):  # its keys are not people's
            record = self._records.messages.get(campaign_ref, ref.batch, ref.key)
            right = record is not None and recipient_key(tenant.secret, parse_address(record.address).normalised) == key
        else:
            right = key == ref.key
        if not right:
            raise Invalid(f"its tags name a message of campaign {ref.campaign} that was for somebody else")
        return campaign_ref, key

    def _enter(self, person: tuple[CampaignRef, Key], charge: RecipientEvent) -> None:
        (campaign_ref, key), event, address = person, charge.event, charge.recipient
        with suppress(NotFound):
            if any(
                known.id == event.id for known in self._records.messages.timeline(campaign_ref, charge.ref.batch, charge.ref.key)
            ):
                return
            record = self._records.messages.get(campaign_ref, charge.ref.batch, charge.ref.key)
            if record is not None and record.address == ERASED:
                address = ""
        self._records.suppression.add(
            campaign_ref.tenant,
            key,
            address=address,
            reason=SuppressionReason.UNSUBSCRIBE,
            note=reply_text(event),
            topic=None if charge.everything else self._topic(campaign_ref),
            source=suppression_source(message_id(campaign_ref, charge.ref.key), event),
        )

    def _topic(self, campaign_ref: CampaignRef) -> str | None:
        """What its mail was sent under. Of single messages and of a campaign that is gone nobody knows: then it is all mail."""
        campaign = None if is_stream(campaign_ref.campaign) else self._records.campaigns.find(campaign_ref)
        return None if campaign is None else campaign.content.topic


def _normalised(recipient: str) -> str:
    """`Invalid`, which stands in the log, and so names nobody."""
    try:
        return parse_address(recipient).normalised
    except AddressError:
        raise Invalid("whom it went to is no address") from None


class _Queued(msgspec.Struct):
    """What of an envelope counts that was not sent over HTTP."""

    Type: str | None = None
    Message: str | None = None
    MessageId: str = ""


_QUEUED = msgspec.json.Decoder(_Queued)


class SesWebhook:
    """See the module's text. For several threads."""

    def __init__(self, verifier: SnsVerifier, records: SesRecords, put: Callable[[Sequence[InboundEvent]], None]) -> None:
        """`put`: durable when it returns (events.together)."""
        self._verifier = verifier
        self._believed = SesEventMatcher(records)
        self._put = put

    def take(self, body: bytes) -> None:
        """What SNS posted. `Invalid`, `TooLarge`, `Denied`: it is none of SNS's, or not for us; nothing is changed.
        `Unavailable`: SNS is to try again."""
        envelope = self._verifier.open(body)
        if envelope.kind is SnsType.NOTIFICATION:
            self._note(envelope)
            return
        self._verifier.confirm(envelope)
        _log.warning("SNS: %s of the topic %s", envelope.kind.value, envelope.topic)

    def heard(self, body: str) -> list[InboundEvent]:
        """What an item says that SNS alone can have put on a queue of ours: in its envelope, or raw. The caller stores or applies
        it; what is no notice says nothing. `Unavailable`: to be read again."""
        try:
            envelope = _QUEUED.decode(body)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):  # raw, and in plain text; or of some other shape
            envelope = _Queued()
        if envelope.Type == SnsType.NOTIFICATION and envelope.Message is not None:
            return self._arrivals(envelope.Message, envelope.MessageId)
        return self._arrivals(body, "")

    def _note(self, envelope: SnsEnvelope) -> None:
        if arrivals := self._arrivals(envelope.message, envelope.message_id):
            self._put(arrivals)

    def _arrivals(self, message: str, message_id: str) -> list[InboundEvent]:
        try:
            return self._believed.arrivals(message)
        except Invalid as error:  # SES says so in plain text when a topic is set up
            _log.info("SNS message %.40s: %s", message_id, error)
            return []
