"""One message on its way through the mailer."""

from __future__ import annotations

from typing import Protocol

from postroom.delivery.compose import Composed, RowError
from postroom.errors import Temporary
from postroom.model.message import Recipient
from postroom.model.tokens import MessageRef
from postroom.platform.mail.port import Result, Stage, Verdict


class Desk(Protocol):
    """What an outgoing message asks of its batch."""

    def compose(self, recipient: Recipient) -> Composed:
        """`RowError`: never; `Temporary`: not now (it cannot be signed)."""
        ...

    def may_hand_over(self, recipient: Recipient) -> bool:
        """Journal it, while the lease holds."""
        ...

    def settled(self, recipient: Recipient, result: Result) -> None:
        """Its end."""
        ...


class Outgoing:
    """See platform.mail.port.OutboundMessage. Composed once, when a connection first asks for its envelope."""

    __slots__ = ("_composed", "_desk", "_recipient", "mail_from", "rcpt_to", "ref")

    def __init__(self, desk: Desk, recipient: Recipient) -> None:
        self._desk = desk
        self._recipient = recipient
        self._composed: bytes | None = None
        self.mail_from = ""
        self.rcpt_to = recipient.address
        self.ref: MessageRef | None = None

    def compose(self) -> bytes | None:
        if self._composed is None:
            try:
                self.mail_from, self.rcpt_to, self._composed, self.ref = self._desk.compose(self._recipient)
            except RowError as error:
                self._desk.settled(self._recipient, Result(Verdict.PERMANENT, 0, "", str(error), Stage.CONTENT))
            except Temporary as error:
                self._desk.settled(self._recipient, Result(Verdict.TEMPORARY, 0, "", str(error)[:250], Stage.CONTENT))
        return self._composed

    def handing_over(self) -> bool:
        return self._desk.may_hand_over(self._recipient)

    def settled(self, result: Result) -> None:
        self._composed = None
        self._desk.settled(self._recipient, result)
