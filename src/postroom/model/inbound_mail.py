"""A mail that Postroom received (by SMTP or from a mailbox) and the verdict of its reader."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class InboundMail(NamedTuple):
    """One mail, truncated if long."""

    recipients: tuple[str, ...]
    """Envelope recipients. In a mailbox the envelope is lost: then those addresses in the header that are ours, possibly none."""
    content: bytes


class MailVerdict(StrEnum):
    """The result of reading it. In every case the mail need not be delivered again."""

    NOTED = "noted"
    """It caused events, which are stored."""
    NOTHING = "nothing"
    """It is for us but causes no event, such as an automatic reply."""
    STRANGE = "strange"
    """It has no valid token of ours, or was written by a person."""
