"""Which function of the stack answers which call: from the routes themselves, for whoever builds the REST API (infra).

Nothing of it runs on AWS. An installation that nobody else sees is opened for it, as for the reference of the API.
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
"""By service, what comes after `postroom-<stage>-` in a function's name."""
_MAIL: Final = frozenset({"/t/o/{token}", "/t/c/{token}"})


class Served(NamedTuple):
    """A method of a path, and who answers it."""

    path: str
    """As OpenAPI and API Gateway write it: `/v1/templates/{template_id}`."""
    method: str
    """Upper case."""
    function: str
    """One of `FUNCTIONS`' values."""
    is_open: bool
    """To everybody: no authorizer stands before it."""


@cache
def table() -> tuple[Served, ...]:
    """Every method of every path, by path."""
    with _installation() as postroom:
        found = {
            (served.path, served.method): served
            for service, routers in SERVICES.items()
            for router in routers(postroom)
            for route in router.routes
            for served in _served(route, FUNCTIONS[service])
        }
        about = [served for route in about_routes().routes for served in _served(route, FUNCTIONS["status"])]
    return tuple(sorted([*found.values(), *about]))


def function_of(path: str, method: str) -> str | None:
    """Who answers, by the path's template; None: nobody does."""
    return next((one.function for one in table() if (one.path, one.method) == (path, method.upper())), None)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of the API as it is on AWS: of those operations alone that a function answers."""
    with _installation() as postroom:
        whole = application(postroom).openapi()
    served = {(one.path, one.method.lower()) for one in table()}
    paths = {
        path: kept
        for path, methods in whole["paths"].items()
        if (kept := {method: told for method, told in methods.items() if (path, method) in served})
    }
    return {**whole, "paths": paths}


def documents() -> dict[str, dict[str, Any]]:
    """By function: the document with its own operations alone."""
    whole, own = document(), {name: {} for name in FUNCTIONS.values()}  # type: dict[str, Any], dict[str, dict[str, Any]]
    for path, methods in whole["paths"].items():
        for method, told in methods.items():
            own[function_of(path, method) or ""].setdefault(path, {})[method] = told
    return {name: {**whole, "paths": paths} for name, paths in own.items()}


def _served(route: BaseRoute, function: str) -> Iterator[Served]:
    if not isinstance(route, APIRoute):  # the pixel and the links: bare ASGI (gateway.routes.tracking)
        path = getattr(route, "path", "")
        methods, is_open = {"GET", "HEAD"} if path in _MAIL else set(), True
    else:
        path, methods = route.path_format, set(route.methods or ())
        is_open = not (isinstance(route, Route) and route.demands is not None)
    yield from (Served(path, method, function, is_open) for method in methods)


@contextmanager
def _installation() -> Iterator[Container]:
    with TemporaryDirectory() as directory, open_app(Settings(data=Path(directory))) as postroom:
        yield postroom
