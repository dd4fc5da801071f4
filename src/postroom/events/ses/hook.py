"""Takes what SNS posts: subscriptions are confirmed, notices of SES become arrivals, stored before SNS is answered.

Whoever is killed before the answer is sent the same again by SNS, and events have ids, so twice is as once. A notice's tags are
believed because SNS signed it (sns) for a topic of ours; what it then says of whom is read in `believed`. What fits no message of
ours is no error of SNS's: it is answered like everything else, with a line in the log.

Where SNS puts its notices on a queue of ours that nobody else may put anything on, the queue's policy is the proof (`heard`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from postroom.errors import Invalid
from postroom.events.ses.believed import Believed
from postroom.events.ses.believed import Records as Records
from postroom.events.ses.envelope import Envelope, Kind
from postroom.events.ses.sns import Verifier
from postroom.ledger.arrivals import Arrival

_log = logging.getLogger(__name__)


class _Queued(msgspec.Struct):
    """What of an envelope counts that was not sent over HTTP."""

    Type: str | None = None
    Message: str | None = None
    MessageId: str = ""


_QUEUED = msgspec.json.Decoder(_Queued)


class SesHook:
    """See the module's text. For several threads."""

    def __init__(self, verifier: Verifier, records: Records, put: Callable[[Sequence[Arrival]], None]) -> None:
        """`put`: durable when it returns (events.together)."""
        self._verifier = verifier
        self._believed = Believed(records)
        self._put = put

    def take(self, body: bytes) -> None:
        """What SNS posted. `Invalid`, `TooLarge`, `Denied`: it is none of SNS's, or not for us; nothing is changed.
        `Unavailable`: SNS is to try again."""
        envelope = self._verifier.open(body)
        if envelope.kind is Kind.NOTIFICATION:
            self._note(envelope)
            return
        self._verifier.confirm(envelope)
        _log.warning("SNS: %s of the topic %s", envelope.kind.value, envelope.topic)

    def heard(self, body: str) -> list[Arrival]:
        """What an item says that SNS alone can have put on a queue of ours: in its envelope, or raw. The caller stores or applies
        it; what is no notice says nothing. `Unavailable`: to be read again."""
        try:
            envelope = _QUEUED.decode(body)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):  # raw, and in plain text; or of some other shape
            envelope = _Queued()
        if envelope.Type == Kind.NOTIFICATION and envelope.Message is not None:
            return self._arrivals(envelope.Message, envelope.MessageId)
        return self._arrivals(body, "")

    def _note(self, envelope: Envelope) -> None:
        if arrivals := self._arrivals(envelope.message, envelope.message_id):
            self._put(arrivals)

    def _arrivals(self, message: str, message_id: str) -> list[Arrival]:
        try:
            return self._believed.arrivals(message)
        except Invalid as error:  # SES says so in plain text when a topic is set up
            _log.info("SNS message %.40s: %s", message_id, error)
            return []
