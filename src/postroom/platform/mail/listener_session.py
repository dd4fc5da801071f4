"""The server side of SMTP (RFC 5321) without a network: bytes in, replies out, and what is needed to go on.

It accepts mail for local recipients only, and refuses others before the mail is sent. What a client can make it hold is bounded:
the length of a command; recipients, mails and mistakes per connection; and of a mail only the part that its reader reads: the
rest is counted and dropped, so a mail above the limit costs time and no memory.

A mail ends at CR LF dot CR LF and nowhere else, and a line with a bare CR or LF is not a command: two servers that disagree about
line ends could be made to disagree about where a mail ends (SMTP smuggling). Plain text that follows STARTTLS ends the
connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from postroom.errors import PostroomError
from postroom.model.inbound_mail import InboundMail

MAX_LINE: Final = 2_048
"""Bytes of a command: the 512 of RFC 5321 §4.5.3.1.4 and what extensions add to them."""
MAX_RECIPIENTS: Final = 10
"""A report has one. Senders send the others in another transaction (452, RFC 5321 §4.5.3.1.10)."""
MAX_MAILS: Final = 1_000
MAX_MISTAKES: Final = 20
MAX_COMMANDS: Final = 100
"""From one mail to the next: a client that only sends NOOP occupies a connection."""
_BEYOND: Final = 10
"""A mail up to so many times the limit is read to its end, to refuse it as RFC 5321 asks; a larger one is cut off."""
_MAIL = re.compile(r"FROM: ?<([^<>]{0,400})>((?: [!-~]+)*)", re.IGNORECASE)
_RCPT = re.compile(r"TO: ?<(?:@[^<>:]{1,255}:)?([^<>]{1,400})>", re.IGNORECASE)
_SIZE = re.compile(r"SIZE=([0-9]{1,20})", re.IGNORECASE)
_PLAIN = frozenset({"BODY=7BIT", "BODY=8BITMIME", "SMTPUTF8"})
_END = b"\r\n.\r\n"


class NextStep(Enum):
    """What the session needs to go on."""

    MORE = "more bytes"
    VERDICT = "what became of `mail`: see `answer`"
    TLS = "the connection protected: see `protected`"
    END = "nothing: hang up once the replies have left"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """How a listener presents itself, and which mail it accepts."""

    name: str
    """The server's name."""
    max_bytes: int
    """Largest mail; offered as SIZE (RFC 1870)."""
    kept_bytes: int
    """Of each mail: the part that its reader reads."""
    offers_tls: bool = False


