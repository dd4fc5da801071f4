"""What a mail that came in can be: one of these, and nothing believed but what it says of itself.

None of it is proof: whoever can reach the listener can write a report. It counts only together with a token of ours that opens
(model.wire): the address it came to, or one in what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from postroom.clock import Instant
from postroom.model.event import Bounce


class Action(StrEnum):
    """What a delivery report says was done for a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    """Not yet; the reporter goes on trying."""
    DELIVERED = "delivered"
    RELAYED = "relayed"
    """To a system that will report nothing."""
    EXPANDED = "expanded"
    """To the members of a list."""


class Traces(NamedTuple):
    """What of ours a report quotes, for one that came to an address that tells nothing. Candidates, not checked."""

    return_paths: tuple[str, ...] = ()
    """Local parts, for `model.wire.open_return_path`."""
    hits: tuple[str, ...] = ()
    """Recipient tokens, for `open_hit`."""
    unsubscribes: tuple[str, ...] = ()
    """Unsubscribe tokens, for `open_unsubscribe`."""
    message_id: str = ""
    """Of the mail that is returned, as it stands there."""
    feedback_id: str = ""


NO_TRACES = Traces()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientReport:
    """What happened to one recipient."""

    action: Action
    bounce: Bounce
    """Of what failed, and of what waits; of the others it means nothing."""
    address: str = ""
    """Where it failed: the address itself, or where a forward led. Empty: not said."""
    original: str = ""
    """As we wrote it, if the reporter says so."""
    status: str = ""
    """Enhanced code (RFC 3463)."""
    diagnostic: str = ""
    """The remote server's reply, else the reporter's own words."""
    remote_mta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What every kind has."""

    identity: str
    """A digest: the same for the same mail, however often it comes."""
    sent_at: Instant | None = None
    """Its own `Date`; whose clock may be wrong."""
    raw: str = ""
    """The part that says it, for people; up to `model.event.MAX_RAW` characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport(Mail):
    """A delivery report: standard (RFC 3464), or read from prose."""

    recipients: tuple[RecipientReport, ...]
    """At least one."""
    standard: bool
    traces: Traces = NO_TRACES


@dataclass(frozen=True, slots=True, kw_only=True)
class ArfReport(Mail):
    """A feedback report (RFC 5965): somebody pressed "this is spam", or the like."""

    kind: str
    """`abuse`, `fraud`, `virus`, `not-spam`, `opt-out`, `auth-failure`, `other` …"""
    recipients: tuple[str, ...] = ()
    """Whom the mail went to, where the reporter does not hide it."""
    user_agent: str = ""
    traces: Traces = NO_TRACES


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoReply(Mail):
    """A machine answers for a person: absence, receipt. Never a bounce."""

    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsubscribeRequest(Mail):
    """Somebody, or their mail program, wants no more (RFC 2369, mailto)."""

    token: str = ""
    """For `model.wire.open_unsubscribe`. Empty: the address it came to says who."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Mail):
    """A filter wants to see whether we are a person. Nobody answers it."""

    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Mail):
    """None of these: an answer by a person, spam, what nobody can read."""

    subject: str = ""


Reading = DeliveryReport | ArfReport | AutoReply | UnsubscribeRequest | Challenge | Other
