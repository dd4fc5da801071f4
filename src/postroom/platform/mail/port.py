"""The port of mailers (SMTP, SES): how messages are handed to a provider. Asynchronous, unlike the storage ports.

A mailer takes messages from its queue, hands each over at most once, and reports exactly one `Result` for each. It never retries
a message that may have reached the provider: that is the sender's decision, per recipient, recorded. A message that was submitted
but not handed over (the connection broke before its final dot, the mailer is closing, the relay cannot be reached) is either
tried on another connection or reported as `UNSENT`: sending it again is safe.

Callbacks run on the mailer's event loop, must not block and must not raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from postroom.model.tokens import MessageRef


class Verdict(StrEnum):
    """How one message ended."""

    ACCEPTED = "accepted"
    """The provider took responsibility (2xx to the final dot)."""
    TEMPORARY = "temporary"
    """Refused for now (4xx): this recipient may be tried again later."""
    PERMANENT = "permanent"
    """Refused for good (5xx)."""
    UNKNOWN = "unknown"
    """It was handed over, and no complete answer came: it may have been accepted."""
    UNSENT = "unsent"
    """Never handed over: sending it again is safe."""


class Stage(StrEnum):
    """The step of the SMTP dialogue in which the result was decided."""

    CONNECT = "connect"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"


class Result(NamedTuple):
    """The provider's answer for one message."""

    verdict: Verdict
    code: int = 0
    """SMTP reply code or HTTP status; 0 if there was no answer."""
    enhanced: str = ""
    """Enhanced status code (RFC 3463) such as `5.1.1`, empty if none was given."""
    text: str = ""
    """The answer's text, or what happened in words; printable, at most 250 characters. SES: `Kind of error: text`."""
    stage: Stage = Stage.CONTENT
    provider_id: str | None = None
    """The provider's id of the message (a queue id), if the answer names one."""
    throttled: bool = False
    """The answer says that the sender as a whole is too fast; it is not about this recipient."""


class OutboundMessage(Protocol):
    """One message to hand over."""

    @property
    def mail_from(self) -> str:
        """The return path, empty for `<>`."""
        ...

    @property
    def rcpt_to(self) -> str:
        """The recipient's address. If it is not ASCII, the relay must offer SMTPUTF8 (RFC 6531)."""
        ...

    @property
    def ref(self) -> MessageRef | None:
        """Which attempt at which message this is, for providers that repeat it in their reports (SES tags); known once it is
        composed. None if there is none."""
        ...

    def compose(self) -> bytes | None:
        """The content: CRLF line ends, the last line ended, not dot-stuffed. Called when a connection is ready for it, and again
        if it moves to another connection. None: it must not be sent after all, and has settled itself."""
        ...

    def handing_over(self) -> bool:
        """Called right before the write that hands it over. False: do not (the lease is lost); it is reported as `UNSENT`."""
        ...

    def settled(self, result: Result) -> None:
        """Called exactly once, unless `compose` returned None."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the provider, as the mailer sees it."""

    open: bool
    """False: the circuit breaker is open (the provider takes no mail now), and messages wait in the queue."""
    reason: str
    """The last failure in words, with what to do; empty if there is none."""
    retry_in_s: float
    """Until the next try; 0 while open."""
    connections: int
    in_flight: int
    """Messages handed over and not answered yet."""


class Mailer(Protocol):
    """Sends messages through one provider."""

    def submit(self, message: OutboundMessage) -> None:
        """Append to the queue. Returns at once."""
        ...

    @property
    def waiting(self) -> int:
        """Messages in the queue, not yet begun."""
        ...

    def recall(self) -> None:
        """Settle every message that is not yet begun as `UNSENT`, now."""
        ...

    def health(self) -> Health:
        """The current state. Cheap."""
        ...

    async def start(self) -> None:
        """Accept messages from now on. Connects when there are some."""
        ...

    async def close(self, grace_s: float) -> None:
        """Recall the queue, begin nothing new, give what is in flight `grace_s` seconds to be answered, then hang up: the rest is
        `UNKNOWN` if it was handed over, else `UNSENT`. Every message is settled when it returns."""
        ...
