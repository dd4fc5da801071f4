"""One connection to an SMTP relay, and the rules by which each message on it is settled exactly once.

Each message costs one round trip: MAIL, RCPT and DATA of the next one are sent with its content and final dot (RFC 2920 §3.1:
DATA ends a group, and content may be followed by commands). So at most two messages are on a connection:

- `_dotted`: its final dot was sent and the answer is awaited. If the connection ends now, it is `UNKNOWN`.
- `_begun`: its MAIL, RCPT and DATA are being answered, or its content is being sent. Nothing is risked: if the connection ends
  now, it goes back to the queue. That counts as one of its moves only if no dot was pending before it.

No future and no task per message: replies drive it from `data_received`. The four usual replies are recognised in one match.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from enum import Enum

from postroom.platform.mail._smtp_envelope import Offers, pack
from postroom.platform.mail._smtp_replies import Reply, accepted, refused
from postroom.platform.mail._smtp_session import Phase, SetupConnection
from postroom.platform.mail.connection_pool import ConnectionPool, QueuedMessage
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.platform.mail.smtp_url import SmtpConfig

CHUNK = 65_536
"""Larger content is sent in pieces as the socket takes them, the final dot only with the last: until then nothing is risked."""
QUIT_S = 2.0
"""For the answer to QUIT."""


class ExpectedReply(Enum):
    """What the next reply is an answer to."""

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


class SmtpConnection(SetupConnection):
    """A `PooledConnection`."""

    def __init__(self, pool: ConnectionPool, config: SmtpConfig, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, loop)
        self._pool = pool
        self.offers = Offers()
        """The server's extensions; set before `enlist`."""
        self._pipelines = False
        self._expected: tuple[ExpectedReply, ...] = ()
        self._dotted: QueuedMessage | None = None
        self._begun: QueuedMessage | None = None
        self._mail_taken = self._rcpt_taken = False
        self._streamed = -1
        self._paused = False
        self._served = 0
        self._most = config.reuse
        self._last_line = b""
        self._last_result = Result(Verdict.ACCEPTED)
        self.proven = False

    # What the pool calls: see `PooledConnection`.

    @property
    def busy(self) -> bool:
        return self._phase is Phase.BUSY

    @property
    def in_flight(self) -> bool:
        return self._dotted is not None

    @property
    def leaving(self) -> bool:
        return self._phase is Phase.QUITTING

    def enlist(self) -> None:
        if self._phase is Phase.DEAD:
            self._pool.lost(self, self._broken)
            return
        self._pipelines = self.offers.pipelining and self._config.pipelining
        self._phase = Phase.BUSY
        self.wake()

    def prepare(self, item: QueuedMessage, content: bytes) -> Result | None:
        return pack(item, content, self.offers, self._config.dsn)

    def wake(self) -> None:
        self._guarded(self._next)

    def tick(self, now: float) -> None:
        if self.deadline > now:
            return
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
        self._most = 0
        if self._phase is Phase.IDLE:
            self.quit()

    def quit(self) -> None:
        self._phase = Phase.QUITTING
        self._await((ExpectedReply.QUIT,), QUIT_S)
        self._transport.write(b"QUIT\r\n")
        self._pool.lost(self, "")

    def hang_up(self, reason: str, *, answer: Result | None = None, blame: bool = True) -> None:
        """Close at once, and settle or give back what is on it. `answer`: a 421 to the message that was begun. `blame`: whether
        that message, if no dot was pending before it, may have been the cause."""
        if self._phase is Phase.DEAD:
            return
        was = self._phase
        dotted, self._dotted = self._dotted, None
        begun, self._begun = self._begun, None
        self._expected = ()
        self._die(reason)
        if was in (Phase.BUSY, Phase.IDLE):
            self._pool.lost(self, reason)
        if begun is not None:
            begun.moves += blame and dotted is None
            self._pool.take_back(begun, reason, answer=answer)
        if dotted is not None:
            text = f"the final dot went out and no answer came: {reason}"[:250]
            dotted.message.settled(Result(Verdict.UNKNOWN, text=text, stage=Stage.CONTENT))

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._pool.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = f"the connection broke: {exc}" if exc else "the server closed the connection"
        self.hang_up(reason)
        self._pool.gone(self)

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
        item, self._dotted = self._dotted, None
        assert item is not None
        if reply.code < 400 and not reply.positive:
            self._dotted = item
            self.hang_up(f"the server answered the final dot with {reply}")
            return
        if reply.positive:
            item.message.settled(accepted(reply))
        else:
            item.message.settled(refused(reply, Stage.CONTENT))
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
        if self._begun is not None and not reply.positive and not self._refuse(reply, _STAGES[awaited]):
            return
        if self._expected:
            return
        if self._begun is None:
            self._reset()
        else:
            following = _ENVELOPE[_ENVELOPE.index(awaited) + 1]
            self._await((following,), self._config.command_s)
            self._transport.write(self._begun.head.splitlines(keepends=True)[_ENVELOPE.index(following)])

    def _answer_data(self, reply: Reply) -> None:
        if self._begun is not None:
            if reply.code == 354:
                self._transmit()
            elif self._refuse(reply, Stage.DATA):
                self._reset()
        elif reply.code != 354:
            self._reset()
        elif self._rcpt_taken:
            # MAIL refused, RCPT taken, DATA awaited: a lone dot might be accepted as an empty message.
            self.hang_up("the server took a recipient after it had refused the sender")
        else:
            self._follow(b".\r\n", ExpectedReply.VOID)

    def _refuse(self, reply: Reply, stage: Stage) -> bool:
        """Settle the begun message by a negative reply. False if it was no such reply: the connection is given up."""
        if reply.code < 400:
            self.hang_up(f"the server answered {stage.upper()} with {reply}")
            return False
        item, self._begun = self._begun, None
        assert item is not None
        item.message.settled(refused(reply, stage))
        return True

    def _closed_by(self, reply: Reply, awaited: ExpectedReply) -> None:
        """421, or the answer to QUIT: the server hangs up, and so does this side."""
        answer = None
        if self._begun is not None and not self._dotted and awaited in _STAGES:
            answer = refused(reply, _STAGES[awaited])
            # On a connection that has carried mail this means "enough for one connection"; on a fresh one it is the pace.
            if answer.throttled and self._served == 1:
                item, self._begun = self._begun, None
                item.message.settled(answer)
        self.hang_up(str(reply), answer=answer)

    def _interrupted(self, reply: Reply) -> None:
        """A reply that was not asked for. While content is being sent it is about that message (too large, say); otherwise the
        server is closing the connection."""
        item = self._begun
        if item is not None and self._streamed >= 0 and reply.code >= 400 and reply.code != 421:
            self._begun = None
            item.message.settled(refused(reply, Stage.CONTENT))
        self.hang_up(str(reply))

    def _prove(self) -> None:
        if not self.proven:
            self.proven = True
            self._pool.succeeded()

    # Messages.

    def _next(self) -> None:
        """Begin the next message if there is one."""
        item = self._pool.draw(self) if self._served < self._most else None
        if item is not None:
            self._phase = Phase.BUSY
            self._begin(item, b"", ())
        elif self._served >= self._most:
            self.quit()
        else:
            self._phase = Phase.IDLE
            self.deadline = self._time() + self._config.idle_s
            self._pool.idle(self)

    def _begin(self, item: QueuedMessage, before: bytes, awaited: tuple[ExpectedReply, ...]) -> None:
        """Send the message's envelope behind `before`, which is answered first."""
        self._begun = item
        self._served += 1
        if self._pipelines:
            self._await((*awaited, *_ENVELOPE) if awaited else _ENVELOPE, self._config.command_s)
            self._transport.write(before + item.head)
        else:
            self._await((ExpectedReply.MAIL,), self._config.command_s)
            self._transport.write(item.head[: item.head.index(b"\n") + 1])

    def _reset(self) -> None:
        """End a transaction that was refused: the next MAIL would be nested in it."""
        if self._mail_taken:
            self._follow(b"RSET\r\n", ExpectedReply.RSET)
        else:
            self._next()

    def _follow(self, line: bytes, awaited: ExpectedReply) -> None:
        """Send `line`, and the next message's envelope with it if the server pipelines."""
        item = self._pool.draw_behind(self) if self._pipelines and self._served < self._most else None
        if item is not None:
            self._begin(item, line, (awaited,))
        else:
            self._await((awaited,), self._config.command_s)
            self._transport.write(line)

    def _transmit(self) -> None:
        """DATA was answered 354: the content may be sent."""
        begun = self._begun
        assert begun is not None
        if not self._reader.idle:
            self.hang_up("the server spoke out of turn")
        elif len(begun.payload) <= CHUNK:
            self._hand_over(begun, begun.payload)
        else:
            self._streamed = 0
            self._stream()

    def _stream(self) -> None:
        """Send one piece when the socket has room. Other connections run between two pieces, and a refusal halfway is read."""
        begun = self._begun
        if begun is None or self._streamed < 0 or self._paused or self._phase is not Phase.BUSY:
            return
        start, self._streamed = self._streamed, self._streamed + CHUNK
        if self._streamed >= len(begun.payload):
            self._streamed = -1
            self._hand_over(begun, begun.payload[start:])
            return
        self.deadline = self._time() + self._config.command_s
        self._transport.write(begun.payload[start : self._streamed])
        if not self._paused:
            self._loop.call_soon(self._guarded, self._stream)

    def _hand_over(self, item: QueuedMessage, rest: bytes) -> None:
        """Send the rest of the content, the final dot, and the next message's envelope, in one write."""
        if self._transport.is_closing():
            return  # the socket is gone, as `connection_lost` will report: the dot would not be sent
        behind = None
        if self._pipelines and self._served < self._most:
            behind = self._pool.draw_behind(self)
        try:
            leaves = item.message.handing_over()
        except BaseException:
            if behind is not None:
                self._pool.take_back(behind, "", answer=None)
            raise
        if not leaves:
            self._withhold(item, behind)
            return
        self._dotted, self._begun = item, behind
        self.deadline = self._time() + self._config.dot_s
        if behind is None:
            self._expected = _DOT_ONLY
            self._transport.write(rest + b".\r\n")
        else:
            self._served += 1
            self._expected = _BURST
            self._transport.write(b"".join((rest, b".\r\n", behind.head)))

    def _withhold(self, item: QueuedMessage, behind: QueuedMessage | None) -> None:
        """The dot must not be sent: after 354 the only alternative is to hang up."""
        self._begun = None
        if behind is not None:
            self._pool.take_back(behind, "", answer=None)
        item.message.settled(Result(Verdict.UNSENT, text="withheld before its final dot", stage=Stage.CONTENT))
        self.hang_up("a message was withheld")

    def _accept(self, line: bytes) -> None:
        """The usual positive answer to a final dot. Servers that name no queue id repeat it, so it is parsed once."""
        item, self._dotted = self._dotted, None
        assert item is not None
        if line != self._last_line:
            self._last_line = line
            self._last_result = accepted(Reply(250, (line[4:].decode("utf-8", "backslashreplace"),)))
        item.message.settled(self._last_result)

    def _await(self, expected: tuple[ExpectedReply, ...], seconds: float) -> None:
        self._expected = expected
        self.deadline = self._time() + seconds

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step that calls into a message. An error costs this connection, and the loop's exception handler gets it."""
        try:
            step()
        except BaseException:
            self.hang_up("a message raised an error")
            raise
