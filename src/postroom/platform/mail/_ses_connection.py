"""One connection to SES: one HTTP/1.1 request at a time, and what a broken connection means for the message on it.

    a request is ready → all but its last byte is sent → handing_over() → the last byte → the response

A small request is sent in one write, and `handing_over` is asked right before it. Of a large one the last byte is held back until
all others have left this process, so that a connection that breaks on the way has risked nothing. Once the last byte is sent, an
incomplete response means `UNKNOWN`. A request never follows before the response to the one before: both would be in doubt.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from postroom.clock import Clock
from postroom.platform.mail._aws_auth import CredentialRefresher
from postroom.platform.mail._ses_api import SEND_PATH, ProviderSignal, SendRequests, SesResponse, parse_response
from postroom.platform.mail.connection_pool import ConnectionPool, QueuedMessage
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.platform.mail.ses_url import SesConfig

_ONE_WRITE = 64 * 1024
"""Bodies up to this size are sent in one write."""
_MAX_RESPONSE = 256 * 1024


class SesConnection(asyncio.Protocol):
    """A `PooledConnection`."""

    def __init__(
        self, pool: ConnectionPool, config: SesConfig, *, requests: SendRequests, credentials: CredentialRefresher, clock: Clock
    ) -> None:
        self._pool = pool
        self._config = config
        self._requests = requests
        self._credentials = credentials
        self._clock = clock
        self._time = asyncio.get_running_loop().time
        self._transport: asyncio.Transport | None = None
        self._item: QueuedMessage | None = None
        self._held_back = b""
        self.in_flight = False
        """The last byte of its request was sent, the response is not complete."""
        self.leaving = False
        self.proven = False
        self._deadline = float("inf")
        """On the loop's clock: of the request, or of idleness."""
        self._retiring = False
        self._ended = False
        self._parser = httptools.HttpResponseParser(self)
        self._error_type = ""
        self._body = bytearray()
        self._complete = self._repeats = self._keeps_alive = False

    # What the pool calls: see `PooledConnection`.

    @property
    def busy(self) -> bool:
        return self._item is not None

    def enlist(self) -> None:
        if not self._usable:
            self._pool.trouble(f"{self._config.host}:{self._config.port} closed the connection at once")
            self._end("it was closed at once")
            self._pool.lost(self, "")
            return
        self.wake()

    def prepare(self, item: QueuedMessage, content: bytes) -> Result | None:
        body = self._requests.body(item.message, content)
        if isinstance(body, Result):
            return body
        fields = self._credentials.current.headers("POST", SEND_PATH, body, self._clock.now())
        item.head = f"POST {SEND_PATH} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()
        item.payload = body
        return None

    def wake(self) -> None:
        while self._usable and self._item is None:
            if self._retiring:
                self.quit()
                return
            item = self._pool.draw(self)
            if item is None:
                if self._usable:
                    self._pool.idle(self)
                return
            self._send(item)

    def tick(self, now: float) -> None:
        self._send_last_byte()
        if now < self._deadline:
            return
        if self.in_flight:
            self.hang_up(f"SES did not answer within {self._config.answer_s:g} s")
        elif self.busy:
            self.hang_up(f"the request could not be sent within {self._config.answer_s:g} s")
        else:
            self.quit()

    def retire(self) -> None:
        self._retiring = True
        if not self.busy:
            self.quit()

    def quit(self) -> None:
        self._end("it was idle")

    def hang_up(self, reason: str) -> None:
        self._end(reason, at_once=True)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)
        self._deadline = self._time() + self._config.idle_s
        self._pool.opened(self)

    def resume_writing(self) -> None:
        self._send_last_byte()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._item is None:
            self._end("SES sent something that was not asked for")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.hang_up(f"SES answered something that is not HTTP: {error}")
            return
        if len(self._body) > _MAX_RESPONSE:
            self.hang_up(f"SES answered more than {_MAX_RESPONSE} bytes")
        elif self._repeats:
            self.hang_up("SES answered more than once")
        elif self._complete:
            self._answered(self._item)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost: {exc}" if exc else "SES closed the connection")

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._repeats = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-amzn-errortype":
            self._error_type = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if len(self._body) <= _MAX_RESPONSE:
            self._body += body

    def on_message_complete(self) -> None:
        self._complete = self._parser.get_status_code() >= 200  # before that: 100 Continue
        self._keeps_alive = self._parser.should_keep_alive()  # known only now

    # One request.

    @property
    def _usable(self) -> bool:
        return self._transport is not None and not self._ended and not self._transport.is_closing()

    def _send(self, item: QueuedMessage) -> None:
        assert self._transport is not None
        self._item, self._error_type, self._body, self._complete = item, "", bytearray(), False
        self._deadline = self._time() + self._config.answer_s
        if len(item.payload) <= _ONE_WRITE:
            self._hand_over(item, item.head + item.payload, begun=False)
            return
        self._held_back = item.payload[-1:]
        self._transport.write(item.head)
        self._transport.write(memoryview(item.payload)[:-1])
        self._send_last_byte()

    def _send_last_byte(self) -> None:
        """If all others have left this process."""
        if self._held_back and self._item and self._usable and self._transport and not self._transport.get_write_buffer_size():
            last, self._held_back = self._held_back, b""
            self._hand_over(self._item, last, begun=True)

    def _hand_over(self, item: QueuedMessage, last: bytes, *, begun: bool) -> None:
        """`begun`: bytes of the request were sent, so the connection is of no further use if it is withheld."""
        assert self._transport is not None
        text = "handing over was refused"
        try:
            allowed = item.message.handing_over()
        except Exception as error:  # noqa: BLE001  # a bug of one message costs that message only
            self._pool.report(error)
            allowed, text = False, f"{type(error).__name__} at hand-over"
        if allowed:
            self.in_flight = True
            self._transport.write(last)
            return
        self._item, self._held_back = None, b""
        if begun:
            self.hang_up("a request was withheld half way")
        item.message.settled(Result(Verdict.UNSENT, text=text, stage=Stage.CONNECT))

    def _answered(self, item: QueuedMessage) -> None:
        response = parse_response(self._parser.get_status_code(), self._error_type, bytes(self._body))
        if not self.in_flight and response.result.verdict is Verdict.ACCEPTED:
            self._end("SES accepted what it had not read")
            return
        whole, self._item, self.in_flight, self._held_back = self.in_flight, None, False, b""
        self.proven = True
        self._deadline = self._time() + self._config.idle_s
        if not (whole and self._keeps_alive):
            self._end("SES closes the connection")
        self._apply(item, response)
        self.wake()

    def _apply(self, item: QueuedMessage, response: SesResponse) -> None:
        """Settle the message or give it back, and tell the pool what the response says about the account."""
        result = response.result
        match response.signal:
            case ProviderSignal.WORKS:
                self._pool.succeeded()
            case ProviderSignal.TROUBLE:
                self._pool.trouble(result.text)
            case ProviderSignal.PAUSED:
                self._pool.trouble(f"SES sends nothing now: {result.text}", stubborn=True)
            case ProviderSignal.EXPIRED:
                self._credentials.reject()
                self._pool.trouble(f"the AWS credentials have expired: {result.text}")
            case ProviderSignal.REFUSED:
                self._credentials.reject()
                text = f"SES refuses the request: {result.text}; check the credentials and the configuration set"
                self._pool.trouble(text, stubborn=True)
        if result.verdict is Verdict.UNSENT:
            item.moves += 1
            self._pool.take_back(item, result.text)
        else:
            item.message.settled(result)

    def _end(self, reason: str, *, at_once: bool = False) -> None:
        """Carry no more messages, and settle or give back what is on it."""
        if self._ended:
            return
        self._ended = True
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()
        item, in_flight = self._item, self.in_flight
        self._item, self.in_flight, self._held_back = None, False, b""
        if item is not None and in_flight:
            text = f"the request was sent and no answer came: {reason}"[:250]
            self._pool.trouble(text)
            item.message.settled(Result(Verdict.UNKNOWN, text=text, stage=Stage.CONTENT))
        elif item is not None:
            self._pool.trouble(reason)
            item.moves += 1
            self._pool.take_back(item, reason)
        self._pool.lost(self, "")
        self._pool.gone(self)
