"""Classifies a refusal: is the address dead, and if not, what was wrong?

Asked in this order; the first that has a meaning decides:

1. phrases that can only mean one thing (`patterns.CLEAR`), those about the sender first: servers say "blocked by a list" with
   5.1.1, "mailbox full" with 5.2.1 and "user unknown" with 5.7.1, and a mailbox wrongly called dead costs a reader for good;
2. the enhanced status code (RFC 3463, https://www.iana.org/assignments/smtp-enhanced-status-codes), the remote server's own
   before the reporter's, because it saw what happened;
3. the SMTP reply code (RFC 5321 4.2);
4. phrases that mean something only without a code (`patterns.VAGUE`);
5. nothing: other, undetermined.

A bounce is hard only if it says that the mailbox or domain does not exist or is disabled, permanently. A full mailbox, a policy,
a filter or the network are never hard, not even with 5xx.

In the code tables the class digit (4 or 5) is left out: whether a refusal is permanent is decided separately. Codes that servers
use for anything (x.0.0, 550, 554 …) are not in the tables: their texts decide.
"""

from __future__ import annotations

import re
from typing import Final

from postroom.events.bounce_parser.patterns import CLEAR, VAGUE, PhraseGroup
from postroom.model.event import Bounce, BounceClass, BounceType

