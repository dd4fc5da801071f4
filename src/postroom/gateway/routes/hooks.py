"""Webhooks of other services: `/hooks/ses`, where SNS delivers events of Amazon SES. The signature is the credential.

Not part of `/v1`. Calls count against their address until the signature is verified. SNS treats 429 as permanent, and others may
make it call us from the same addresses, so the answer after too many calls is 503, which SNS retries
(https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response

from postroom.events.ses.sns_client import SnsUnavailable
from postroom.gateway.bodies import accepts
from postroom.gateway.errors import Overloaded, problem_response
from postroom.gateway.pipeline import Route

MAX_BODY = 300_000
"""SNS messages have at most 256 KB."""
AT_ONCE = 16
"""Own threads: a slow fetch of SNS's certificate blocks no other request."""


class _SnsRoute(Route):
    """Answers 503 instead of 429."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def patient(request: Request) -> Response:
            response = await handle(request)
            if response.status_code != 429:
                return response
            return problem_response(
                request, Overloaded("too many calls from this address that were not genuine; nothing was done")
            )

        return patient


def hooks_routes(take_ses: Callable[[bytes], None]) -> APIRouter:
    """`take_ses` is durable on return; it raises `Invalid`, `Denied`, `Unavailable`."""
    router = APIRouter(prefix="/hooks", include_in_schema=False, route_class=_SnsRoute)
    threads = anyio.CapacityLimiter(AT_ONCE)

    @router.post("/ses")
    @accepts(MAX_BODY)
    async def ses(request: Request) -> Response:
        """Receive a message from SNS."""
        body = await request.body()
        try:
            await anyio.to_thread.run_sync(take_ses, body, limiter=threads)
        except SnsUnavailable as error:
            raise Overloaded(f"{error}; nothing was done") from error
        if request.client is not None:
            request.app.state.gateway.rates.give_back(request.client.host)
        return Response()

    return router
