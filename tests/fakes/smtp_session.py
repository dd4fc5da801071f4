"""One client of the scripted SMTP server: the dialogue, by the book unless a rule says otherwise."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.fakes.smtp_rules import Rule

if TYPE_CHECKING:
    from tests.fakes.smtp_sink import SmtpSink

_PATH = re.compile(r"(?:FROM|TO):<(.*?)>(?: (.*))?$", re.IGNORECASE)
_GARBLE = b"\x00\xff\xfe what?\r\n"


@dataclass(frozen=True)
class Options:
    """How the server is made."""

    pipelining: bool = True
    esmtp: bool = True
    """False: EHLO is not understood."""
    eightbit: bool = True
    smtputf8: bool = True
    dsn: bool = True
    size: int = 0
    tls: str = "none"
    """none, starttls, tls; with `certificate` and `key` files."""
    certificate: str = ""
    key: str = ""
    users: dict[str, str] = field(default_factory=dict)
    """With users, MAIL needs a login."""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN", "XOAUTH2")
    max_connections: int = 0
    rate: int = 0
    """More MAILs than this in a second are answered 450 4.7.0."""
    data_without_recipient: bool = False
    """DATA is answered 354 though every recipient was refused."""
    split: int = 0
    """Replies leave in pieces of so many bytes."""
    multiline: bool = False
    bare_lf: bool = False
    inject: bool = False
    """Plain text follows the answer to STARTTLS."""
    keep_content: bool = True
    recv_buffer: int = 0


class Acceptance(NamedTuple):
    """A message the server took responsibility for."""

    recipient: str
    mail_from: str
    mail_params: str
    rcpt_params: str
    content: bytes
    digest: str
    at: float
    connection: int
    secure: bool
    user: str


class Answer(NamedTuple):
    """What was done to a message at a stage: code 0 where nothing, or no whole reply, was sent."""

    stage: str
    recipient: str
    code: int


class Session(asyncio.Protocol):
    """One client."""

    def __init__(self, sink: SmtpSink) -> None:
        self.sink = sink
        self.options = sink.options
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.out = bytearray()
        self.deaf = False
        self.handshaking = False
        """What comes now is read once the new transport is known."""
        self.secure = sink.options.tls == "tls"
        self.user = ""
        self.login: list[str] | None = None
        self.number = 0
        self.in_content = False
        self.seen = 0
        self.queue = bytearray()
        self.hold_until = 0.0
        self._forget()

    def _forget(self) -> None:
        self.mail_from: str | None = None
        self.recipient = ""
        self.mail_params = self.rcpt_params = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.sink.connections += 1
        self.number = self.sink.connections
        self.sink.open.add(self)
        self.sink.most_at_once = max(self.sink.most_at_once, len(self.sink.open))
        if self.options.recv_buffer:
            transport.get_extra_info("socket").setsockopt(1, 8, self.options.recv_buffer)
        if 0 < self.options.max_connections < len(self.sink.open):
            self.say(421, "4.7.0 too many connections from you")
            self.end()
        elif not self.scripted("connect", 220, "sink ESMTP"):
            self.say(220, "sink ESMTP")
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.sink.open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        self.sink.reads += 1
        self.buffer += data
        self._work()

    def _work(self) -> None:
        while not (self.deaf or self.handshaking) and (self._content() if self.in_content else self._line()):
            pass
        self.flush()

    def _line(self) -> bool:
        end = self.buffer.find(b"\n")
        if end < 0:
            return False
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            self.violate("a command ended by a bare LF")
        if self.buffer and not self.options.pipelining:
            self.violate("a second command was sent without PIPELINING")
        self.command(line.rstrip(b"\r\n").decode("utf-8", "replace"))
        return True

    def command(self, line: str) -> None:
        self.sink.commands.append(line)
        if self.login is not None:
            self._login_step(line)
            return
        verb, _, rest = line.partition(" ")
        step = getattr(self, f"do_{verb.lower()}", None)
        if step is None:
            self.say(500, "5.5.1 no such command")
        else:
            step(rest)

    # Commands.

    def do_ehlo(self, rest: str) -> None:
        self._forget()
        if not self.options.esmtp:
            self.say(502, "5.5.1 what?")
            return
        opt = self.options
        offers = [
            "sink",
            *(["PIPELINING"] if opt.pipelining else []),
            *(["8BITMIME"] if opt.eightbit else []),
            *(["SMTPUTF8"] if opt.smtputf8 else []),
            *(["DSN"] if opt.dsn else []),
            f"SIZE {opt.size}" if opt.size else "SIZE",
            *(["STARTTLS"] if opt.tls == "starttls" and not self.secure else []),
            *(["AUTH " + " ".join(opt.mechanisms)] if opt.users else []),
            "ENHANCEDSTATUSCODES",
        ]
        if not self.scripted("ehlo", 250, "sink"):
            end = "\n" if self.options.bare_lf else "\r\n"
            lines = [f"250-{offer}{end}" for offer in offers[:-1]]
            self.out += ("".join(lines) + f"250 {offers[-1]}{end}").encode()

    def do_helo(self, rest: str) -> None:
        self._forget()
        self.say(250, "sink")

    def do_starttls(self, rest: str) -> None:
        if self.scripted("starttls", 220, "go ahead"):
            return
        if self.buffer:
            self.violate("bytes followed STARTTLS before its answer")
        self.say(220, "2.0.0 go ahead")
        if self.options.inject:
            self.say(250, "injected")
        self.flush()
        self.buffer.clear()
        self.handshaking = True
        self.task = self.sink.loop.create_task(self._start_tls())

    async def _start_tls(self) -> None:
        assert self.sink.context is not None
        try:
            transport = await self.sink.loop.start_tls(self.transport, self, self.sink.context, server_side=True)
        except OSError:
            self.sink.open.discard(self)
            return
        assert transport is not None
        self.transport, self.handshaking, self.secure = transport, False, True
        self._forget()
        self._work()

    def do_auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        self.login = [mechanism.upper()]
        if mechanism.upper() == "LOGIN" and not initial:
            self.say(334, "VXNlcm5hbWU6")
        else:
            self._login_step(initial)

    def _login_step(self, line: str) -> None:
        assert self.login is not None
        self.login.append(line)
        match self.login:
            case ["LOGIN", _]:
                self.say(334, "UGFzc3dvcmQ6")
                return
            case ["LOGIN", user, password]:
                pair = [base64.b64decode(user).decode(), base64.b64decode(password).decode()]
            case ["PLAIN", blob]:
                pair = base64.b64decode(blob).decode().split("\0")[1:]
            case ["XOAUTH2", blob]:
                name, bearer = base64.b64decode(blob).decode().split("\x01")[:2]
                pair = [name.removeprefix("user="), bearer.removeprefix("auth=Bearer ")]
                if self.options.users.get(pair[0]) != pair[1]:
                    self.say(334, "eyJzdGF0dXMiOiI0MDAifQ==")
                    return
            case _:
                pair = ["", ""]
        self.login = None
        if self.scripted("auth", 235, "2.7.0 welcome"):
            return
        if self.options.users.get(pair[0]) == pair[1]:
            self.user = pair[0]
            self.say(235, "2.7.0 welcome")
        else:
            self.say(535, "5.7.8 wrong user or password")

    def do_mail(self, rest: str) -> None:
        found = _PATH.match(rest)
        if found is None:
            self.say(501, "5.5.4 what?")
        elif self.mail_from is not None:
            self.violate("MAIL inside a transaction")
            self.say(503, "5.5.1 nested MAIL")
        elif self.options.users and not self.user:
            self.say(530, "5.7.0 log in first")
        elif self.sink.too_fast():
            self.say(450, "4.7.0 you send too fast")
        elif not self.scripted("mail", 250, "2.1.0 ok", sender=found[1]):
            self.mail_from, self.mail_params = found[1], found[2] or ""
            self.say(250, "2.1.0 ok")

    def do_rcpt(self, rest: str) -> None:
        found = _PATH.match(rest)
        if self.mail_from is None or found is None:
            self.say(503, "5.5.1 MAIL first")
        elif not self.scripted("rcpt", 250, "2.1.5 ok", recipient=found[1]):
            self.recipient, self.rcpt_params = found[1], found[2] or ""
            self.say(250, "2.1.5 ok")

    def do_data(self, rest: str) -> None:
        if self.buffer:
            self.violate("bytes followed DATA before its answer")
        if self.mail_from is None or not (self.recipient or self.options.data_without_recipient):
            self.say(554 if self.mail_from else 503, "5.5.1 no valid recipients")
        elif not self.scripted("data", 354, "go ahead"):
            self.say(354, "go ahead")
            self.in_content, self.seen = True, 0
            self.buffer[:0] = b"\r\n"  # so that a lone dot is found like any other

    def do_rset(self, rest: str) -> None:
        self._forget()
        if not self.scripted("rset", 250, "2.0.0 ok"):
            self.say(250, "2.0.0 ok")

    def do_noop(self, rest: str) -> None:
        self.say(250, "2.0.0 ok")

    def do_quit(self, rest: str) -> None:
        self.say(221, "2.0.0 bye")
        self.end()

    # Content.

    def _content(self) -> bool:
        if self.recipient and len(self.buffer) > 2 >= self.seen and self.scripted("content", 250, "2.0.0 ok"):
            self.seen = len(self.buffer)
            return False
        end = self.buffer.find(b"\r\n.\r\n", max(0, self.seen - 4))
        self.seen = len(self.buffer)
        if end < 0:
            return False
        raw = bytes(self.buffer[2 : end + 2])
        del self.buffer[: end + 5]
        self.in_content = False
        if not self.recipient:
            if raw:
                self.violate("content was sent for a refused recipient")
            self.say(554, "5.5.1 no valid recipients")
        else:
            self._dot(raw)
        self._forget()
        return True

    def _dot(self, raw: bytes) -> None:
        if not raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r"):
            self.violate("content with a bare CR or LF")
        self.sink.dots.append(self.recipient)
        content = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n")[2:]
        if not self.scripted("dot", 250, "2.0.0 ok: queued", content=content):
            self._accept(content)
            self.say(250, f"2.0.0 ok: queued as Q{len(self.sink.accepted)}")
            self.sink.answers.append(Answer("dot", self.recipient, 250))

    def _accept(self, content: bytes) -> None:
        kept = content if self.options.keep_content else b""
        digest = hashlib.sha256(content).hexdigest()
        assert self.mail_from is not None
        self.sink.accept(
            Acceptance(
                self.recipient,
                self.mail_from,
                self.mail_params,
                self.rcpt_params,
                kept,
                digest,
                time.time(),
                self.number,
                self.secure,
                self.user,
            )
        )

    # Misbehaving.

    def scripted(
        self, stage: str, code: int, text: str, *, sender: str | None = None, recipient: str | None = None, content: bytes = b""
    ) -> bool:
        """Whether a rule has taken over; `code` and `text` are the usual answer."""
        recipient = self.recipient if recipient is None else recipient
        sender = (self.mail_from or "") if sender is None else sender
        rule = self.sink.script.rule(stage, sender=sender, recipient=recipient)
        if rule is not None and rule.action == "late":
            self.hold_until = self.sink.loop.time() + rule.seconds
        if rule is None or rule.action == "late":
            return False
        if rule.action.startswith("accept") or (stage == "dot" and rule.action == "reply" and rule.code < 300):
            self._accept(content)
        answered = code if rule.action == "accept_close" else rule.code if rule.action in ("reply", "take", "hang_up") else 0
        if recipient or stage != "data":  # else its recipient was refused before, which was the answer
            self.sink.answers.append(Answer(stage, recipient or sender, answered))
        self._act(rule, f"{code} {text}\r\n".encode(), sender if stage == "mail" else recipient)
        return True

    def _act(self, rule: Rule, usual: bytes, name: str) -> None:
        action = rule.action.removeprefix("accept_")
        if action in ("reply", "take", "hang_up"):
            self.say(rule.code, rule.text)
        self.out += {"cut": usual[: len(usual) // 2], "garble": _GARBLE, "close": usual}.get(action, b"")
        if action == "take" and rule.stage == "mail":
            self.mail_from = name
        elif action == "take":
            self.recipient = name
        self.deaf = self.deaf or action in ("stall", "deafen", "drip")
        if action == "deafen":
            self.transport.pause_reading()
        if action == "drip":
            self.flush()
            self._drip(usual[:4] + b"x" * 10_000, rule.seconds)
        if action == "hang_up" and rule.stage == "content":
            self.deaf = True  # swallows the rest for a while, or the reset would overtake the answer
            self.flush()
            self.sink.loop.call_later(rule.seconds, self.end)
        elif action in ("hang_up", "drop", "reset", "cut", "close"):
            self.end(reset=action == "reset")

    def _drip(self, rest: bytes, seconds: float) -> None:
        if not self.transport.is_closing():
            self.transport.write(rest[:1])
            self.sink.loop.call_later(seconds, self._drip, rest[1:], seconds)

    # Talking.

    def violate(self, what: str) -> None:
        self.sink.violations.append(what)

    def say(self, code: int, text: str) -> None:
        end = "\n" if self.options.bare_lf else "\r\n"
        if self.options.multiline and code != 334:
            self.out += f"{code}-first{end}{code}-{text}{end}".encode()
        self.out += f"{code} {text}{end}".encode()

    def flush(self) -> None:
        if not self.out or self.transport.is_closing():
            return
        if self.hold_until > self.sink.loop.time():
            self.sink.loop.call_at(self.hold_until + 0.001, self.flush)
            return
        if self.options.split:
            self.queue += self.out
            self.sink.loop.call_soon(self._piece)
        else:
            self.transport.write(bytes(self.out))
        self.out.clear()

    def _piece(self) -> None:
        if self.queue and not self.transport.is_closing():
            self.transport.write(bytes(self.queue[: self.options.split]))
            del self.queue[: self.options.split]
            self.sink.loop.call_later(0.0005, self._piece)

    def end(self, *, reset: bool = False) -> None:
        self.deaf = True
        if reset:
            self.transport.abort()
        else:
            self.transport.write(bytes(self.queue + self.out))
            self.queue.clear()
            self.out.clear()
            self.transport.close()
