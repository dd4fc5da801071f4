"""What a status code says by itself: enhanced codes (RFC 3463, the IANA registry) and SMTP replies (RFC 5321 §4.2).

The class digit (4 or 5) is left out: whether a refusal lasts is asked separately. Codes in which servers say anything at all
(x.0.0, 550, 554 …) are not here: their words decide (`phrases`).

What a refusal means: is the address dead, and if not, what was wrong.

Asked in this order; the first that answers decides:

1. words that can only mean one thing (`phrases.CLEAR`), those about the sender first: servers say "blocked by a list" under
   5.1.1, "mailbox full" under 5.2.1 and "user unknown" under 5.7.1, and a dead mailbox wrongly believed costs a reader for good;
2. the enhanced status code, the remote server's own before the reporter's: it saw what happened;
3. the SMTP reply code;
4. words that mean something only where no code has spoken (`phrases.VAGUE`);
5. nothing: other, undetermined.

Hard is only what says that mailbox or domain are not there or are switched off, and says so for good. A full mailbox, a policy, a
filter, a network are never hard, not even under 5xx.
"""

from __future__ import annotations

import re
from typing import Final

from postroom.events.bounce_parser.phrases import CLEAR, VAGUE, Saying
from postroom.model.event import Bounce, BounceClass, BounceType

Classification = tuple[BounceClass, BounceType]


"""The class, and the type if the refusal lasts. One that does not is soft."""


_HARD, _SOFT, _UNDETERMINED = BounceType.HARD, BounceType.SOFT, BounceType.UNDETERMINED


ENHANCED_CODES: Final[dict[str, Classification]] = {
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


ENHANCED_SUBJECTS: Final[dict[str, Classification]] = {
    # what the second number says alone, where the third is not known
    "6": (BounceClass.CONTENT, _SOFT),
    "7": (BounceClass.POLICY, _SOFT),
    "4": (BounceClass.NETWORK, _SOFT),
}


SMTP_REPLIES: Final[dict[str, Classification]] = {
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


def classify_enhanced_code(code: str) -> Classification | None:
    """Of `5.1.1` or `4.7.26`; None: the code says nothing by itself."""
    _, _, rest = code.partition(".")
    return ENHANCED_CODES.get(rest) or (ENHANCED_SUBJECTS.get(rest.partition(".")[0]) if rest else None)


MAX_WORDS = 4_000


"""Characters of a diagnostic that are looked at."""


MAX_REPLY = 800


_SAID = (
    "server returned was:",
    "remote host said:",
    "responded as follows:",
    "responded with:",
    "response was:",
    "error was:",
    " said:",
)


"""What reporters write between their own words and the server's."""


_TO_THE_SENDER = (
    "in reply to mail from",
    "in reply to helo",
    "in reply to ehlo",
    "after mail from",
    "after helo",
    "after ehlo",
    "after initial connection",
    "response to mail from",
    "my name was rejected",
)


"""The server said it before it knew a recipient: so it cannot be about one."""


_ABOUT_RECIPIENTS = frozenset({BounceClass.MAILBOX, BounceClass.DOMAIN, BounceClass.DISABLED, BounceClass.QUOTA})


_ENHANCED = re.compile(r"(?<![\w.])[245]\.[0-7]\.[0-9]{1,3}(?!\.?[0-9])")


_REPLY = re.compile(
    r"(?:^|[:;<>(\"'\]] {0,2}|(?:error|code|smtp|returned|reply|status|with|message)[ :]{1,3})([45][0-5][0-9])(?=[ #:,-]|$)"
)


_AGAIN = re.compile(r" ?\b[245][0-5][0-9]-(?:[245]\.[0-7]\.[0-9]{1,3} )?")


"""The code in front of each further line of one reply."""


_IRONPORT = re.compile(r"^[245]\.[0-9]\.[0-9] - [a-z ]{1,40} (?=[245][0-9]{2}-')")


"""Its own reading of the code, in front of what the server said: "unknown address error" of any 5.1."""


_BRACKETED = re.compile(r"<[^<>\s]{1,320}>")


def classify(status: str, diagnostic: str, action: str = "failed") -> Bounce:
    """The bounce, from a report's Status, Diagnostic-Code and Action, any of which may be empty."""
    words, status = normalise_diagnostic(diagnostic), "".join(_ENHANCED.findall(status)[:1])
    said = _ENHANCED.findall(words)
    reply_found = _REPLY.search(words)
    reply = reply_found[1] if reply_found else ""
    enhanced = _telling(said) or _telling([status]) or (said[0] if said else status)
    code = reply if reply and _is_generic(enhanced) else enhanced or reply
    category, lasting = _meaning(words, enhanced, reply)
    temporary = action == "delayed" or _is_temporary(said, reply, status)
    return Bounce(BounceType.SOFT if temporary else lasting, category, code)


def classify_text(text: str, action: str = "failed", *, status: str = "") -> Bounce:
    """The same from a text for people: the server's own words in it, and where they are not to be found, all of it."""
    lowered = text[:MAX_WORDS].lower()
    for mark in _SAID:
        at = lowered.find(mark)
        if at >= 0:
            bounce = classify(status, text[at + len(mark) : at + MAX_REPLY], action)
            if bounce.category is not BounceClass.OTHER:
                return bounce
    return classify(status, text, action)


def normalise_diagnostic(text: str) -> str:
    """As the phrases are written: lower case, single spaces, one reply's lines joined, no addresses (they may say anything)."""
    words = " ".join(text[:MAX_WORDS].casefold().replace("’", "'").split())
    if " - " in words[:10]:
        words = _IRONPORT.sub("", words).replace("-'", " ", 1)
    if "@" in words:
        words = _BRACKETED.sub(" ", words)
        words = " ".join([word for word in words.split() if "@" not in word])
    kept = len("550-5.1.1 ") if words[:3].isdigit() and words[3:4] == "-" else 0  # the code of a reply's first line stays
    return words[:kept].replace("-", " ", 1) + _AGAIN.sub(" ", words[kept:])


def _meaning(words: str, enhanced: str, reply: str) -> Classification:
    found = (
        _said(CLEAR, f"{enhanced} {words}") or classify_enhanced_code(enhanced) or SMTP_REPLIES.get(reply) or _said(VAGUE, words)
    )
    if not found:
        return BounceClass.OTHER, BounceType.UNDETERMINED
    if found[0] in _ABOUT_RECIPIENTS and any(stage in words for stage in _TO_THE_SENDER):
        return BounceClass.POLICY, BounceType.SOFT
    return found


def _said(sayings: tuple[Saying, ...], words: str) -> Classification | None:
    for saying in sayings:
        if saying.heard_in(words):
            return saying.category, saying.type
    return None


def _telling(codes: list[str]) -> str:
    """The first code that says more than "something"."""
    return next((code for code in codes if classify_enhanced_code(code)), "")


def _is_generic(code: str) -> bool:
    return code[1:] in ("", ".0.0")


def _is_temporary(said: list[str], reply: str, status: str) -> bool:
    """By the remote server's own word where there is one: a report says 5.4.7 of what was refused with 4xx until it expired."""
    if reply:
        return reply.startswith("4")
    return (said[0] if said else status).startswith("4")
