"""Processes inbound mail: finds the message that a report is about, and queues the event it means.

Anyone can send such a mail, so it counts only together with a token of ours that is valid (model.tokens):

1. in the recipient address, if it is a return path of ours;
2. an unsubscribe token in the recipient address or the subject;
3. in the returned mail of a report: its return path, its links, its unsubscribe link. Feedback loops send all reports to one
   address.

A report counts for that one message. A token proves that its holder had the message, and they can bounce or complain only for its
recipient. Without a token nothing changes, whatever the mail says. No mail is answered: a bounce of a bounce never ends.

When `process` returns, unsubscribed people are suppressed and all other events are queued durably. After a crash before that, the
sender (SMTP client or mailbox) presents the mail again, and the same mail gives the same events.
"""

from __future__ import annotations

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
from postroom.telemetry.logs import event_logger

UNSUBSCRIBE: Final = "unsubscribe"
ROLES: Final = frozenset({UNSUBSCRIBE, "fbl", "abuse", "postmaster"})
"""Local parts without a token: unsubscribe requests, feedback loops, and those of RFC 5321 4.5.1 and RFC 2142."""
FROM_MAIL: Final = "mail"
"""The source of an unsubscribe without a token: its suppression entry is made when the event is applied."""
_LOG_S: Final = 60.0
_WEIGHT = {MailVerdict.NOTED: 2, MailVerdict.NOTHING: 1, MailVerdict.STRANGE: 0}
_WITH_QUOTED_TOKENS = (DeliveryReport, ArfReport)
_log = event_logger(__name__)


class Unsubscribes(Protocol):
    """Unsubscribes people (events.unsubscribe)."""

    def unsubscribe(self, token_text: str, *, everything: bool | None = None) -> object:
        """Suppress the person durably. Raises `Invalid` or `NotFound` if it is no token of ours."""
        ...


class _Found(NamedTuple):
    """The result for one recipient of a mail."""

    verdict: MailVerdict
    inbound_events: tuple[InboundEvent, ...] = ()


_NOTHING, _STRANGE = _Found(MailVerdict.NOTHING), _Found(MailVerdict.STRANGE)


