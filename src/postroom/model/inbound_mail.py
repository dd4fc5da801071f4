"""A mail that came in, and what became of it: the words between whoever takes mail off the wire and whoever reads it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class InboundMail(NamedTuple):
    """One mail, as far as it is read."""

    recipients: tuple[str, ...]
    """Of the envelope. Where that is gone (a mailbox), those addresses in the mail's head that are ours; maybe none."""
    content: bytes


class MailVerdict(StrEnum):
    """What became of it. Whichever it is, nobody need bring it again."""

    NOTED = "noted"
    """It changed something: that is stored."""
    NOTHING = "nothing"
    """It is meant for us and changes nothing: an automatic answer, say."""
    STRANGE = "strange"
    """It is nothing of ours: no token that opens, or a person's words."""
