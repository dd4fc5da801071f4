"""What is said about the mail itself: its content, its size. The next one may be welcome."""

from __future__ import annotations

from postroom.events.bounce_parser.phrases.saying import Saying
from postroom.model.event import BounceClass, BounceType

SIZE = Saying(
    BounceClass.SIZE,
    BounceType.SOFT,
    """
    message too big | message is too big | message size … exceeds | message length exceeds |
    message exceeds … size | message exceeded … size | exceeds … maximum size | exceeded maximum … message size |
    exceeds maximum inbound message size | size limit | size exceeds | line limit | max message size |
    maximum message size | message larger than | exceeding … size | exceeds limit | too big for | too large |
    nachricht ist zu gross | nachricht zu gross | trop volumineux | demasiado grande | muito grande | troppo grande |
    邮件太大
    """,
)

CONTENT = Saying(  # the mail itself: this one, not the next
    BounceClass.CONTENT,
    BounceType.SOFT,
    """
    unsolicited | spam | junk mail | junkmail | bulk mail | dt:spm | virus | malware | infected | phishing |
    content rejected | content filter | content policy | message content | content … rejected | content … blocked |
    unacceptable content | prohibited attachment | attachment … not allowed | attachment … not accepted |
    attachment … blocked | attachments … rejected | attachment type | illegal attachment | executable attachment |
    ofr_506 | ofr506 | duplicate header | malformed header | blocked url | malicious | banned content | banned file |
    forbidden file | high probability of | message filtered | rule imposed | message rejected … filter | bad header |
    header error | invalid header | headers … rfc | rfc 5322 | rfc 2822 | rfc5322 | rfc2822 | 垃圾邮件
    """,
)
