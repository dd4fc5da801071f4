"""Whom the stack's alarms are told, put together: PagerDuty, with a routing key out of Secrets Manager."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec

from postroom.errors import Denied, Unavailable
from postroom.events.alarms import PAGERDUTY
from postroom.platform.aws._clients import AwsAccount, secret_text
from postroom.platform.web.client import WebClient, WebResponse
from postroom.settings import Settings

_TAKEN: Final = 2
_REFUSED: Final = frozenset({400, 401, 403, 404})


@dataclass(frozen=True, slots=True)
class Pager:
    """PagerDuty's Events API v2."""

    routing_key: str = field(repr=False)
    url: str = PAGERDUTY
    networks: tuple[str, ...] = ()

    def tell(self, event: Mapping[str, Any]) -> None:
        """`Unavailable`: again. `Denied`: it takes no such event, whose key is wrong say."""
        answer = asyncio.run(self._post(msgspec.json.encode(event)))
        if answer.status in _REFUSED:
            raise Denied(f"PagerDuty refuses an alarm ({answer.status}): {answer.text[:200]}")
        if answer.status // 100 != _TAKEN:
            raise Unavailable(f"PagerDuty answered {answer.status}")

    async def _post(self, body: bytes) -> WebResponse:
        caller = WebClient(networks=self.networks, connections=1)
        try:
            return await caller.post(self.url, {"Content-Type": "application/json"}, body)
        finally:
            await caller.close()


def pager(settings: Settings) -> Pager | None:
    """None: no routing key is set."""
    return None if settings.aws_pagerduty is None else _pager(settings.aws_pagerduty)


@cache
def _pager(name: str) -> Pager:
    return Pager(secret_text(AwsAccount(), name))
