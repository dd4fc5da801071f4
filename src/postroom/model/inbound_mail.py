"""A mail that Postroom received (by SMTP or from a mailbox) and the verdict of its reader."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class InboundMail(NamedTuple):
    """One mail, as far as it is read."""

    recipients: tuple[str, ...]
    """Of the envelope. Where that is gone (a mailbox), those addresses in the mail's head that are ours; maybe none."""
    content: bytes


class MailVerdict(StrEnum):
    """The result of reading it. With any of them it need not be delivered again."""

    NOTED = "noted"
    """It caused events, which are stored."""
    NOTHING = "nothing"
    """It is for us but causes no event, such as an automatic reply."""
    STRANGE = "strange"
    """It has no valid token of ours, or was written by a person."""
