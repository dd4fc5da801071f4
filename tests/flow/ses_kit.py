"""The shortest way to send some deliveries through the SES simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from postroom.clock import SystemClock
from postroom.platform.mail._aws_auth import AwsCredentialChain, AwsCredentials
from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.ses import SesMailer
from postroom.platform.mail.ses_url import SesConfig, parse_ses_url
from tests.fakes.delivery import HASTY, FakeDelivery, send
from tests.fakes.ses_simulator.simulator import SesSimulator


class FakeCredentials:
    """A `CredentialSource` over a function."""

    def __init__(self, load: Callable[[], AwsCredentials]) -> None:
        self.load = load
        self.rejected = 0

    def reject(self) -> None:
        self.rejected += 1


def to(ses: SesSimulator, connections: int = 4, **changes: Any) -> SesConfig:
    return replace(parse_ses_url(ses.provider), connections=connections, **changes)


def mailer_of(config: SesConfig, **options: Any) -> SesMailer:
    """With the keys in its URL."""
    return SesMailer(config, source=AwsCredentialChain(config, {}, SystemClock()), **options)


def deliver(config: SesConfig, items: Sequence[FakeDelivery], *, policy: BreakerPolicy = HASTY, seconds: float = 10.0) -> None:
    """On a loop and a mailer of its own."""
    asyncio.run(send(mailer_of(config, policy=policy), items, seconds=seconds))
