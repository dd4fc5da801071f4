"""Reads a server's replies from bytes as they arrive, and tells what a reply means for a message.

Parsing is strict about form (RFC 5321 §4.2) and lenient about line ends: three digits, then a space, a hyphen or nothing.
Anything else, or an endless line or reply, is not SMTP: the connection is of no further use. Codes follow RFC 3463 and RFC 2034;
the text is consulted only to tell "you are too fast" from "not this recipient, not now", which no code says reliably.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from postroom.errors import Unavailable
from postroom.platform.mail.port import Result, Stage, Verdict

MAX_LINE = 4_096
"""RFC 5321 §4.5.3.1.5 allows 512 octets; some servers send whole paragraphs in several languages."""
MAX_LINES = 128
TEXT_LENGTH = 250
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\n]*))?")
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ :]+|$)")
_UNPRINTABLE = re.compile(r"[^ -~\u00a0-\U0010ffff]+")
_PROVIDER_ID = re.compile(
    r"queued as[ :]+<?([\w.@-]+)"  # Postfix and most that imitate it
    r"|\bid=([\w.-]+)"  # Exim
    r"|^Ok ([0-9a-f]{16}-[\w-]{20,})$"  # Amazon SES: the message id that its events carry
    r"|^(\w{10,}) Message accepted"  # Sendmail
    r"|^Message Queued \(([\w.-]+)\)"  # Haraka
    r"|InternalId=(\d+)",  # Exchange
    re.IGNORECASE,
)
_TOO_FAST = re.compile(
    r"too (?:many|much|fast|quickly|frequent)|throttl|slow(?:ing)? down|\brate\b|rate.?limit|server busy|concurren"
    r"|(?:daily|hourly|sending|submission|connection).{0,20}(?:quota|limit)",
    re.IGNORECASE,
)
_SENDING_QUOTA = re.compile(r"(?:daily|hourly|sending|submission).{0,20}(?:quota|limit)", re.IGNORECASE)
_NOT_ABOUT_PACE = re.compile(
    r"gr[ea]y.?list|host ?name|reverse|\bptr\b|\bdns\b|\bspf\b|dkim|dmarc|authenticat|relay|not permitted|access denied",
    re.IGNORECASE,
)
_PACE_CODES = ("4.3.2", "4.4.5")
_RECIPIENT_CODES = ("4.1.", "4.2.")


class Reply(NamedTuple):
    """One complete reply."""

    code: int
    lines: tuple[str, ...]
    """Without the code; bytes that are not UTF-8 become escapes."""

    @property
    def positive(self) -> bool:
        """2xx."""
        return 200 <= self.code <= 299

    def parsed(self) -> tuple[str, str]:
        """The enhanced status code (empty where there is none) and the text, printable, on one line, at most 250 characters."""
        enhanced, texts = "", []
        for line in self.lines:
            if (found := _ENHANCED.match(line)) and found[1][0] == str(self.code)[0]:
                enhanced = enhanced or found[1]
                line = line[found.end() :]  # servers repeat it on each line
            texts.append(line)
        return enhanced, printable(" ".join(texts))

    def __str__(self) -> str:
        return printable(f"{self.code} {' '.join(self.lines)}")


class ReplyReader:
    """Cuts a stream of bytes into replies. After `Unavailable` it must not be used again."""

    __slots__ = ("_code", "_lines", "_pending")

    def __init__(self) -> None:
        self._pending = b""
        self._code = 0
        self._lines: list[str] = []

    @property
    def idle(self) -> bool:
        """No incomplete reply is held."""
        return not self._pending and not self._lines

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._pending = self._pending + data if self._pending else data

    def next(self) -> Reply | None:
        """The next complete reply; None if more bytes are needed. Raises `Unavailable` if this is not SMTP."""
        while (end := self._pending.find(b"\n")) >= 0:
            line, self._pending = self._pending[:end], self._pending[end + 1 :]
            if (reply := self._line(line.removesuffix(b"\r"))) is not None:
                return reply
        if len(self._pending) > MAX_LINE:
            raise Unavailable("the server sent a line without end")
        return None

    def _line(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line) if len(line) <= MAX_LINE else None
        code = int(found[1]) if found else 0
        if found is None or self._code not in (0, code) or len(self._lines) >= MAX_LINES:
            raise Unavailable(
                f"the server answered with something that is not SMTP: {printable(line.decode('utf-8', 'replace'))[:80]!r}"
            )
        self._lines.append((found[3] or b"").decode("utf-8", "backslashreplace"))
        if found[2] == b"-":
            self._code = code
            return None
        reply = Reply(code, tuple(self._lines))
        self._code, self._lines = 0, []
        return reply


def printable(text: str) -> str:
    """`text` on one line without control characters, at most 250 characters."""
    return _UNPRINTABLE.sub(" ", text[: 4 * TEXT_LENGTH]).strip()[:TEXT_LENGTH]


def accepted(reply: Reply) -> Result:
    """The positive answer to a final dot."""
    enhanced, text = reply.parsed()
    found = _PROVIDER_ID.search(text)
    provider_id = next(filter(None, found.groups()), None) if found else None
    return Result(Verdict.ACCEPTED, reply.code, enhanced, text, Stage.CONTENT, provider_id)


def refused(reply: Reply, stage: Stage) -> Result:
    """The negative answer (4xx or 5xx) to a command or to the final dot.

    A 5xx about the sender's own quota is temporary: it says nothing about the recipient, and is over the next day.
    """
    enhanced, text = reply.parsed()
    if reply.code >= 500 and _SENDING_QUOTA.search(text):
        return Result(Verdict.TEMPORARY, reply.code, enhanced, text, stage, throttled=True)
    verdict = Verdict.PERMANENT if reply.code >= 500 else Verdict.TEMPORARY
    too_fast = verdict is Verdict.TEMPORARY and _is_too_fast(enhanced, text, stage=stage)
    return Result(verdict, reply.code, enhanced, text, stage, throttled=too_fast)


def _is_too_fast(enhanced: str, text: str, *, stage: Stage) -> bool:
    """Whether a 4xx is about the rate of the sender as a whole: not greylisting, not one recipient's full or busy mailbox.

    4.7.x is any policy (RFC 3463 §3.8). At RCPT that is as often one recipient's, so there only words count.
    """
    if _NOT_ABOUT_PACE.search(text) or enhanced.startswith(_RECIPIENT_CODES):
        return False
    by_code = enhanced in _PACE_CODES or (enhanced.startswith("4.7.") and stage is not Stage.RCPT)
    return by_code or bool(_TOO_FAST.search(text))
