"""How mail leaves: the promise every mailer keeps (SMTP, SES). Asynchronous, unlike the ports of storage.

A mailer draws deliveries from its line, hands each over once, and reports exactly one `Result` for each. No mailer ever retries a
message that may have reached the provider: that is the sender's decision, per recipient, recorded. What was submitted but never
handed over (the connection broke before its final dot, the mailer is closing, the relay cannot be reached) is either tried
on another connection or comes back as `UNSENT`: it may be sent again without any risk.

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
    """The final dot went out and no answer came."""
    UNSENT = "unsent"
    """Never handed over: nothing was risked."""


class Stage(StrEnum):
    """Where in the dialogue the result was decided."""

    CONNECT = "connect"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"


class Result(NamedTuple):
    """The provider's answer for one message."""

    verdict: Verdict
    code: int = 0
    """SMTP basic code or HTTP status, 0 where nothing was answered."""
    enhanced: str = ""
    """Enhanced status code (RFC 3463) such as `5.1.1`, empty where none was given."""
    text: str = ""
    """The reply's text (printable, at most 250 characters), or what happened in words; of SES `Kind of error: text`."""
    stage: Stage = Stage.CONTENT
    provider_id: str | None = None
    """The provider's own id of the message (a queue id), where the reply names one."""
    throttled: bool = False
    """The reply says "too fast", about the sender as a whole rather than about this recipient."""


class OutboundMessage(Protocol):
    """One message to hand over."""

    @property
    def mail_from(self) -> str:
        """The return path, empty for `<>`."""
        ...

    @property
    def rcpt_to(self) -> str:
        """The recipient's mailbox; not ASCII only where SMTPUTF8 is needed."""
        ...

    @property
    def ref(self) -> MessageRef | None:
        """Which attempt at which message it is, for a provider that repeats it in its reports; known once it is composed.
        None: of none."""
        ...

    def compose(self) -> bytes | None:
        """The message: CRLF line ends, the last line ended, not dot-stuffed. Called when a connection is ready for it,
        again if it has to move to another connection. None: it is not to be sent after all and has settled itself."""
        ...

    def handing_over(self) -> bool:
        """The final dot leaves with the next write. False: do not (the lease is gone): the message is dropped unsent, and
        reported as `UNSENT`."""
        ...

    def settled(self, result: Result) -> None:
        """The end. Called exactly once, unless `compose` answered None."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """How the way out is."""

    open: bool
    """False: the circuit breaker is open, the provider cannot be reached; deliveries wait in line."""
    reason: str
    """The last failure in words, with what to do; empty when all is well."""
    retry_in_s: float
    """When the next try is, while not open."""
    connections: int
    in_flight: int
    """Final dot out, no answer yet."""


class Mailer(Protocol):
    """See the module's text."""

    def submit(self, delivery: OutboundMessage) -> None:
        """Put it in line. Returns at once."""
        ...

    @property
    def waiting(self) -> int:
        """Deliveries in line, not yet begun."""
        ...

    def recall(self) -> None:
        """Every delivery that is not yet begun settles as `UNSENT`, now."""
        ...

    def health(self) -> Health:
        """A cheap look."""
        ...

    async def start(self) -> None:
        """Ready to take deliveries; connects lazily."""
        ...

    async def close(self, grace_s: float) -> None:
        """Recall what is in line, begin nothing new, give what is in flight `grace_s` seconds to be answered, then hang up:
        the rest is `UNKNOWN` if its final dot went out, else `UNSENT`. Every delivery is settled when it returns."""
        ...