Classification = tuple[BounceClass, BounceType]
"""The class, and the type if the refusal is permanent. A temporary one is soft."""
_HARD, _SOFT, _UNDETERMINED = BounceType.HARD, BounceType.SOFT, BounceType.UNDETERMINED
ENHANCED_CODES: Final[dict[str, Classification]] = {
    # x.1: the address
    "1.0": (
        BounceClass.MAILBOX,
        _HARD,
    ),  # "other address status": used for refused addresses
    "1.1": (BounceClass.MAILBOX, _HARD),
    "1.2": (BounceClass.DOMAIN, _HARD),
    "1.3": (BounceClass.MAILBOX, _HARD),  # bad syntax: permanent
    "1.4": (BounceClass.MAILBOX, _HARD),  # ambiguous
    "1.6": (BounceClass.MAILBOX, _HARD),  # moved, no forwarding address
    "1.7": (BounceClass.POLICY, _SOFT),  # the sender's address: says nothing of the recipient
    "1.8": (BounceClass.POLICY, _SOFT),
    "1.10": (BounceClass.DOMAIN, _HARD),  # null MX (RFC 7505)
    # x.2: the mailbox
    "2.0": (BounceClass.MAILBOX, _UNDETERMINED),  # it exists, and something is wrong with it
    "2.1": (BounceClass.DISABLED, _HARD),
    "2.2": (BounceClass.QUOTA, _SOFT),  # even as 5.2.2: people make room
    "2.3": (BounceClass.SIZE, _SOFT),
    # x.3: the receiving system
    "3.1": (BounceClass.NETWORK, _SOFT),  # its disk is full, not the mailbox
    "3.2": (BounceClass.NETWORK, _SOFT),
    "3.3": (BounceClass.PROTOCOL, _SOFT),
    "3.4": (BounceClass.SIZE, _SOFT),
    "3.5": (BounceClass.NETWORK, _SOFT),  # misconfigured, often "loops back to myself"
    # x.4: network and routing
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
    # x.7: policy; not a sign of a dead mailbox, except for the last two
    "7.0": (BounceClass.POLICY, _SOFT),
    "7.1": (BounceClass.POLICY, _SOFT),
    "7.28": (BounceClass.RATE, _SOFT),  # Gmail: unsolicited mail at an unusual rate
    "7.17": (BounceClass.MAILBOX, _HARD),  # the mailbox has a new owner (RFC 7293), who did not subscribe
    "7.18": (BounceClass.DOMAIN, _HARD),
}
ENHANCED_SUBJECTS: Final[dict[str, Classification]] = {
    # the second number alone, if the third is unknown
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
    "552": (BounceClass.QUOTA, _SOFT),  # "exceeded storage allocation"; phrases about size and content come first
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
    """The meaning of a code such as `5.1.1` or `4.7.26`; None if it has none by itself."""
    _, _, rest = code.partition(".")
    return ENHANCED_CODES.get(rest) or (ENHANCED_SUBJECTS.get(rest.partition(".")[0]) if rest else None)


MAX_WORDS = 4_000
"""Characters of a diagnostic that are read."""
MAX_REPLY = 800
_SERVER_TEXT_MARKS = (
    "server returned was:",
    "remote host said:",
    "responded as follows:",
    "responded with:",
    "response was:",
    "error was:",
    " said:",
)
"""Reporters write these between their own text and the server's."""
_BEFORE_RECIPIENT = (
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
"""The server replied before it knew a recipient, so the reply cannot be about one."""
_ABOUT_RECIPIENTS = frozenset({BounceClass.MAILBOX, BounceClass.DOMAIN, BounceClass.DISABLED, BounceClass.QUOTA})
_ENHANCED = re.compile(r"(?<![\w.])[245]\.[0-7]\.[0-9]{1,3}(?!\.?[0-9])")
_REPLY = re.compile(
    r"(?:^|[:;<>(\"'\]] {0,2}|(?:error|code|smtp|returned|reply|status|with|message)[ :]{1,3})([45][0-5][0-9])(?=[ #:,-]|$)"
)
_CONTINUED = re.compile(r" ?\b[245][0-5][0-9]-(?:[245]\.[0-7]\.[0-9]{1,3} )?")
"""The code before each further line of a multi-line reply."""
_IRONPORT = re.compile(r"^[245]\.[0-9]\.[0-9] - [a-z ]{1,40} (?=[245][0-9]{2}-')")
"""Cisco IronPort puts its own reading of the code before the server's text: "unknown address error" for any 5.1."""
_BRACKETED = re.compile(r"<[^<>\s]{1,320}>")


def classify(status: str, diagnostic: str, action: str = "failed") -> Bounce:
    """Classify by a report's Status, Diagnostic-Code and Action (RFC 3464 2.3). Each may be empty."""
    words, status = normalise_diagnostic(diagnostic), "".join(_ENHANCED.findall(status)[:1])
    codes = _ENHANCED.findall(words)
    reply_found = _REPLY.search(words)
    reply = reply_found[1] if reply_found else ""
    enhanced = _first_meaningful(codes) or _first_meaningful([status]) or (codes[0] if codes else status)
    code = reply if reply and _is_generic(enhanced) else enhanced or reply
    category, permanent_type = _meaning(words, enhanced, reply)
    temporary = action == "delayed" or _is_temporary(codes, reply, status)
    return Bounce(BounceType.SOFT if temporary else permanent_type, category, code)


def classify_text(text: str, action: str = "failed", *, status: str = "") -> Bounce:
    """Classify by a text for people: by the server's own words in it, or if there are none, by all of it."""
    lowered = text[:MAX_WORDS].lower()
    for mark in _SERVER_TEXT_MARKS:
        at = lowered.find(mark)
        if at >= 0:
            bounce = classify(status, text[at + len(mark) : at + MAX_REPLY], action)
            if bounce.category is not BounceClass.OTHER:
                return bounce
    return classify(status, text, action)


def normalise_diagnostic(text: str) -> str:
    """The text in the form of phrases: case-folded, single spaces, reply lines joined, without addresses."""
    words = " ".join(text[:MAX_WORDS].casefold().replace("’", "'").split())
    if " - " in words[:10]:
        words = _IRONPORT.sub("", words).replace("-'", " ", 1)
    if "@" in words:
        words = _BRACKETED.sub(" ", words)
        words = " ".join([word for word in words.split() if "@" not in word])
    kept = len("550-5.1.1 ") if words[:3].isdigit() and words[3:4] == "-" else 0  # the code of a reply's first line stays
    return words[:kept].replace("-", " ", 1) + _CONTINUED.sub(" ", words[kept:])


def _meaning(words: str, enhanced: str, reply: str) -> Classification:
    found = (
        _by_phrases(CLEAR, f"{enhanced} {words}")
        or classify_enhanced_code(enhanced)
        or SMTP_REPLIES.get(reply)
        or _by_phrases(VAGUE, words)
    )
    if not found:
        return BounceClass.OTHER, BounceType.UNDETERMINED
    if found[0] in _ABOUT_RECIPIENTS and any(stage in words for stage in _BEFORE_RECIPIENT):
        return BounceClass.POLICY, BounceType.SOFT
    return found


def _by_phrases(groups: tuple[PhraseGroup, ...], words: str) -> Classification | None:
    for group in groups:
        if group.occurs_in(words):
            return group.category, group.type
    return None


def _first_meaningful(codes: list[str]) -> str:
    """The first code with a meaning, or empty."""
    return next((code for code in codes if classify_enhanced_code(code)), "")


def _is_generic(code: str) -> bool:
    return code[1:] in ("", ".0.0")


def _is_temporary(codes: list[str], reply: str, status: str) -> bool:
    """The remote server's own code counts first: a report says 5.4.7 of a message that was refused with 4xx until it expired."""
    if reply:
        return reply.startswith("4")
    return (codes[0] if codes else status).startswith("4")
