"""Reading what comes back by mail: bounces, complaints, automatic answers, wishes to hear no more.

`read_report` says what a mail is, `event_of` what that means for the message it is about. Neither knows a store: whose
message it is, the caller learns from a token of ours (model.wire), and without one that opens nothing may change.
"""

from __future__ import annotations

from postroom.events.bounce_parser.classify import classify
from postroom.events.bounce_parser.parse import read_report
from postroom.events.bounce_parser.reports import (
    Action,
    ArfReport,
    AutoReply,
    Challenge,
    DeliveryReport,
    Other,
    Reading,
    RecipientReport,
    Traces,
    UnsubscribeRequest,
    event_of,
    main_recipient,
)

__all__ = [  # noqa: RUF022
    "Action",
    "ArfReport",
    "AutoReply",
    "Challenge",
    "DeliveryReport",
    "Other",
    "Reading",
    "RecipientReport",
    "Traces",
    "UnsubscribeRequest",
    "classify",
    "event_of",
    "main_recipient",
    "read_report",
]
