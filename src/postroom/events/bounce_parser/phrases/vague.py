"""Words that mean something only where nothing better was said."""

from __future__ import annotations

from postroom.events.bounce_parser.phrases.saying import Saying
from postroom.model.event import BounceClass, BounceType

REFUSED = Saying(  # somebody did not want it; whom or what is not said
    BounceClass.POLICY,
    BounceType.SOFT,
    """
    policy | not authorized | not authorised | not allowed | not permitted | prohibited | forbidden | blocked |
    banned | refused | administratively | rejected | denied
    """,
)

UNAVAILABLE = Saying(
    BounceClass.MAILBOX,
    BounceType.HARD,
    """
    mailbox unavailable | mailbox name not allowed
    """,
)

NO_ADDRESS = Saying(  # the recipient's address was refused, without a word why
    BounceClass.MAILBOX,
    BounceType.UNDETERMINED,
    """
    mailbox unavailable or access denied | recipient rejected | address rejected | recipient refused |
    recipient not accepted | recipient … not allowed | does not like recipient | invalid
    """,
)