class SmtpServerSession:
    """One client's session. Pass it what arrives (`receive`), do what `go_on` returns, send what is in `replies`."""

    def __init__(self, config: ListenerConfig, knows: Callable[[str], bool]) -> None:
        """`knows`: whether an address is local; may raise what stores raise."""
        self._config = config
        self._knows = knows
        self._secure = False
        self._greeted = False
        self._buffer = bytearray()
        self._in_mail = False
        self._mails = self._mistakes = self._commands = 0
        self._over = False
        self._sender_known = False
        self._recipients: list[str] = []
        self._kept = bytearray()
        self._size = 0
        self.mail = InboundMail((), b"")
        """The last complete one, until it is answered."""
        self.replies = bytearray()
        self.say(220, f"{config.name} ESMTP")

    @property
    def begun(self) -> bool:
        """Whether a mail is being received."""
        return self._in_mail

    def receive(self, data: bytes) -> None:
        """Bytes arrived."""
        self._buffer += data

    def go_on(self) -> NextStep:
        """Process what has arrived. Returns what is needed next."""
        while not self._over:
            wanted = self._content() if self._in_mail else self._command()
            if wanted is not None:
                return wanted
        return NextStep.END

    def answer(self, code: int, text: str) -> None:
        """The reply to the mail."""
        self.say(code, text)
        self._forget()
        self.mail = InboundMail((), b"")
        self._commands = 0
        self._mails += 1
        if self._mails >= MAX_MAILS:
            self.end(421, "4.7.0 That is a lot of mail for one connection: open another")

    def protected(self) -> None:
        """TLS runs: forget what was said before (RFC 3207 §4.2)."""
        self._secure, self._greeted = True, False
        self._buffer.clear()
        self._forget()

    def say(self, code: int, *lines: str) -> None:
        """Add a reply."""
        *first, last = lines
        self.replies += "".join([*(f"{code}-{line}\r\n" for line in first), f"{code} {last}\r\n"]).encode()

    def end(self, code: int, text: str) -> None:
        """Add a last reply: the connection ends."""
        self.say(code, text)
        self._over = True

    # Commands.

    def _command(self) -> NextStep | None:
        end = self._buffer.find(b"\n", 0, MAX_LINE)
        if end < 0:
            if len(self._buffer) < MAX_LINE:
                return NextStep.MORE
            self.end(500, "5.5.2 Line too long")
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        text = line.removesuffix(b"\r\n").decode("utf-8", "replace")
        if any(character < " " for character in text):  # a bare CR or LF among them
            self._mistake(500, "5.5.2 What is this? Lines end in CR LF")
            return None
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            self.end(421, "4.7.0 Too many commands without a mail")
            return None
        return self._obey(text)

    def _obey(self, line: str) -> NextStep | None:
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO" | "HELO":
                self._hello(verb.upper() == "EHLO", rest)
            case "MAIL":
                self._begin(rest)
            case "RCPT":
                self._recipient(rest)
            case "DATA" if not rest:
                self._data()
            case "STARTTLS" if not rest and self._config.offers_tls and not self._secure:
                return self._start_tls()
            case "RSET":
                self._forget()
                self.say(250, "2.0.0 Ok")
            case "NOOP":
                self.say(250, "2.0.0 Ok")
            case "VRFY":
                self.say(252, "2.5.0 Send it, and see")
            case "QUIT":
                self.end(221, "2.0.0 Bye")
            case _:
                self._mistake(500, "5.5.1 Command not known here")
        return None

    def _hello(self, extended: bool, name: str) -> None:
        if not name.strip():
            self._mistake(501, "5.5.4 Say your name")
            return
        self._greeted = True
        self._forget()
        offers = ["PIPELINING", f"SIZE {self._config.max_bytes}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self._config.offers_tls and not self._secure:
            offers.append("STARTTLS")
        self.say(250, self._config.name, *(offers if extended else ()))

    def _begin(self, rest: str) -> None:
        found = _MAIL.fullmatch(rest)
        if not self._greeted or self._sender_known:
            self._mistake(503, "5.5.1 MAIL is not due")
        elif found is None:
            self._mistake(501, "5.5.4 MAIL FROM:<address> is wanted")
        elif refused := self._refused(found[2].split()):
            self._mistake(*refused)
        else:
            self._sender_known = True
            self.say(250, "2.1.0 Ok")

    def _refused(self, parameters: list[str]) -> tuple[int, str] | None:
        for parameter in parameters:
            size = _SIZE.fullmatch(parameter)
            if size is None and parameter.upper() not in _PLAIN:
                return 555, "5.5.4 Parameter not known here"
            if size is not None and int(size[1]) > self._config.max_bytes:
                return 552, f"5.3.4 Too large: {self._config.max_bytes} bytes are taken"
        return None

    def _recipient(self, rest: str) -> None:
        found = _RCPT.fullmatch(rest)
        if not self._sender_known:
            self._mistake(503, "5.5.1 RCPT is not due")
        elif found is None:
            self._mistake(501, "5.5.4 RCPT TO:<address> is wanted")
        elif len(self._recipients) >= MAX_RECIPIENTS:
            self._mistake(452, "4.5.3 Too many recipients for one mail")
        else:
            self._ask_for(found[1])

    def _ask_for(self, address: str) -> None:
        try:
            ours = self._knows(address)
        except PostroomError:
            self.say(451, "4.3.0 That cannot be looked up now: try again later")
            return
        if ours:
            self._recipients.append(address)
            self.say(250, "2.1.5 Ok")
        else:
            self._mistake(550, "5.1.1 No such address here")

    def _data(self) -> None:
        if not self._recipients:
            self._mistake(503, "5.5.1 DATA is not due: no recipient was taken")
            return
        self._in_mail, self._kept, self._size = True, bytearray(), 0
        self._buffer[:0] = b"\r\n"  # so that a lone dot at the beginning is found like any other
        self.say(354, "Go ahead")

    def _start_tls(self) -> NextStep:
        if self._buffer:
            self.end(554, "5.5.1 Nothing may follow STARTTLS before its answer")
            return NextStep.END
        self.say(220, "2.0.0 Go ahead")
        return NextStep.TLS

    def _mistake(self, code: int, text: str) -> None:
        self.say(code, text)
        self._mistakes += 1
        if self._mistakes >= MAX_MISTAKES:
            self.end(421, "4.7.0 Too many mistakes")

    def _forget(self) -> None:
        """Drop the mail that was begun."""
        self._sender_known, self._recipients, self._kept, self._size = False, [], bytearray(), 0

    # Content.

    def _content(self) -> NextStep | None:
        end = self._buffer.find(_END)
        if end < 0:
            self._keep(max(len(self._buffer) - len(_END) + 1, 0))
            if self._size > _BEYOND * self._config.max_bytes:
                self.end(552, "5.3.4 Too large by far")
                return None
            return NextStep.MORE
        self._keep(end + 2)
        del self._buffer[: len(_END) - 2]
        return self._whole()

    def _keep(self, length: int) -> None:
        """Remove `length` bytes from the buffer, and keep the part that is read."""
        room = self._config.kept_bytes + 2 - len(self._kept)
        if room > 0:
            self._kept += self._buffer[: min(length, room)]
        self._size += length
        del self._buffer[:length]

    def _whole(self) -> NextStep | None:
        """The final dot has arrived."""
        self._in_mail = False
        if self._size - 2 > self._config.max_bytes:
            self._forget()
            self._mistake(552, f"5.3.4 Too large: {self._config.max_bytes} bytes are taken")
            return None
        content = bytes(self._kept).replace(b"\r\n.", b"\r\n")[2:]  # RFC 5321 §4.5.2
        self.mail = InboundMail(tuple(self._recipients), content)
        self._kept = bytearray()
        return NextStep.VERDICT
