"""The ASGI application: middleware around the routes it is given, so that a service can also run as an API of its own.

From outside in: request id, access log, header fields (gateway.middleware) → CORS → limits (gateway.limits) → routes; those under
/v1 go through gateway.pipeline.
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
from postroom.gateway.openapi import openapi_document
from postroom.gateway.routes.system import about_routes
from postroom.gateway.state import GatewayConfig, GatewayState

_PREFLIGHT_S = 600


def create_app(config: GatewayConfig, routers: Iterable[APIRouter]) -> FastAPI:
    """The application with these routes, `/openapi.json` and `/problems/<word>`. It runs no background tasks."""
    app = FastAPI(title="Postroom", version="1", openapi_url=None, redirect_slashes=False)
    app.state.gateway = GatewayState(config)
    for kind in (PostroomError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle_error)
    app.add_exception_handler(405, _method_not_allowed)
    for router in (about_routes(), *routers):
        app.router.routes.extend(router.routes)  # not `include_router`: it would match each route twice per request
    app.state.plain_paths = frozenset(route.path for route in app.routes if isinstance(route, APIRoute) and "{" not in route.path)
    app.openapi = lambda: openapi_document(app, config)  # type: ignore[method-assign]  # as FastAPI's documentation shows
    _add_middleware(app, config)
    return app


def _add_middleware(app: FastAPI, config: GatewayConfig) -> None:
    """Innermost first."""
    app.add_middleware(LimitsMiddleware, limits=config.limits)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-Id"),
            expose_headers=EXPOSED_HEADERS,
            max_age=_PREFLIGHT_S,
        )
    app.add_middleware(RequestMiddleware, clock=config.clock, proxies=TrustedProxies(config.trusted_proxies))


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    """405 with all methods of the path in `Allow`: Starlette's own names only those of the first route."""
    response = problem_response(request, error)
    path = request.scope["path"]
    matching = [route for route in request.app.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    nearest = min(matching, key=lambda route: len(route.param_convertors), default=None)
    methods = {method for route in matching if nearest and route.path == nearest.path for method in route.methods or ()}
    if methods:
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response
