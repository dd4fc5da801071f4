"""How errors leave: as the protocol's JSON from its endpoints, as a page or a redirect where a person sits."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute

from postroom.errors import Conflict, Invalid, NotFound, PostroomError, Temporary, TooLarge, Unauthenticated
from postroom.identity.authorization import Redirected, answer_url
from postroom.identity.html import page
from postroom.identity.refusals import PageRefused, Refused
from postroom.identity.tries import TooManyTries

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_NOT_DESCRIBING = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §5.2
_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class ProtocolRoute(APIRoute):
    """For clients."""

    def get_route_handler(self) -> _Handle:
        return _guarded(super().get_route_handler(), _protocol_answer)


def page_route(url: str) -> type[APIRoute]:
    """For people, at that issuer."""

    class PageRoute(APIRoute):
        """See above."""

        def get_route_handler(self) -> _Handle:
            return _guarded(super().get_route_handler(), partial(_page_answer, url))

    return PageRoute


def _guarded(handle: _Handle, answer: Callable[[PostroomError], Response]) -> _Handle:
    async def guarded(request: Request) -> Response:
        try:
            return await handle(request)
        except PostroomError as error:
            return answer(error)

    return guarded


def _protocol_answer(error: PostroomError) -> Response:
    code, status, headers = "invalid_request", 400, dict(NO_STORE)
    if isinstance(error, Refused):
        code, status = error.code, error.status
        headers |= {"WWW-Authenticate": error.challenge} if error.challenge else {}
    elif isinstance(error, TooLarge):
        status = 413
    elif isinstance(error, Temporary | Conflict):
        code, status = "temporarily_unavailable", 503
        headers["Retry-After"] = "1"
    elif not isinstance(error, Invalid):
        raise error
    text = _NOT_DESCRIBING.sub("'", str(error))
    return JSONResponse({"error": code, "error_description": text}, status, headers=headers)


def _page_answer(url: str, error: PostroomError) -> Response:
    if isinstance(error, Redirected):
        text = _NOT_DESCRIBING.sub("'", str(error))
        answer = {"error": error.code, "error_description": text, "state": error.state, "iss": url}
        return RedirectResponse(answer_url(error.uri, answer), 303, headers=NO_STORE)
    status = refusal_status(error)
    response = page(
        "refused", status=status, base=urlsplit(url).path, text=str(error) if status != 503 else "Try again in a moment."
    )
    response.headers.update(retry_after(error))
    return response


def refusal_status(error: PostroomError) -> int:
    """The status of a page that says no."""
    if isinstance(error, PageRefused):
        return error.status
    kinds: tuple[tuple[type[PostroomError], int], ...] = (
        (TooManyTries, 429),
        (Temporary, 503),
        (Unauthenticated, 403),
        (NotFound, 404),
        (TooLarge, 413),
        (Invalid, 400),
        (Conflict, 409),
    )
    found = next((status for kind, status in kinds if isinstance(error, kind)), None)
    if found is None:
        raise error
    return found


def retry_after(error: PostroomError) -> dict[str, str]:
    """When to come again, where that is known."""
    return {"Retry-After": str(error.wait_s)} if isinstance(error, TooManyTries) else {}
