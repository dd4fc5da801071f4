"""What a status code says by itself: enhanced codes (RFC 3463, the IANA registry) and SMTP replies (RFC 5321 §4.2).

The class digit (4 or 5) is left out: whether a refusal lasts is asked separately. Codes in which servers say anything at all
(x.0.0, 550, 554 …) are not here: their words decide (`phrases`).
"""

from __future__ import annotations

from typing import Final

from postroom.model.event import BounceClass, BounceType

Meaning = tuple[BounceClass, BounceType]
"""The class, and the type if the refusal lasts. One that does not is soft."""

_HARD, _SOFT, _UNDETERMINED = BounceType.HARD, BounceType.SOFT, BounceType.UNDETERMINED

ENHANCED: Final[dict[str, Meaning]] = {
    # x.1: the address
    "1.0": (
        BounceClass.MAILBOX,
        _HARD,
    ),  # "other address status": used for addresses that are refused, words of a sender come first
    "1.1": (BounceClass.MAILBOX, _HARD),
    "1.2": (BounceClass.DOMAIN, _HARD),
    "1.3": (BounceClass.MAILBOX, _HARD),  # bad syntax: it will not get better
    "1.4": (BounceClass.MAILBOX, _HARD),  # ambiguous
    "1.6": (BounceClass.MAILBOX, _HARD),  # moved, no forwarding address
    "1.7": (BounceClass.POLICY, _SOFT),  # the sender's address: no recipient may be lost for it
    "1.8": (BounceClass.POLICY, _SOFT),
    "1.10": (BounceClass.DOMAIN, _HARD),  # null MX (RFC 7505)
    # x.2: the mailbox
    "2.0": (BounceClass.MAILBOX, _UNDETERMINED),  # it exists, and something is wrong with it
    "2.1": (BounceClass.DISABLED, _HARD),
    "2.2": (BounceClass.QUOTA, _SOFT),  # even as 5.2.2: people tidy up
    "2.3": (BounceClass.SIZE, _SOFT),
    # x.3: the receiving system
    "3.1": (BounceClass.NETWORK, _SOFT),  # its disk is full, not the mailbox
    "3.2": (BounceClass.NETWORK, _SOFT),
    "3.3": (BounceClass.PROTOCOL, _SOFT),
    "3.4": (BounceClass.SIZE, _SOFT),
    "3.5": (BounceClass.NETWORK, _SOFT),  # misconfigured, often "loops back to myself"
    # x.4: the way there
    "4.0": (BounceClass.NETWORK, _SOFT),
    "4.1": (BounceClass.NETWORK, _SOFT),
    "4.2": (BounceClass.NETWORK, _SOFT),
    "4.3": (BounceClass.NETWORK, _SOFT),  # a directory server (DNS) failed: not "no such domain"
    "4.4": (BounceClass.DOMAIN, _HARD),  # unable to route: no MX and no address for the domain
    "4.5": (BounceClass.NETWORK, _SOFT),
    "4.6": (BounceClass.NETWORK, _SOFT),  # a loop
    "4.7": (BounceClass.NETWORK, _SOFT),  # expired in the queue
    "4.14": (BounceClass.NETWORK, _SOFT),  # Exchange Online: hop count, a loop
    "4.300": (BounceClass.NETWORK, _SOFT),  # Exchange Online: expired
    "4.310": (BounceClass.DOMAIN, _HARD),  # Exchange Online: the domain does not exist
    "4.312": (BounceClass.NETWORK, _SOFT),  # Exchange Online: the DNS query failed
    "4.316": (BounceClass.NETWORK, _SOFT),  # Exchange Online: connection refused, then expired
    "4.317": (BounceClass.NETWORK, _SOFT),  # Exchange Online: TLS failed
    # x.5: the dialogue
    "5.1": (BounceClass.PROTOCOL, _SOFT),
    "5.2": (BounceClass.PROTOCOL, _SOFT),
    "5.3": (BounceClass.RATE, _SOFT),  # too many recipients
    "5.4": (BounceClass.PROTOCOL, _SOFT),
    "5.5": (BounceClass.PROTOCOL, _SOFT),
    # x.6: the content
    "6.0": (BounceClass.CONTENT, _SOFT),
    "6.1": (BounceClass.CONTENT, _SOFT),
    "6.2": (BounceClass.CONTENT, _SOFT),
    "6.3": (BounceClass.CONTENT, _SOFT),
    "6.4": (BounceClass.CONTENT, _SOFT),
    "6.5": (BounceClass.CONTENT, _SOFT),
    "6.7": (BounceClass.PROTOCOL, _SOFT),  # an address outside ASCII that this way cannot take
    # x.7: policy; never a reason to think the mailbox dead, but for the last two
    "7.0": (BounceClass.POLICY, _SOFT),
    "7.1": (BounceClass.POLICY, _SOFT),
    "7.28": (BounceClass.RATE, _SOFT),  # Gmail: unsolicited mail at an unusual rate
    "7.17": (BounceClass.MAILBOX, _HARD),  # the mailbox changed hands (RFC 7293): its new owner has asked for nothing
    "7.18": (BounceClass.DOMAIN, _HARD),
}

SUBJECTS: Final[dict[str, Meaning]] = {
    # what the second number says alone, where the third is not known
    "6": (BounceClass.CONTENT, _SOFT),
    "7": (BounceClass.POLICY, _SOFT),
    "4": (BounceClass.NETWORK, _SOFT),
}

REPLIES: Final[dict[str, Meaning]] = {
    "421": (BounceClass.NETWORK, _SOFT),
    "452": (BounceClass.NETWORK, _SOFT),
    "521": (BounceClass.DOMAIN, _HARD),  # does not accept mail (RFC 7504)
    "556": (BounceClass.DOMAIN, _HARD),  # null MX (RFC 7505)
    "551": (BounceClass.MAILBOX, _HARD),  # user not local
    "552": (BounceClass.QUOTA, _SOFT),  # "exceeded storage allocation"; words of size and content come first
    "523": (BounceClass.SIZE, _SOFT),
    "500": (BounceClass.PROTOCOL, _SOFT),
    "501": (BounceClass.PROTOCOL, _SOFT),
    "502": (BounceClass.PROTOCOL, _SOFT),
    "503": (BounceClass.PROTOCOL, _SOFT),
    "504": (BounceClass.PROTOCOL, _SOFT),
    "555": (BounceClass.PROTOCOL, _SOFT),
    "530": (BounceClass.POLICY, _SOFT),
    "535": (BounceClass.POLICY, _SOFT),
    "541": (BounceClass.POLICY, _SOFT),
}


def enhanced_meaning(code: str) -> Meaning | None:
    """Of `5.1.1` or `4.7.26`; None: the code says nothing by itself."""
    _, _, rest = code.partition(".")
    return ENHANCED.get(rest) or (SUBJECTS.get(rest.partition(".")[0]) if rest else None)
