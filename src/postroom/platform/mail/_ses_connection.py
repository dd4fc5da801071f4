"""One connection to SES: one call at a time over HTTP/1.1, and what a broken connection means for the message on it.

    a call ready → its bytes leave, but for the last ones → handing_over() → the last ones → the answer

Small calls leave in one write: `handing_over` is asked right before it. Of a large one the last byte is held back until all
others have left this process, so that a connection that breaks on the way has risked nothing. Once the last byte is out, no whole
answer means `UNKNOWN`. Calls never follow each other before an answer: of two without one both would be in doubt.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

from postroom.platform.mail._ses_api import SesResponse, parse_response
from postroom.platform.mail.port import OutboundMessage, Result, Stage, Verdict
from postroom.platform.mail.ses_url import SesConfig

_WHOLE = 64 * 1024
"""Calls up to this size leave in one write."""
_MAX_ANSWER = 256 * 1024


class Call:
    """A delivery on its way."""

    __slots__ = ("delivery", "moves")

    def __init__(self, delivery: OutboundMessage) -> None:
        self.delivery = delivery
        self.moves = 0
        """Connections that broke while it was on them."""


class SesPoolCallbacks(Protocol):
    """The pool, as its connections see it."""

    def answered(self, connection: SesConnection, call: Call, answer: SesResponse) -> None:
        """The connection is free again, or has ended."""
        ...

    def broken(self, call: Call, reason: str) -> None:
        """Before its last byte was out: nothing was risked."""
        ...

    def doubtful(self, call: Call, result: Result) -> None:
        """Its last byte was out, and no answer will come."""
        ...

    def withheld(self, connection: SesConnection, call: Call, error: Exception | None) -> None:
        """It was not to be handed over; `error`: because asking for leave failed."""
        ...

    def gone(self, connection: SesConnection) -> None:
        """It carries no more calls."""
        ...


class SesConnection(asyncio.Protocol):
    """See the module's text."""

    def __init__(self, owner: SesPoolCallbacks, config: SesConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._config = config
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._call: Call | None = None
        self._held_back = b""
        self.handed_over = False
        """The last byte of its call is out, the answer not yet in."""
        self.deadline = 0.0
        """Of the call, or of idleness; by the loop's clock."""
        self.proven = False
        """It has brought an answer."""
        self._ended = False
        self._lost = "the connection was lost"
        self._parser = httptools.HttpResponseParser(self)
        self._kind = ""
        self._body = bytearray()
        self._complete = False
        self._repeats = False
        self._keeps = False

    # For the pool.

    @property
    def busy(self) -> bool:
        """A call is on it."""
        return self._call is not None

    @property
    def usable(self) -> bool:
        """It could carry a call now, as far as is known."""
        return self._transport is not None and not self._ended and not self._transport.is_closing()

    def send(self, call: Call, head: bytes, body: bytes) -> None:
        """Only while it is usable and not busy."""
        assert self._transport is not None
        self._call, self._kind, self._body, self._complete = call, "", bytearray(), False
        self.deadline = self._loop.time() + self._config.answer_s
        if len(body) <= _WHOLE:
            self._finish(head + body)
            return
        self._held_back = body[-1:]
        self._transport.write(head)
        self._transport.write(memoryview(body)[:-1])
        self.look()

    def look(self) -> None:
        """Whether all but the last byte has left. The transport says so too (`resume_writing`)."""
        if self._held_back and self.usable and self._transport and not self._transport.get_write_buffer_size():
            last, self._held_back = self._held_back, b""
            self._finish(last)

    def expire(self) -> None:
        """Its deadline has passed."""
        if self.handed_over:
            self.end(f"SES did not answer within {self._config.answer_s:g} s", at_once=True)
        elif self.busy:
            self.end(f"the call did not leave within {self._config.answer_s:g} s", at_once=True)
        else:
            self.end("idle")

    def end(self, reason: str, *, at_once: bool = False) -> None:
        """Carry no more calls; what is on it is settled as it stands."""
        if self._ended:
            return
        self._ended, self._lost = True, reason
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()
        self._settle()
        self._owner.gone(self)

    # For the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self.deadline = self._loop.time() + self._config.idle_s

    def resume_writing(self) -> None:
        self.look()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._call is None:
            self.end("SES spoke without being asked")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.end(f"SES answered something that is not HTTP: {error}", at_once=True)
            return
        if len(self._body) > _MAX_ANSWER:
            self.end("SES answered more than it ever should", at_once=True)
        elif self._repeats:
            self.end("SES answered more than once", at_once=True)
        elif self._complete:
            self._answered()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(f"the connection was lost: {exc}" if exc else "SES closed the connection")

    # For the parser.

    def on_message_begin(self) -> None:
        self._repeats = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-amzn-errortype":
            self._kind = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if len(self._body) <= _MAX_ANSWER:
            self._body += body

    def on_message_complete(self) -> None:
        self._complete = self._parser.get_status_code() >= 200  # before that: "go on"
        self._keeps = self._parser.should_keep_alive()  # it knows only now

    # One call.

    def _finish(self, last: bytes) -> None:
        call = self._call
        assert call is not None
        assert self._transport is not None
        try:
            may = call.delivery.handing_over()
        except Exception as error:  # noqa: BLE001 - a delivery's own bug; it costs this connection only
            self._withhold(call, error, whole=len(last) > 1)
            return
        if not may:
            self._withhold(call, None, whole=len(last) > 1)
            return
        self.handed_over = True
        self._transport.write(last)

    def _withhold(self, call: Call, error: Exception | None, *, whole: bool) -> None:
        """`whole`: not a byte of the call is out, so the connection can go on."""
        self._call, self._held_back = None, b""
        if not whole:
            self.end("a call was taken back half way", at_once=True)
        self._owner.withheld(self, call, error)

    def _answered(self) -> None:
        call = self._call
        assert call is not None
        answer = parse_response(self._parser.get_status_code(), self._kind, bytes(self._body))
        if not self.handed_over and answer.result.verdict is Verdict.ACCEPTED:
            self.end("SES accepted what it had not read", at_once=True)
            return
        whole, self._call, self.handed_over, self._held_back = self.handed_over, None, False, b""
        self.proven = True
        self.deadline = self._loop.time() + self._config.idle_s
        if not (whole and self._keeps):
            self.end("SES closes the connection")
        self._owner.answered(self, call, answer)

    def _settle(self) -> None:
        """The connection has ended under its call."""
        call, handed_over = self._call, self.handed_over
        self._call, self.handed_over, self._held_back = None, False, b""
        if call is None:
            return
        if not handed_over:
            self._owner.broken(call, self._lost)
            return
        text = f"the call went out and no answer came: {self._lost}"
        self._owner.doubtful(call, Result(Verdict.UNKNOWN, text=text[:250], stage=Stage.CONTENT))
