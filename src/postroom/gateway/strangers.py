"""Those who come by an address out of a mail: nobody knows more of them than their token says, and they are people, not programs.

So a refusal is a page. A token that is none of ours is counted by address, like any call without credentials; so is one for which
something has to be learned first. A good one is not: behind one address of an image proxy, or of a mail provider that passes on
unsubscribes, are millions of people. What a good one changes is counted by the token.
"""

from __future__ import annotations

import logging

from fastapi import Request, Response
from starlette.types import Scope

from postroom.errors import Invalid, NotFound, PostroomError, Temporary
from postroom.gateway.frame import Door
from postroom.gateway.leaflets import GONE, LATER, shown
from postroom.gateway.refusals import TooMany

_AGAIN_S = 2
_log = logging.getLogger(__name__)


def charge(scope: Scope) -> None:
    """Count one call of this address. `TooMany`."""
    door: Door = scope["app"].state.door
    client = scope.get("client")
    door.rates.charge_address(client[0] if client else "unknown")


def charge_link(scope: Scope, token: str) -> None:
    """Count one change by a token. `TooMany`."""
    door: Door = scope["app"].state.door
    door.rates.charge_link(token)


def refusal(error: PostroomError, request: Request) -> Response:
    """The page for what went wrong. Raises what is a mistake of ours."""
    accepted = request.headers.get("accept-language", "")
    if isinstance(error, Invalid | NotFound):
        try:
            charge(request.scope)
        except TooMany as too_many:
            error = too_many
        else:
            return shown(GONE, accepted, status=404)
    if isinstance(error, TooMany):
        return shown(LATER, accepted, status=429, headers={"Retry-After": str(error.retry_after_s)})
    if not isinstance(error, Temporary):
        raise error
    _log.warning("somebody from a mail was asked to try again: %s", error)
    return shown(LATER, accepted, status=503, headers={"Retry-After": str(_AGAIN_S)})
