"""The API: each service's routes in a function of its own, the same application as on one machine (entrypoints.services).

A new sandbox opens its service while Lambda starts it: then a function of any size has a whole processor, later only its share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from postroom.entrypoints.lambdas.observing import observed
from postroom.entrypoints.lambdas.opened import postroom
from postroom.entrypoints.lambdas.sandbox import handler_name

Answer = dict[str, Any]


@observed("template-api")
def templates(event: Any, context: Any) -> Answer:
    """Templates and their versions."""
    return door("templates")(event, context)


@observed("upload-api")
def uploads(event: Any, context: Any) -> Answer:
    """Uploads: announced here, brought to S3."""
    return door("uploads")(event, context)


@observed("email-api")
def email(event: Any, context: Any) -> Answer:
    """Campaigns, single messages; as whom, through what, to whom not."""
    return door("email")(event, context)


@observed("status-api")
def status(event: Any, context: Any) -> Answer:
    """What became of it; exports; the audit trail; health; the API about itself."""
    return door("status")(event, context)


@observed("callback-api")
def callbacks(event: Any, context: Any) -> Answer:
    """Whom tenants want told."""
    return door("callbacks")(event, context)


@observed("access-api")
def access(event: Any, context: Any) -> Answer:
    """Tenants, people, keys."""
    return door("access")(event, context)


@cache
def door(service: str) -> Callable[[Any, Any], Answer]:
    """Of `entrypoints.services.SERVICES`; once a sandbox."""
    from postroom.entrypoints.application import service_application
    from postroom.entrypoints.lambdas.rest import rest_handler

    opened = postroom()
    return rest_handler(service_application(opened, service), base_path=urlsplit(opened.settings.api_base_url).path)


def open_early(module: str, services: dict[str, str]) -> None:
    """Open the door of the function that Lambda starts in this process (`_HANDLER` names it), if it is one of these."""
    where, _, function = handler_name().rpartition(".")
    if where == module and function in services:
        door(services[function])


open_early(__name__, {name: name for name in ("templates", "uploads", "email", "status", "callbacks", "access")})
