"""Maps each method of the API to the function that answers it, from the routes themselves. `infra` builds the REST API from it.

Nothing here runs on AWS: an installation in a temporary directory is opened to list the routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from postroom.entrypoints.application import SERVICES, application
from postroom.gateway.pipeline import Route
from postroom.gateway.routes.system import about_routes
from postroom.settings import Settings
from postroom.wiring import Container, open_app

FUNCTIONS: Final[Mapping[str, str]] = {
    "templates": "template-api",
    "uploads": "upload-api",
    "email": "email-api",
    "status": "status-api",
    "callbacks": "callback-api",
    "access": "access-api",
    "tracking": "tracking",
}
"""The function of each service, without the prefix `postroom-<stage>-`."""
_MAIL: Final = frozenset({"/t/o/{token}", "/t/c/{token}"})


class Served(NamedTuple):
    """A method of a path, and the function that answers it."""

    path: str
    """As OpenAPI and API Gateway write it: `/v1/templates/{template_id}`."""
    method: str
    """Upper case."""
    function: str
    """One of the values of `FUNCTIONS`."""
    is_open: bool
    """True if it has no authorizer."""


@cache
def table() -> tuple[Served, ...]:
    """Return every method of every path, sorted by path."""
    with _installation() as container:
        found = {
            (served.path, served.method): served
            for service, routers in SERVICES.items()
            for router in routers(container)
            for route in router.routes
            for served in _served(route, FUNCTIONS[service])
        }
        about = [served for route in about_routes().routes for served in _served(route, FUNCTIONS["status"])]
    return tuple(sorted([*found.values(), *about]))


def function_of(path: str, method: str) -> str | None:
    """Return the function that answers, by the path's template; None if no function does."""
    return next((one.function for one in table() if (one.path, one.method) == (path, method.upper())), None)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of the operations that exist on AWS."""
    with _installation() as container:
        whole = application(container).openapi()
    served = {(one.path, one.method.lower()) for one in table()}
    paths = {
        path: kept
        for path, methods in whole["paths"].items()
        if (kept := {method: operation for method, operation in methods.items() if (path, method) in served})
    }
    return {**whole, "paths": paths}


def documents() -> dict[str, dict[str, Any]]:
    """Return for each function the OpenAPI document of its operations."""
    whole, own = document(), {name: {} for name in FUNCTIONS.values()}  # type: dict[str, Any], dict[str, dict[str, Any]]
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            own[function_of(path, method) or ""].setdefault(path, {})[method] = operation
    return {name: {**whole, "paths": paths} for name, paths in own.items()}


def _served(route: BaseRoute, function: str) -> Iterator[Served]:
    if not isinstance(route, APIRoute):  # pixels and links: bare ASGI (gateway.routes.tracking)
        path = getattr(route, "path", "")
        methods, is_open = {"GET", "HEAD"} if path in _MAIL else set(), True
    else:
        path, methods = route.path_format, set(route.methods or ())
        is_open = not (isinstance(route, Route) and route.demands is not None)
    yield from (Served(path, method, function, is_open) for method in methods)


@contextmanager
def _installation() -> Iterator[Container]:
    with TemporaryDirectory() as directory, open_app(Settings(data=Path(directory))) as container:
        yield container
