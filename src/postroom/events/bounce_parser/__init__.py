"""Reading what comes back by mail: bounces, complaints, automatic answers, wishes to hear no more.

`read_report` says what a mail is, `event_of` what that means for the message it is about. Neither knows a store: whose
message it is, the caller learns from a token of ours (model.wire), and without one that opens nothing may change.
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

__all__ = [  # noqa: RUF022
    "DsnAction",
    "ArfReport",
    "AutoReply",
    "Challenge",
    "DeliveryReport",
    "Other",
    "ParsedReport",
    "RecipientReport",
    "QuotedTokens",
    "UnsubscribeRequest",
    "classify",
    "event_from_report",
    "primary_recipient",
    "parse_report",
]
