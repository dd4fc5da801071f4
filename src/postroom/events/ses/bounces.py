"""SES's words for bounces in ours: type and sub-type say how lasting, the receiving server's status code says why.

"Contents for bounce objects" in the SES developer guide lists the sub-types. SES calls `Permanent` what it will suppress, so that
is hard; but a content that was refused says nothing about the address, and the guide counts it as transient.
"""

from __future__ import annotations

import re

from postroom.model.event import Bounce, BounceClass, BounceType

_TYPES = {"Permanent": BounceType.HARD, "Transient": BounceType.SOFT}
_SUBTYPES = {
    "NoEmail": BounceClass.MAILBOX,
    "Suppressed": BounceClass.MAILBOX,
    "OnAccountSuppressionList": BounceClass.MAILBOX,
    "UnsubscribedRecipient": BounceClass.POLICY,
    "MailboxFull": BounceClass.QUOTA,
    "MessageTooLarge": BounceClass.SIZE,
    "ContentRejected": BounceClass.CONTENT,
    "AttachmentRejected": BounceClass.CONTENT,
    "CustomTimeoutExceeded": BounceClass.NETWORK,
}
_CODES = (
    (re.compile(r"[45]\.1\.(2|10)"), BounceClass.DOMAIN),
    (re.compile(r"[45]\.1\.[0-46]"), BounceClass.MAILBOX),
    (re.compile(r"[45]\.2\.1"), BounceClass.DISABLED),
    (re.compile(r"[45]\.2\.2"), BounceClass.QUOTA),
    (re.compile(r"[45]\.(2\.3|3\.4)"), BounceClass.SIZE),
    (re.compile(r"[45]\.4\.[0-9]+"), BounceClass.NETWORK),
    (re.compile(r"[45]\.5\.[0-9]+"), BounceClass.PROTOCOL),
    (re.compile(r"[45]\.6\.[0-9]+"), BounceClass.CONTENT),
    (re.compile(r"[45]\.7\.[0-9]+"), BounceClass.POLICY),
)
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)


def bounce_of(kind: str, subtype: str, status: str) -> Bounce:
    """A bounce of SES; each of its words may be missing, or new."""
    code = status if _STATUS.fullmatch(status) else ""
    category = _SUBTYPES.get(subtype) or _by_code(code)
    if category is BounceClass.OTHER and kind == "Permanent":
        category = BounceClass.MAILBOX  # "General": the address is the usual reason, and SES names no other
    return Bounce(_TYPES.get(kind, BounceType.UNDETERMINED), category, code)


def _by_code(code: str) -> BounceClass:
    return next((category for pattern, category in _CODES if pattern.fullmatch(code)), BounceClass.OTHER)
