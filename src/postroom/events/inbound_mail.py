"""Where mail that came back is opened: which message is it about, and what does it say of it?

Whoever can reach us can write such a mail, so its words count only together with a token of ours that opens (model.wire):

1. the local part of the address that it came to, a return path of ours;
2. the token of a wish to unsubscribe, in the address or the subject;
3. in a report, a token inside the mail that it returns: its return path, its links, its unsubscribe link. Feedback loops write
   to one address for everybody.

A report is believed of that one message. Who has a token had the message, and can bounce or complain for nobody but its
recipient. Without a token nothing changes, whatever the mail says, and nobody is answered: a bounce of a bounce never ends.

Wishes to unsubscribe are on the suppression list, and everything else is queued durably, when `take` returns. Killed before, it
has taken responsibility for nothing: whoever brought the mail brings it again, and the same mail makes the same events.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from postroom.clock import Clock
from postroom.errors import Invalid, NotFound
from postroom.events.bounce_parser import (
    ArfReport,
    DeliveryReport,
    Other,
    ParsedReport,
    QuotedTokens,
    UnsubscribeRequest,
    event_from_report,
    parse_report,
)
from postroom.ledger.inbound_events import InboundEvent, InboundEventQueue
from postroom.model.event import EventKind
from postroom.model.inbound_mail import InboundMail, MailVerdict
from postroom.model.stream import is_stream
from postroom.model.tokens import (
    MAX_ATTEMPT,
    MessageRef,
    SecretOf,
    UnsubscribeTarget,
    parse_return_path,
    parse_tracking_token,
    parse_unsubscribe_token,
)

UNSUBSCRIBE: Final = "unsubscribe"
ROLES: Final = frozenset({UNSUBSCRIBE, "fbl", "abuse", "postmaster"})
"""Local parts that take mail for everybody: wishes, feedback loops, and what RFC 5321 §4.5.1 and RFC 2142 demand."""
FROM_MAIL: Final = "mail"
"""The source of a wish that names no token: its entry in the suppression list is still to be made."""
_TELL_EVERY_S: Final = 60.0
_WEIGHT = {MailVerdict.NOTED: 2, MailVerdict.NOTHING: 1, MailVerdict.STRANGE: 0}
_NAMES_THE_MESSAGE = (DeliveryReport, ArfReport)
_log = logging.getLogger(__name__)


class Unsubscribes(Protocol):
    """Who keeps people's wishes (events.unsubscribing)."""

    def unsubscribe(self, token_text: str, *, everything: bool | None = None) -> object:
        """Enter the person, now. `Invalid`, `NotFound`: not a token of ours."""
        ...


class _Found(NamedTuple):
    """What one mail comes to, for one of its recipients."""

    verdict: MailVerdict
    arrivals: tuple[InboundEvent, ...] = ()


_NOTHING, _STRANGE = _Found(MailVerdict.NOTHING), _Found(MailVerdict.STRANGE)


