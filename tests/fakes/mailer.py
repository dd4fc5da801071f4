"""A mailer that does what the test says: answers at once, holds messages, or runs a hook at the moment of hand-over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from postroom.platform.mail.port import Health, OutboundMessage, Result, Stage, Verdict

ACCEPTED = Result(Verdict.ACCEPTED, 250, "2.0.0", "Ok: queued as 1", Stage.CONTENT, "1")
UNSENT = Result(Verdict.UNSENT)


class ScriptedMailer:
    """See platform.mail.port.Mailer. `answer` gives the result of an address, or None to keep its delivery waiting."""

    def __init__(self, answer: Callable[[str], Result | None] = lambda _address: ACCEPTED) -> None:
        self.answer = answer
        self.before_handing_over: Callable[[str], None] = lambda _address: None
        self.accepted: list[str] = []
        self.held: deque[OutboundMessage] = deque()
        self.closed: list[Health] = []
        """What `health` says before the provider can be reached."""
        self._hung_up = False

    def submit(self, delivery: OutboundMessage) -> None:
        content = delivery.compose()
        if content is None:
            return
        address = delivery.rcpt_to
        result = UNSENT if self._hung_up else self.answer(address)
        if result is UNSENT:
            delivery.settled(UNSENT)
            return
        if result is None:
            self.held.append(delivery)
            return
        self.before_handing_over(address)
        if not delivery.handing_over():
            delivery.settled(UNSENT)
            return
        if result.verdict is Verdict.ACCEPTED:
            self.accepted.append(address)
        delivery.settled(result)

    @property
    def waiting(self) -> int:
        return len(self.held)

    def recall(self) -> None:
        while self.held:
            self.held.popleft().settled(UNSENT)

    def health(self) -> Health:
        if self.closed:
            return self.closed.pop()
        return Health(open=True, reason="", retry_in_s=0, connections=1, in_flight=0)

    async def start(self) -> None:
        self._hung_up = False

    async def close(self, grace_s: float) -> None:
        self._hung_up = True
        self.recall()