class InboundMailProcessor:
    """Processes inbound mail. Thread-safe."""

    def __init__(
        self,
        inbound_events: InboundEventQueue,
        unsubscribes: Unsubscribes,
        *,
        secret_of: SecretOf,
        domain: str | None,
        clock: Clock,
    ) -> None:
        """`domain`: the bounce domain; None if no address is ours: then only tokens in returned mail count."""
        self._inbound_events = inbound_events
        self._unsubscribes = unsubscribes
        self._secret_of = secret_of
        self._domain = domain
        self._clock = clock
        self._counts: Counter[MailVerdict] = Counter()
        self._log_at = clock.monotonic() + _LOG_S

    def accepts(self, address: str) -> bool:
        """Whether mail to this address is accepted: a return path or unsubscribe address with a valid token, or a role."""
        local_part, _, domain = address.rpartition("@")
        if not self._domain or domain.lower().rstrip(".") != self._domain:
            return not domain and address.lower() == "postmaster"  # RFC 5321 §4.5.1: it may come without a domain
        if local_part.lower() in ROLES:
            return True
        return self._return_path(local_part) is not None or self._unsubscribe_address(local_part)

    def process(self, mails: Sequence[InboundMail]) -> list[MailVerdict]:
        """Parse mails and store their events together; returns each mail's verdict.

        Raises errors of the stores; then nothing counts as processed and all must be passed in again.
        """
        found = [self._open(mail) for mail in mails]
        self._inbound_events.put([inbound_event for each in found for inbound_event in each.inbound_events])
        verdicts = [each.verdict for each in found]
        self._count(verdicts)
        return verdicts

    def _open(self, mail: InboundMail) -> _Found:
        """Parsed per recipient: the recipient address may name the message."""
        found = [self._open_for(recipient, mail.content) for recipient in dict.fromkeys(mail.recipients or ("",))]
        verdict = max((each.verdict for each in found), key=_WEIGHT.__getitem__)
        return _Found(verdict, tuple(inbound_event for each in found for inbound_event in each.inbound_events))

    def _open_for(self, recipient: str, content: bytes) -> _Found:
        report = parse_report(content, recipient=recipient)
        if isinstance(report, UnsubscribeRequest) and report.token:
            return self._unsubscribe(report.token)
        ref = self._return_path(recipient.rpartition("@")[0])
        if ref is not None:
            return self._event(report, ref)
        return self._by_quoted_tokens(report, report.quoted) if isinstance(report, _WITH_QUOTED_TOKENS) else _STRANGE

    def _unsubscribe(self, token: str, *, everything: bool | None = None) -> _Found:
        """Suppresses the person; `unsubscribe` queues the event itself."""
        with suppress(Invalid, NotFound):
            self._unsubscribes.unsubscribe(token, everything=everything)
            return _Found(MailVerdict.NOTED)
        return _STRANGE

    def _event(self, report: ParsedReport, ref: MessageRef) -> _Found:
        event = event_from_report(report, ref, at=self._clock.now())
        if event is None:
            return _STRANGE if isinstance(report, Other) else _NOTHING
        if isinstance(report, UnsubscribeRequest):
            event = replace(event, source=FROM_MAIL)
        return _Found(MailVerdict.NOTED, (InboundEvent.from_message_ref(ref, event),))

    def _by_quoted_tokens(self, report: ParsedReport, quoted: QuotedTokens) -> _Found:
        if (ref := next(self._refs(quoted), None)) is not None:
            return self._event(report, ref)
        for text in quoted.unsubscribe_tokens:
            with suppress(Invalid, NotFound):
                return self._event_of_person(report, text, parse_unsubscribe_token(text, self._secret_of), quoted.message_id)
        return _STRANGE

    def _refs(self, quoted: QuotedTokens) -> Iterator[MessageRef]:
        for local_part in quoted.return_paths:
            if (ref := self._return_path(local_part)) is not None:
                yield ref
        for text in quoted.recipient_tokens:
            with suppress(Invalid, NotFound):
                yield parse_tracking_token(text, self._secret_of).message

    def _event_of_person(self, report: ParsedReport, text: str, token: UnsubscribeTarget, message_id: str) -> _Found:
        """An unsubscribe token names a person and a campaign, and so the message, except in a stream of single messages."""
        ref = MessageRef(token.tenant, token.campaign, 0, token.key, _attempt(message_id, token))
        found = self._event(report, ref)
        if is_stream(token.campaign):
            complained = any(inbound_event.event.kind is EventKind.COMPLAINED for inbound_event in found.inbound_events)
            return self._unsubscribe(text, everything=True) if complained else _NOTHING
        return _Found(found.verdict, tuple(inbound_event._replace(batch=None) for inbound_event in found.inbound_events))

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
        """Log the counts at most once a minute."""
        self._counts.update(verdicts)
        if (now := self._clock.monotonic()) >= self._log_at:
            _log.info("inbound_mail.processed", **{verdict.value: count for verdict, count in sorted(self._counts.items())})
            self._counts, self._log_at = Counter(), now + _LOG_S


def _attempt(message_id: str, token: UnsubscribeTarget) -> int:
    """The attempt in our Message-ID. It has no MAC, so it counts only if campaign and key are the token's; else the newest."""
    campaign, _, rest = message_id.strip("<> ").partition("@")[0].partition(".")
    key, _, attempt = rest.partition(".")
    if campaign == token.campaign and key == token.key.hex() and attempt.isascii() and attempt.isdigit() and len(attempt) < 6:
        return min(max(int(attempt), 1), MAX_ATTEMPT)
    return MAX_ATTEMPT
