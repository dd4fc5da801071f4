"""Parses reports that arrive by mail: bounces, complaints, automatic replies, unsubscribe requests.

`parse_report` tells what a mail is, `event_from_report` what it means for a message. Both are pure: which message a report is
about is found by a token of ours, see `events.inbound_mail`.
"""

from __future__ import annotations

from postroom.events.bounce_parser.classify import classify
from postroom.events.bounce_parser.parse import parse_report
from postroom.events.bounce_parser.reports import (
    ArfReport,
    AutoReply,
    Challenge,
    DeliveryReport,
    DsnAction,
    Other,
    ParsedReport,
    QuotedTokens,
    RecipientReport,
    UnsubscribeRequest,
    event_from_report,
    primary_recipient,
)

__all__ = [
    "ArfReport",
    "AutoReply",
    "Challenge",
    "DeliveryReport",
    "DsnAction",
    "Other",
    "ParsedReport",
    "QuotedTokens",
    "RecipientReport",
    "UnsubscribeRequest",
    "classify",
    "event_from_report",
    "parse_report",
    "primary_recipient",
]
