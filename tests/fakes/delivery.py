"""Deliveries that remember what a mailer did with them, and the shortest way to send some."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import uvloop

from postroom.model.tokens import MessageRef
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.port import Mailer, Result, Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import SmtpConfig

HASTY = BreakerPolicy(first_wait_s=0.02, longest_wait_s=0.1, stubborn_wait_s=0.1)
"""For tests in which a relay comes back."""

Runner: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
RUNNERS: dict[str, Runner] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def message(text: str = "hello", *, subject: str = "test") -> bytes:
    """A small message as `compose` hands it out."""
    return f"From: a@example.com\r\nSubject: {subject}\r\nMessage-ID: <1+x=y@example.com>\r\n\r\n{text}\r\n".encode()


class FakeDelivery:
    """A `postroom.platform.mail.port.OutboundMessage`."""

    def __init__(self, rcpt_to: str, *, mail_from: str = "bounce@example.com", content: bytes | None = None) -> None:
        self.rcpt_to = rcpt_to
        self.mail_from = mail_from
        self.ref: MessageRef | None = None
        self.content: bytes | None = message() if content is None else content
        self.lets_go = True
        """What `handing_over` answers."""
        self.composed = 0
        self.handed_over = 0
        self.results: list[Result] = []
        self.then: Callable[[Result], None] = lambda _: None
        """Called when it settles."""

    def compose(self) -> bytes | None:
        self.composed += 1
        return self.content

    def handing_over(self) -> bool:
        if self.lets_go:
            self.handed_over += 1
        return self.lets_go

    def settled(self, result: Result) -> None:
        self.results.append(result)
        self.then(result)

    @property
    def result(self) -> Result:
        """The one and only."""
        assert len(self.results) == 1, (self.rcpt_to, self.results)
        return self.results[0]

    @property
    def verdict(self) -> Verdict:
        return self.result.verdict


def deliveries(count: int) -> list[FakeDelivery]:
    """To r0@example.net and so on, each with a return path of its own: b0@example.com."""
    return [FakeDelivery(f"r{number}@example.net", mail_from=f"b{number}@example.com") for number in range(count)]


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that another thread or the loop brings about; fails loudly when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def send(mailer: Mailer, items: Sequence[FakeDelivery], *, seconds: float = 10.0, grace_s: float = 1.0) -> None:
    """Start, send all, wait until each has settled, close."""
    await mailer.start()
    for item in items:
        mailer.submit(item)
    try:
        await until(lambda: all(item.results for item in items), seconds)
    finally:
        await mailer.close(grace_s)


def deliver(config: SmtpConfig, items: Sequence[FakeDelivery], *, policy: BreakerPolicy = HASTY, seconds: float = 10.0) -> None:
    """`send` on a loop and a mailer of its own."""
    asyncio.run(send(SmtpMailer(config, policy=policy), items, seconds=seconds))