class InboundMailProcessor:
    """Opens mail. Safe to use from several threads."""

    def __init__(
        self, arrivals: InboundEventQueue, unsubscribes: Unsubscribes, *, secret_of: SecretOf, domain: str | None, clock: Clock
    ) -> None:
        """`domain`: whose mail comes back here; None: no address is ours, and only what a report returns can tell."""
        self._arrivals = arrivals
        self._unsubscribes = unsubscribes
        self._secret_of = secret_of
        self._domain = domain
        self._clock = clock
        self._tally: Counter[MailVerdict] = Counter()
        self._tell_at = clock.monotonic() + _TELL_EVERY_S

    def knows(self, address: str) -> bool:
        """Whether mail to it is taken: a return path or unsubscribe address whose token opens, or a role. `Unavailable`."""
        local_part, _, domain = address.rpartition("@")
        if not self._domain or domain.lower().rstrip(".") != self._domain:
            return not domain and address.lower() == "postmaster"  # RFC 5321 §4.5.1: it may come without a domain
        if local_part.lower() in ROLES:
            return True
        return self._return_path(local_part) is not None or self._unsubscribe_address(local_part)

    def take(self, mails: Sequence[InboundMail]) -> list[MailVerdict]:
        """Open them, and store what they say together; what became of each. `Unavailable` and others of the stores: bring all
        again."""
        found = [self._open(mail) for mail in mails]
        self._arrivals.put([arrival for each in found for arrival in each.arrivals])
        verdicts = [each.verdict for each in found]
        self._count(verdicts)
        return verdicts

    def _open(self, mail: InboundMail) -> _Found:
        """For each recipient alone; a mail seldom has two."""
        found = [self._open_for(recipient, mail.content) for recipient in dict.fromkeys(mail.recipients or ("",))]
        verdict = max((each.verdict for each in found), key=_WEIGHT.__getitem__)
        return _Found(verdict, tuple(arrival for each in found for arrival in each.arrivals))

    def _open_for(self, recipient: str, content: bytes) -> _Found:
        reading = parse_report(content, recipient=recipient)
        if isinstance(reading, UnsubscribeRequest) and reading.token:
            return self._unsubscribe(reading.token)
        ref = self._return_path(recipient.rpartition("@")[0])
        if ref is not None:
            return self._tell(reading, ref)
        return self._by_traces(reading, reading.quoted) if isinstance(reading, _NAMES_THE_MESSAGE) else _STRANGE

    def _unsubscribe(self, token: str, *, everything: bool | None = None) -> _Found:
        """It puts its own event."""
        with suppress(Invalid, NotFound):
            self._unsubscribes.unsubscribe(token, everything=everything)
            return _Found(MailVerdict.NOTED)
        return _STRANGE

    def _tell(self, reading: ParsedReport, ref: MessageRef) -> _Found:
        event = event_from_report(reading, ref, at=self._clock.now())
        if event is None:
            return _STRANGE if isinstance(reading, Other) else _NOTHING
        if isinstance(reading, UnsubscribeRequest):
            event = replace(event, source=FROM_MAIL)
        return _Found(MailVerdict.NOTED, (InboundEvent.of(ref, event),))

    def _by_traces(self, reading: ParsedReport, traces: QuotedTokens) -> _Found:
        for ref in self._refs(traces):
            return self._tell(reading, ref)
        for text in traces.unsubscribe_tokens:
            with suppress(Invalid, NotFound):
                return self._tell_of_person(reading, text, parse_unsubscribe_token(text, self._secret_of), traces.message_id)
        return _STRANGE

    def _refs(self, traces: QuotedTokens) -> Iterator[MessageRef]:
        for local_part in traces.return_paths:
            if (ref := self._return_path(local_part)) is not None:
                yield ref
        for text in traces.recipient_tokens:
            with suppress(Invalid, NotFound):
                yield parse_tracking_token(text, self._secret_of).message

    def _tell_of_person(self, reading: ParsedReport, text: str, token: UnsubscribeTarget, message_id: str) -> _Found:
        """An unsubscribe link names a person and a campaign: so it names the message, but for single ones."""
        ref = MessageRef(token.tenant, token.campaign, 0, token.key, _attempt(message_id, token))
        found = self._tell(reading, ref)
        if is_stream(token.campaign):
            complained = any(arrival.event.kind is EventKind.COMPLAINED for arrival in found.arrivals)
            return self._unsubscribe(text, everything=True) if complained else _NOTHING
        return _Found(found.verdict, tuple(arrival._replace(batch=None) for arrival in found.arrivals))

    def _return_path(self, local_part: str) -> MessageRef | None:
        with suppress(Invalid, NotFound):
            return parse_return_path(local_part, self._secret_of)
        return None

    def _unsubscribe_address(self, local_part: str) -> bool:
        role, _, token = local_part.replace("=", "+", 1).partition("+")
        if role.lower() != UNSUBSCRIBE:
            return False
        with suppress(Invalid, NotFound):
            parse_unsubscribe_token(token, self._secret_of)
            return True
        return False

    def _count(self, verdicts: Sequence[MailVerdict]) -> None:
        """One line a minute, however much comes."""
        self._tally.update(verdicts)
        if (now := self._clock.monotonic()) >= self._tell_at:
            _log.info("mail that came in: %s", ", ".join(f"{count} {verdict}" for verdict, count in sorted(self._tally.items())))
            self._tally, self._tell_at = Counter(), now + _TELL_EVERY_S


def _attempt(message_id: str, token: UnsubscribeTarget) -> int:
    """Our Message-ID says which attempt it was, under no MAC: believed where the rest of it is what the token says. Otherwise the
    newest."""
    campaign, _, rest = message_id.strip("<> ").partition("@")[0].partition(".")
    key, _, attempt = rest.partition(".")
    if campaign == token.campaign and key == token.key.hex() and attempt.isascii() and attempt.isdigit() and len(attempt) < 6:
        return min(max(int(attempt), 1), MAX_ATTEMPT)
    return MAX_ATTEMPT
