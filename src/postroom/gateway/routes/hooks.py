"""What other services post: `/hooks/ses`, where SNS brings the notices of Amazon SES. The signature is the credential.

No part of the API of `/v1`. Calls count against their address until they have proven genuine. SNS takes 429 for "delivered", and
others may make it call us from the addresses that our own notices come from: so where an address has called too often the answer
is 503, after which SNS comes again.
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
"""SNS carries 256 KB."""
AT_ONCE = 16
"""Threads of this process, apart from the shared ones: a slow fetch of SNS's certificate blocks no other request."""


class _SnsRoute(Route):
    """Asks those to come again who have come too often."""

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
    """`take_ses`: durable when it returns; `Invalid`, `Denied`, `Unavailable`."""
    router = APIRouter(prefix="/hooks", include_in_schema=False, route_class=_SnsRoute)
    threads = anyio.CapacityLimiter(AT_ONCE)

    @router.post("/ses")
    @accepts(MAX_BODY)
    async def ses(request: Request) -> Response:
        """Take a message of SNS."""
        body = await request.body()
        try:
            await anyio.to_thread.run_sync(take_ses, body, limiter=threads)
        except SnsUnavailable as error:
            raise Overloaded(f"{error}; nothing was done") from error
        if request.client is not None:
            request.app.state.gateway.rates.give_back(request.client.host)
        return Response()

    return router
