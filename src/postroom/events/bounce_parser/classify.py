"""What a refusal means: is the address dead, and if not, what was wrong.

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

from postroom.events.bounce_parser.codes import REPLIES, Meaning, enhanced_meaning
from postroom.events.bounce_parser.phrases import CLEAR, VAGUE, Saying
from postroom.model.event import Bounce, BounceClass, BounceType

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
    words, status = normalised(diagnostic), "".join(_ENHANCED.findall(status)[:1])
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


def normalised(text: str) -> str:
    """As the phrases are written: lower case, single spaces, one reply's lines joined, no addresses (they may say anything)."""
    words = " ".join(text[:MAX_WORDS].casefold().replace("’", "'").split())
    if " - " in words[:10]:
        words = _IRONPORT.sub("", words).replace("-'", " ", 1)
    if "@" in words:
        words = _BRACKETED.sub(" ", words)
        words = " ".join([word for word in words.split() if "@" not in word])
    kept = len("550-5.1.1 ") if words[:3].isdigit() and words[3:4] == "-" else 0  # the code of a reply's first line stays
    return words[:kept].replace("-", " ", 1) + _AGAIN.sub(" ", words[kept:])


def _meaning(words: str, enhanced: str, reply: str) -> Meaning:
    found = _said(CLEAR, f"{enhanced} {words}") or enhanced_meaning(enhanced) or REPLIES.get(reply) or _said(VAGUE, words)
    if not found:
        return BounceClass.OTHER, BounceType.UNDETERMINED
    if found[0] in _ABOUT_RECIPIENTS and any(stage in words for stage in _TO_THE_SENDER):
        return BounceClass.POLICY, BounceType.SOFT
    return found


def _said(sayings: tuple[Saying, ...], words: str) -> Meaning | None:
    for saying in sayings:
        if saying.heard_in(words):
            return saying.category, saying.type
    return None


def _telling(codes: list[str]) -> str:
    """The first code that says more than "something"."""
    return next((code for code in codes if enhanced_meaning(code)), "")


def _is_generic(code: str) -> bool:
    return code[1:] in ("", ".0.0")


def _is_temporary(said: list[str], reply: str, status: str) -> bool:
    """By the remote server's own word where there is one: a report says 5.4.7 of what was refused with 4xx until it expired."""
    if reply:
        return reply.startswith("4")
    return (said[0] if said else status).startswith("4")
