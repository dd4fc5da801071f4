"""One connection to a relay, and the rules by which each message on it comes to exactly one end.

Each message costs one round trip: with its content and final dot go MAIL, RCPT and DATA of the next one (RFC 2920 §3.1: DATA
ends a group, and content may be followed by commands). So at most two messages are on a connection:

- `_dotted`, whose final dot left and whose answer is awaited. If the connection ends now, it is `UNKNOWN`.
- `_head`, whose MAIL, RCPT and DATA are being answered or whose content is leaving. Nothing is risked: if the connection ends
  now it goes back to the line. It counts as a broken try only if no dot stood before it.

No future and no task a message: replies drive it from `data_received`. A burst of the four usual replies is recognised whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from postroom.platform.mail._smtp_envelope import Offers, QueuedMessage
from postroom.platform.mail._smtp_replies import Reply, accepted, refused
from postroom.platform.mail._smtp_session import Phase, SetupConnection
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.platform.mail.smtp_url import SmtpConfig

CHUNK = 65_536
"""Larger content leaves in pieces as the socket takes them, the final dot only with the last: until then it is not risked."""
QUIT_S = 2.0
"""For the answer to QUIT."""


class ExpectedReply(Enum):
    """What the next reply answers."""

    DOT = "the final dot"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    RSET = "RSET"
    VOID = "the lone dot of a message refused before"
    QUIT = "QUIT"


_ENVELOPE = (ExpectedReply.MAIL, ExpectedReply.RCPT, ExpectedReply.DATA)
_BURST = (ExpectedReply.DOT, *_ENVELOPE)
_DOT_ONLY = (ExpectedReply.DOT,)
_STAGES = {ExpectedReply.MAIL: Stage.MAIL, ExpectedReply.RCPT: Stage.RCPT, ExpectedReply.DATA: Stage.DATA}
_USUAL_ENVELOPE = re.compile(rb"250 [^\r\n]*\r\n250 [^\r\n]*\r\n354 [^\r\n]*\r\n")
_USUAL_BURST = re.compile(rb"(250 [^\r\n]*)\r\n250 [^\r\n]*\r\n250 [^\r\n]*\r\n354 [^\r\n]*\r\n")


class PoolCallbacks(Protocol):
    """What a connection needs of its pool."""

    def draw(self, offers: Offers) -> QueuedMessage | None:
        """The next message, packed for a server with these offers."""
        ...

    def draw_behind(self, offers: Offers) -> QueuedMessage | None:
        """The same, unless another connection is free to take it at once."""
        ...

    def take_back(self, parcel: QueuedMessage, reason: str, *, answer: Result | None) -> None:
        """It did not leave: first in line again. `answer`: a 421 that was given to it."""
        ...

    def opened(self, connection: SmtpConnection) -> None:
        """Its socket is open."""
        ...

    def proven(self) -> None:
        """A message was answered: the way works."""
        ...

    def idle(self, connection: SmtpConnection) -> None:
        """It has nothing to do."""
        ...

    def lost(self, connection: SmtpConnection, reason: str) -> None:
        """It carries no more messages."""
        ...

    def gone(self, connection: SmtpConnection) -> None:
        """Its socket is closed."""
        ...


class SmtpConnection(SetupConnection):
    """See the module's text. `deadline`, on the loop's clock, is when `expire` is due."""

    def __init__(self, owner: PoolCallbacks, config: SmtpConfig, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, loop)
        self._owner = owner
        self._offers = Offers()
        self._pipelines = False
        self._expected: tuple[ExpectedReply, ...] = ()
        self._dotted: QueuedMessage | None = None
        self._head: QueuedMessage | None = None
        self._mail_taken = self._rcpt_taken = False
        self._streamed = -1
        self._paused = False
        self._served = 0
        self._most = config.reuse
        self._last_line = b""
        self._last_result = Result(Verdict.ACCEPTED)
        self.fruitful = False
        """A message was answered on it."""

    # What the pool sees.

    @property
    def awaits_verdict(self) -> bool:
        """A final dot is out and unanswered."""
        return self._dotted is not None

    def enlist(self, offers: Offers) -> None:
        """Set-up is done: carry messages."""
        if self._phase is Phase.DEAD:
            self._owner.lost(self, self._broken)
            return
        self._offers = offers
        self._pipelines = offers.pipelining and self._config.pipelining
        self._phase = Phase.BUSY
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        self._guarded(self._next)

    def expire(self) -> None:
        """`deadline` has passed."""
        if self._phase is Phase.IDLE:
            self.quit()
        elif self._phase is Phase.QUITTING:
            self.hang_up("QUIT was not answered")
        elif self._streamed >= 0:
            self.hang_up(f"{self._config.host} took no content for {self._config.command_s:g} s")
        else:
            awaited = self._expected[0].value if self._expected else "anything"
            patience = self._config.dot_s if ExpectedReply.DOT in self._expected else self._config.command_s
            self.hang_up(f"{self._config.host} did not answer {awaited} within {patience:g} s")

    def retire(self) -> None:
        """Carry no further message: say goodbye after the one under way."""
        self._most = 0
        if self._phase is Phase.IDLE:
            self.quit()

    def quit(self) -> None:
        """Say goodbye; only between messages."""
        self._phase = Phase.QUITTING
        self._await((ExpectedReply.QUIT,), QUIT_S)
        self._transport.write(b"QUIT\r\n")
        self._owner.lost(self, "")

    def hang_up(self, reason: str, *, answer: Result | None = None, blame: bool = True) -> None:
        """Close at once, and bring what is on it to its end. `answer`: a 421 to the message at the head. `blame`: whether that
        message, if no dot stood before it, may have been the cause."""
        if self._phase is Phase.DEAD:
            return
        was = self._phase
        dotted, self._dotted = self._dotted, None
        head, self._head = self._head, None
        self._expected = ()
        self._die(reason)
        if was in (Phase.BUSY, Phase.IDLE):
            self._owner.lost(self, reason)
        if head is not None:
            head.moves += blame and dotted is None
            self._owner.take_back(head, reason, answer=answer)
        if dotted is not None:
            text = f"the final dot went out and no answer came: {reason}"[:250]
            dotted.delivery.settled(Result(Verdict.UNKNOWN, text=text, stage=Stage.CONTENT))

    # The event loop calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f"the connection broke: {exc}" if exc else "the server closed the connection"
        self.hang_up(reason)
        self._owner.gone(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._streamed >= 0:
            self._guarded(self._stream)

    def data_received(self, data: bytes) -> None:
        expected = self._expected
        if expected is _BURST and self._reader.idle and (burst := _USUAL_BURST.fullmatch(data)):
            self._expected = ()
            self._accept(burst[1])
            self._transmit()
            return
        if expected is _ENVELOPE and self._reader.idle and _USUAL_ENVELOPE.fullmatch(data):
            self._expected = ()
            self._prove()
            self._transmit()
            return
        self._reader.feed(data)
        while self._phase is not Phase.DEAD and (reply := self._next_reply()) is not None:
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        if self._phase is Phase.SETUP:
            self._answer_setup(reply)
        elif self._expected:
            self._answer(reply)
        else:
            self._interrupted(reply)

    # The dialogue.

    def _answer(self, reply: Reply) -> None:
        awaited, self._expected = self._expected[0], self._expected[1:]
        self.deadline = self._time() + self._config.command_s
        if awaited is ExpectedReply.DOT:
            self._answer_dot(reply)
        elif reply.code == 421 or awaited is ExpectedReply.QUIT:
            self._closed_by(reply, awaited)
        elif awaited is ExpectedReply.DATA:
            self._prove()
            self._answer_data(reply)
        elif awaited in _STAGES:
            self._prove()
            self._answer_command(awaited, reply)
        elif not self._expected:  # after RSET or a lone dot, whatever it was answered
            self._next()

    def _answer_dot(self, reply: Reply) -> None:
        parcel, self._dotted = self._dotted, None
        assert parcel is not None
        if reply.code < 400 and not reply.positive:
            self._dotted = parcel
            self.hang_up(f"the server answered the final dot with {reply}")
            return
        if reply.positive:
            parcel.delivery.settled(accepted(reply))
        else:
            parcel.delivery.settled(refused(reply, Stage.CONTENT))
        if reply.code == 421:
            self.hang_up(str(reply), blame=False)
            return
        self._prove()
        if not self._expected and self._phase is Phase.BUSY:
            self._next()

    def _answer_command(self, awaited: ExpectedReply, reply: Reply) -> None:
        if awaited is ExpectedReply.RCPT:
            self._rcpt_taken = reply.positive
        else:
            self._mail_taken = reply.positive
        if self._head is not None and not reply.positive and not self._refuse(reply, _STAGES[awaited]):
            return
        if self._expected:
            return
        if self._head is None:
            self._reset()
        else:
            following = _ENVELOPE[_ENVELOPE.index(awaited) + 1]
            self._await((following,), self._config.command_s)
            self._transport.write(self._head.commands.splitlines(keepends=True)[_ENVELOPE.index(following)])

    def _answer_data(self, reply: Reply) -> None:
        if self._head is not None:
            if reply.code == 354:
                self._transmit()
            elif self._refuse(reply, Stage.DATA):
                self._reset()
        elif reply.code != 354:
            self._reset()
        elif self._rcpt_taken:
            # MAIL refused, RCPT taken, DATA awaited: a lone dot might be an empty message to somebody.
            self.hang_up("the server took a recipient after it had refused the sender")
        else:
            self._follow(b".\r\n", ExpectedReply.VOID)

    def _refuse(self, reply: Reply, stage: Stage) -> bool:
        """Settle the head by a negative reply; False where it was no such reply and the connection is given up."""
        if reply.code < 400:
            self.hang_up(f"the server answered {stage.upper()} with {reply}")
            return False
        parcel, self._head = self._head, None
        assert parcel is not None
        parcel.delivery.settled(refused(reply, stage))
        return True

    def _closed_by(self, reply: Reply, awaited: ExpectedReply) -> None:
        """421, or the answer to QUIT: the server hangs up, so do we."""
        answer = None
        if self._head is not None and not self._dotted and awaited in _STAGES:
            answer = refused(reply, _STAGES[awaited])
            # On a connection that has carried mail this means "enough for one connection"; on a fresh one it is the pace.
            if answer.throttled and self._served == 1:
                parcel, self._head = self._head, None
                parcel.delivery.settled(answer)
        self.hang_up(str(reply), answer=answer)

    def _interrupted(self, reply: Reply) -> None:
        """A reply to nothing: while content leaves it is about that message (too large, say); otherwise it is goodbye."""
        parcel = self._head
        if parcel is not None and self._streamed >= 0 and reply.code >= 400 and reply.code != 421:
            self._head = None
            parcel.delivery.settled(refused(reply, Stage.CONTENT))
        self.hang_up(str(reply))

    def _prove(self) -> None:
        if not self.fruitful:
            self.fruitful = True
            self._owner.proven()

    # Messages.

    def _next(self) -> None:
        """Begin a message if there is one."""
        parcel = self._owner.draw(self._offers) if self._served < self._most else None
        if parcel is not None:
            self._phase = Phase.BUSY
            self._begin(parcel, b"", ())
        elif self._served >= self._most:
            self.quit()
        else:
            self._phase = Phase.IDLE
            self.deadline = self._time() + self._config.idle_s
            self._owner.idle(self)

    def _begin(self, parcel: QueuedMessage, before: bytes, awaited: tuple[ExpectedReply, ...]) -> None:
        """Send the message's envelope, behind `before`, which is answered first."""
        self._head = parcel
        self._served += 1
        if self._pipelines:
            self._await((*awaited, *_ENVELOPE) if awaited else _ENVELOPE, self._config.command_s)
            self._transport.write(before + parcel.commands)
        else:
            self._await((ExpectedReply.MAIL,), self._config.command_s)
            self._transport.write(parcel.commands[: parcel.commands.index(b"\n") + 1])

    def _reset(self) -> None:
        """End a transaction that came to nothing: the next MAIL would be nested in it."""
        if self._mail_taken:
            self._follow(b"RSET\r\n", ExpectedReply.RSET)
        else:
            self._next()

    def _follow(self, line: bytes, awaited: ExpectedReply) -> None:
        """Send `line`, and the next message's envelope with it where that is possible."""
        parcel = self._owner.draw_behind(self._offers) if self._pipelines and self._served < self._most else None
        if parcel is not None:
            self._begin(parcel, line, (awaited,))
        else:
            self._await((awaited,), self._config.command_s)
            self._transport.write(line)

    def _transmit(self) -> None:
        """The head's DATA was answered 354: its content may leave."""
        head = self._head
        assert head is not None
        if not self._reader.idle:
            self.hang_up("the server spoke out of turn")
        elif len(head.payload) <= CHUNK:
            self._hand_over(head, head.payload)
        else:
            self._streamed = 0
            self._stream()

    def _stream(self) -> None:
        """One piece, when the socket has room. Others have their turn between two, and a refusal halfway is heard."""
        head = self._head
        if head is None or self._streamed < 0 or self._paused or self._phase is not Phase.BUSY:
            return
        start, self._streamed = self._streamed, self._streamed + CHUNK
        if self._streamed >= len(head.payload):
            self._streamed = -1
            self._hand_over(head, head.payload[start:])
            return
        self.deadline = self._time() + self._config.command_s
        self._transport.write(head.payload[start : self._streamed])
        if not self._paused:
            self._loop.call_soon(self._guarded, self._stream)

    def _hand_over(self, parcel: QueuedMessage, rest: bytes) -> None:
        """Send the rest of the content, the final dot, and the next message's envelope, in one write."""
        if self._transport.is_closing():
            return  # the socket is gone already, which `connection_lost` will say: the dot would not leave
        behind = None
        if self._pipelines and self._served < self._most:
            behind = self._owner.draw_behind(self._offers)
        try:
            leaves = parcel.delivery.handing_over()
        except BaseException:
            if behind is not None:
                self._owner.take_back(behind, "", answer=None)
            raise
        if not leaves:
            self._withhold(parcel, behind)
            return
        self._dotted, self._head = parcel, behind
        self.deadline = self._time() + self._config.dot_s
        if behind is None:
            self._expected = _DOT_ONLY
            self._transport.write(rest + b".\r\n")
        else:
            self._served += 1
            self._expected = _BURST
            self._transport.write(b"".join((rest, b".\r\n", behind.commands)))

    def _withhold(self, parcel: QueuedMessage, behind: QueuedMessage | None) -> None:
        """The dot must not leave: after 354 the only other way out is to hang up."""
        self._head = None
        if behind is not None:
            self._owner.take_back(behind, "", answer=None)
        parcel.delivery.settled(Result(Verdict.UNSENT, text="withheld before its final dot", stage=Stage.CONTENT))
        self.hang_up("a message was withheld")

    def _accept(self, line: bytes) -> None:
        """The usual good answer to a final dot. Servers that name no queue id say the same each time."""
        parcel, self._dotted = self._dotted, None
        assert parcel is not None
        if line != self._last_line:
            self._last_line = line
            self._last_result = accepted(Reply(250, (line[4:].decode("utf-8", "backslashreplace"),)))
        parcel.delivery.settled(self._last_result)

    def _await(self, expected: tuple[ExpectedReply, ...], seconds: float) -> None:
        self._expected = expected
        self.deadline = self._time() + seconds

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run what the loop would not clean up after: a delivery that raises costs this connection, and is heard of."""
        try:
            step()
        except BaseException:
            self.hang_up("a delivery raised")
            raise
