"""Bounces without a standard report: qmail, Exim, old Exchange and Notes, Yahoo, GroupWise, Chinese and Japanese providers …

They differ in all but this: a text for people, with the address at the beginning of a line and the reason near it, and often
the mail that failed below. So nothing here knows their names: what is returned is cut off, the addresses are found, and
the reason is classified like a reply.
"""

from __future__ import annotations

from postroom.events.bounce_parser.classify import classify_text
from postroom.events.bounce_parser.delivery_status import MAX_RECIPIENTS
from postroom.events.bounce_parser.explanation import first_address, sections
from postroom.events.bounce_parser.head import Head
from postroom.events.bounce_parser.readings import Action, RecipientReport
from postroom.model.event import Bounce, BounceClass

_DELAYED = (
    "still being retried",
    "will keep trying",
    "will continue to try",
    "will be retried",
    "will try again",
    "will continue trying",
    "keep trying to deliver",
    "being retried",
    "delivery attempts will continue",
    "not yet been delivered",
    "has not been delivered yet",
    "could not be delivered yet",
    "is delayed",
    "has been delayed",
    "been delayed",
    "delivery to the following recipients has been delayed",
    "warning message only",
    "do not need to resend",
    "you do not need to resend",
    "not need to resend",
    "no action is required on your part",
    "wird weiterhin versucht",
    "noch nicht zugestellt",
    "verzögert",
    "sera retenté",
)
_DELAYED_SUBJECT = ("delay", "deferred", "verzöger", "retard", "延迟", "遅延")
_GIVEN_UP = ("failed permanently", "permanent error", "permanent fatal", "given up", "giving up", "could not be delivered for")
"""Against a subject that only sounds like a delay. Warnings say themselves when they would give up: so these come second."""


def read_prose(head: Head, explanation: str) -> tuple[RecipientReport, ...]:
    """Recipients with their reasons; one without address where none is found."""
    action = _action(head, explanation)
    whole = _meaning_of_all(head, explanation, action)
    ours = {head.mailbox("to"), head.mailbox("from"), head.mailbox("reply-to")}
    named = list(sections(explanation, strangers=ours).items())[:MAX_RECIPIENTS]
    if not named:
        named = [(head.mailbox("x-failed-recipients") or first_address(explanation, strangers=ours), explanation)]
    return tuple(_recipient(address, reason, action, whole) for address, reason in named)


def _recipient(address: str, reason: str, action: Action, whole: Bounce) -> RecipientReport:
    near = classify_text(reason, action)
    bounce = whole if near.category is BounceClass.OTHER else near
    return RecipientReport(action=action, bounce=bounce, address=address, diagnostic=" ".join(reason.split())[:1_000])


def _meaning_of_all(head: Head, explanation: str, action: Action) -> Bounce:
    """Of the whole text; where that says nothing, of the subject."""
    by_text = classify_text(explanation, action)
    return by_text if by_text.category is not BounceClass.OTHER else classify_text(head.text("subject"), action)


def _action(head: Head, explanation: str) -> Action:
    words, subject = " ".join(explanation.lower().split()), head.text("subject").lower()
    if any(phrase in words for phrase in _DELAYED):
        return Action.DELAYED
    sounds_delayed = any(word in subject for word in _DELAYED_SUBJECT)
    return Action.DELAYED if sounds_delayed and not any(phrase in words for phrase in _GIVEN_UP) else Action.FAILED
