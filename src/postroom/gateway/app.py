"""The ASGI application: the frame around whichever routes it is given, so that a service can stand behind a door of its own.

From outside in: request id, log and header fields (gateway.requests) → CORS → limits (gateway.limits) → routes, those under /v1
through gateway.passage.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from postroom.errors import PostroomError
from postroom.gateway.errors import handle_error, problem_response
from postroom.gateway.limits import LimitsMiddleware
from postroom.gateway.middleware import EXPOSED_HEADERS, RequestMiddleware, TrustedProxies
from postroom.gateway.openapi import described
from postroom.gateway.routes.system import about_routes
from postroom.gateway.state import GatewayConfig, GatewayState

_PREFLIGHT_S = 600


def create_app(frame: GatewayConfig, routers: Iterable[APIRouter]) -> FastAPI:
    """Without state of its own but caches, and without tasks in the background."""
    app = FastAPI(title="Postroom", version="1", openapi_url=None, redirect_slashes=False)
    app.state.frame = frame
    app.state.door = GatewayState(frame)
    for kind in (PostroomError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle_error)
    app.add_exception_handler(405, _not_this_method)
    for router in (about_routes(), *routers):
        app.router.routes.extend(router.routes)  # as they are: `include_router` would match each of them twice a request
    app.state.plain_paths = frozenset(route.path for route in app.routes if isinstance(route, APIRoute) and "{" not in route.path)
    app.openapi = lambda: described(app, frame)  # type: ignore[method-assign]  # as FastAPI's documentation has it
    _wrap(app, frame)
    return app


def _wrap(app: FastAPI, frame: GatewayConfig) -> None:
    """The innermost first."""
    app.add_middleware(LimitsMiddleware, limits=frame.limits)
    if frame.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=frame.cors_origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-Id"),
            expose_headers=EXPOSED_HEADERS,
            max_age=_PREFLIGHT_S,
        )
    app.add_middleware(RequestMiddleware, clock=frame.clock, proxies=TrustedProxies(frame.trusted_proxies))


async def _not_this_method(request: Request, error: Exception) -> Response:
    """With all methods of the path: each of its routes alone knows only its own."""
    response = problem_response(request, error)
    path = request.scope["path"]
    matching = [route for route in request.app.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    nearest = min(matching, key=lambda route: len(route.param_convertors), default=None)
    methods = {method for route in matching if nearest and route.path == nearest.path for method in route.methods or ()}
    if methods:
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response
