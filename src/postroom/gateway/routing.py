"""What every request under /v1 goes through before and after its handler. The frame's parts do the work.

Use as `APIRouter(route_class=Route)`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from postroom.gateway.frame import Frame
from postroom.gateway.trail import Trail

_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(APIRoute):
    """See the module's text."""

    def get_route_handler(self) -> _Handle:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            frame: Frame = request.app.state.frame
            request.state.trail = Trail()
            authorization = request.headers.get("authorization")
            if authorization is not None:
                request.state.principal = await frame.authenticator.authenticate(authorization)
            return await handle(request)

        return guarded
